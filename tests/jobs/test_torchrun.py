"""Who speaks of processes that torchrun has started."""

import pytest
from torch import distributed as dist

from advseg.jobs import torchrun


class Gone(dist.HashStore):
    """A store that went with torchrun."""

    def add(self, *_: object) -> int:
        raise dist.DistStoreError("Connection reset by peer")


def test_of_those_that_fail_the_first_speaks() -> None:
    store = dist.HashStore()
    assert [torchrun._is_first(store, or_leads_here=False) for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize("leads", [True, False])
def test_where_torchrun_is_gone_one_speaks_on_each_machine(leads: bool) -> None:
    assert torchrun._is_first(Gone(), or_leads_here=leads) is leads
