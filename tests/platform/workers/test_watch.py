"""When a training hangs, takes too long, or never begins."""

import pytest

from advseg.platform.spec.retry import Retry
from advseg.platform.workers.heartbeat import Beat
from advseg.platform.workers.retry import Failure, Kind
from advseg.platform.workers.watch import Watch

RETRY = Retry(hang_timeout=30, trial_timeout=500, start_timeout=1000)


def beat(progress: int, seconds: float = 0.0) -> Beat:
    return Beat(epoch=1, attempt=1, step=4, progress=progress, seconds=seconds, pid=1, node="")


def verdict(*changes: tuple[float, Beat | None], before: float = 0.0) -> Kind | None:
    """After looks at every second up to the last change, from the beginning on."""
    watch, end = Watch(began=0.0), changes[-1][0]
    for now in range(int(end) + 1):
        watch = watch.seen(next((seen for since, seen in reversed(changes) if since <= now), None), float(now))
    failure = watch.verdict(RETRY, end, before)
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


def test_who_looks_seldom_is_not_held_up_by_that() -> None:
    """A heartbeat in S3 is looked at every ten seconds."""
    watch = Watch(began=0.0, every_s=10.0)
    for now in (0.0, 10.5, 21.0, 31.5):
        assert watch.is_due(now)
        watch = watch.seen(beat(7), now)
        assert not watch.is_due(now + 9.0)
    failure = watch.verdict(RETRY, 31.5)
    assert failure and failure.kind is Kind.HUNG


def test_a_verdict_names_the_step() -> None:
    watch = Watch(began=0.0).seen(beat(7), 0.0)
    assert watch.verdict(RETRY, 31.0) == Failure(kind=Kind.HUNG, text="no progress in 30 s after step 4")


def test_while_nobody_looks_nothing_hangs() -> None:
    """The observer was held up, by a ledger that is away, and with it whoever waits for it."""
    watch = Watch(began=0.0).seen(beat(7), 1.0).seen(beat(7), 2.0).seen(beat(7), 42.0)
    assert watch.verdict(RETRY, 42.0) is None
    for now in range(43, 72):
        watch = watch.seen(beat(7), float(now))
    assert watch.verdict(RETRY, 71.0) is None
    failure = watch.seen(beat(7), 72.0).verdict(RETRY, 72.0)
    assert failure and failure.kind is Kind.HUNG
