import pytest

from advseg.platform.tracking.ending import Ending, State, ended_by, ending_of
from advseg.trainers.errors import DivergedError, FencedError


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (DivergedError("loss/ce\n at step 5"), Ending(State.FAIL, "loss/ce at step 5")),
        (KeyboardInterrupt(), Ending(State.STOPPED, "stopped from outside")),
        (SystemExit(1), Ending(State.STOPPED, "stopped from outside")),
    ],
)
def test_what_breaks_a_block_off_ends_it_once_and_goes_on(error: BaseException, ending: Ending) -> None:
    ends: list[Ending] = []
    with pytest.raises(type(error)), ended_by(ends.append):
        raise error
    assert ends == [ending] == [ending_of(error)]


def test_a_block_that_comes_to_its_end_is_complete() -> None:
    ends: list[Ending] = []
    with ended_by(ends.append):
        assert not ends
    assert ends == [Ending(State.COMPLETE)]


def test_what_another_process_has_taken_over_is_not_ended() -> None:
    ends: list[Ending] = []
    with pytest.raises(FencedError), ended_by(ends.append):
        raise FencedError("it is another's")
    assert not ends
