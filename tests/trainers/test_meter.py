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
