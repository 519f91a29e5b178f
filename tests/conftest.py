import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """On so small tensors more threads only wait for each other; and sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
