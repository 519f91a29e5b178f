"""When a training hangs, takes too long, or never begins."""

import pytest

from advseg.platform.spec.sweep import Retry
from advseg.platform.workers.heartbeat import Beat
from advseg.platform.workers.retry import Failure, Kind
from advseg.platform.workers.watch import Watch

RETRY = Retry(hang_timeout=30, trial_timeout=500, start_timeout=1000)


def beat(progress: int, seconds: float = 0.0) -> Beat:
    return Beat(epoch=1, attempt=1, step=4, progress=progress, seconds=seconds, pid=1, node="")


def verdict(*looks: tuple[float, Beat | None], before: float = 0.0) -> Kind | None:
    """After looks at some seconds, from the beginning on."""
    watch = Watch(began=0.0)
    for now, seen in looks:
        watch = watch.seen(seen, now)
    failure = watch.verdict(RETRY, looks[-1][0], before)
    return failure and failure.kind


@pytest.mark.parametrize(
    ("looks", "kind"),
    [
        ([(999, None)], None),
        ([(1001, None)], Kind.ENVIRONMENT),
        ([(900, beat(0)), (930, beat(0))], None),
        ([(900, beat(0)), (931, beat(0))], Kind.HUNG),
        # It evaluates, or opens its data.
        ([(0, beat(0)), (29, beat(1)), (58, beat(2)), (87, beat(3))], None),
        # A process that is stopped leaves its heartbeat as it is, and one that is stuck only its counter.
        ([(0, beat(7, 1.0)), (20, beat(7, 21.0)), (31, beat(7, 32.0))], Kind.HUNG),
        ([(0, beat(7)), (10, None), (31, None)], Kind.HUNG),
        ([(0, beat(7, 500.0))], None),
        ([(0, beat(7, 501.0))], Kind.TIMEOUT),
    ],
)
def test_a_training_must_move_once_it_has_begun_and_come_to_an_end(
    looks: list[tuple[float, Beat | None]], kind: Kind | None
) -> None:
    assert verdict(*looks) is kind


def test_what_it_took_before_counts() -> None:
    assert verdict((0, beat(7, 100.0)), before=401.0) is Kind.TIMEOUT


def test_a_verdict_names_the_step() -> None:
    watch = Watch(began=0.0).seen(beat(7), 0.0)
    assert watch.verdict(RETRY, 31.0) == Failure(kind=Kind.HUNG, text="no progress in 30 s after step 4")
