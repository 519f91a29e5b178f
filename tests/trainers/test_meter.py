import math

import pytest
import torch

from advseg.trainers.distributed import World
from advseg.trainers.errors import NonFiniteLossError
from advseg.trainers.meter import Meter


@pytest.fixture
def meter() -> Meter:
    return Meter(World())


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_a_loss_is_averaged_over_the_steps_since_it_was_last_taken(meter):
    for step, value in enumerate([1.0, 2.0, 6.0]):
        meter.add_watched("loss/ce", scalar(value), step)
    first = meter.take()
    meter.add_watched("loss/ce", scalar(7.0), 3)

    assert first == {"loss/ce": 3.0}
    assert meter.take() == {"loss/ce": 7.0}


def test_nothing_counted_gives_nothing(meter):
    assert meter.take() == {}


def test_a_ratio_is_that_of_the_sums_not_the_mean_of_ratios(meter):
    meter.add_watched("loss/ce", scalar(0.0), 0)
    meter.add("share", torch.tensor(1), torch.tensor(1))
    meter.add("share", torch.tensor(0), torch.tensor(3))

    assert meter.take()["share"] == 0.25


def test_a_ratio_of_nothing_is_left_out(meter):
    meter.add_watched("loss/ce", scalar(0.0), 0)
    meter.add("share", torch.tensor(0), torch.tensor(0))

    assert meter.take() == {"loss/ce": 0.0}


def test_a_ratio_is_as_precise_as_its_sums(meter):
    meter.add_watched("loss/ce", scalar(0.0), 0)
    meter.add("third", scalar(1.0), 1 / 3)

    assert meter.take()["third"] == pytest.approx(3, rel=1e-15)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_step_that_broke_is_raised_with_its_term(meter, value):
    for step in range(10, 20):
        meter.add_watched("loss/ce", scalar(value if step in (13, 17) else 1.0), step)
        meter.add_watched("loss/d", scalar(value if step == 15 else 1.0), step)

    with pytest.raises(NonFiniteLossError, match="loss/ce became NaN or infinite at step 13"):
        meter.take()


def test_of_terms_that_broke_in_one_step_the_first_one_counted_is_named(meter):
    """The others follow from it."""
    meter.add_watched("loss/ce", scalar(math.nan), 4)
    meter.add_watched("loss/adv", scalar(math.nan), 4)

    with pytest.raises(NonFiniteLossError, match="loss/ce"):
        meter.take()


def test_a_term_that_broke_is_raised_once(meter):
    meter.add_watched("loss/ce", scalar(math.nan), 0)
    with pytest.raises(NonFiniteLossError):
        meter.take()

    meter.add_watched("loss/ce", scalar(1.0), 1)

    assert meter.take() == {"loss/ce": 1.0}


class TestState:
    def test_goes_on_in_another_process_as_if_nothing_had_been(self, meter):
        alone = Meter(World())
        for each in (meter, alone):
            for step, value in enumerate([1.0, 2.0]):
                each.add_watched("loss/ce", scalar(value), step)
                each.add("share", scalar(1.0), 3)
        resumed = Meter(World())
        resumed.load_state_dict(meter.state_dict(), torch.device("cpu"))
        for each in (resumed, alone):
            each.add_watched("loss/ce", scalar(0.1), 2)
            each.add("share", scalar(0.3), 3)

        assert resumed.take() == alone.take()

    def test_is_left_as_it_is_by_asking_for_it(self, meter):
        meter.add_watched("loss/ce", scalar(1.0), 0)
        meter.state_dict()
        meter.add_watched("loss/ce", scalar(3.0), 1)

        assert meter.take() == {"loss/ce": 2.0}

    def test_keeps_a_term_that_broke_and_its_step(self, meter):
        meter.add_watched("loss/ce", scalar(math.nan), 4)
        resumed = Meter(World())
        resumed.load_state_dict(meter.state_dict(), torch.device("cpu"))
        resumed.add_watched("loss/ce", scalar(1.0), 5)

        with pytest.raises(NonFiniteLossError, match="loss/ce became NaN or infinite at step 4"):
            resumed.take()

    def test_is_empty_after_the_sums_were_taken(self, meter):
        meter.add_watched("loss/ce", scalar(1.0), 0)
        meter.take()

        assert meter.state_dict() == {"sums": {}, "first_bad": {}}

    def test_is_the_share_of_the_leading_worker_alone(self, meter):
        meter.add_watched("loss/ce", scalar(6.0), 0)
        state = meter.state_dict()
        shares = []
        for rank in range(3):
            # Their sums are added up by hand here.
            worker = Meter(World(rank=rank, size=3))
            worker.load_state_dict(state, torch.device("cpu"))
            shares.append(worker._sums["loss/ce"])

        assert torch.equal(sum(shares), state["sums"]["loss/ce"])
        assert [bool(share.any()) for share in shares] == [True, False, False]
