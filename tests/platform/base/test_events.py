import io
from contextlib import redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advseg.platform.base.events import Event, Stage, TrialUpdate, Verdict, emit, parse
from advseg.platform.pages.follow import Progress

text = st.text(st.characters(codec="utf-8"))
numbers = st.floats(allow_nan=False, allow_infinity=False)
stages = st.builds(Stage, text=text, at=numbers)
updates = st.builds(
    TrialUpdate,
    key=st.sampled_from(["probe/0", "probe/1", "probe/baseline"]),
    state=st.sampled_from(["RUNNING", "COMPLETE", "PRUNED", "FAIL"]),
    params=st.dictionaries(text, numbers, max_size=3),
    step=st.integers(0, 9),
    steps=st.integers(1, 9),
    miou=st.none() | numbers,
    reason=text,
    at=numbers,
)
verdicts = st.builds(
    Verdict,
    best=st.none() | text,
    best_miou=st.none() | numbers,
    baseline_miou=st.none() | numbers,
    registered=st.none() | text,
    url=text,
)
events = stages | updates | verdicts


def emitted(*told: Event | str) -> str:
    """A job's log: events among other lines."""
    out = io.StringIO()
    with redirect_stdout(out):
        for event in told:
            if isinstance(event, str):
                print(event)
            else:
                emit(event)
    return out.getvalue()


@given(events)
def test_an_event_is_one_line_that_parses_to_itself(event: Event) -> None:
    log = emitted(event)
    assert log.count("\n") == 1
    assert log.isascii()
    assert parse(log.removesuffix("\n")) == event


@given(text)
def test_any_other_line_is_none(line: str) -> None:
    assert parse(line) is None


@pytest.mark.parametrize(
    "garbage",
    [
        *("", "{", "3", '"a text"', "null", "[]", "{}", "[" * 100_000),
        *('{"kind": 3}', '{"kind": []}', '{"kind": "stage"}', '{"kind": "trial", "key": "a"}'),
        '{"kind": "stage", "text": "a", "more": 1}',
    ],
    ids=lambda garbage: garbage[:20],
)
def test_garbage_after_the_mark_is_none(garbage: str) -> None:
    assert parse("@advseg " + garbage) is None


class TestProgress:
    @given(st.lists(events | st.sampled_from(["other", "", "@advseg {"]), max_size=12), st.data())
    def test_does_not_depend_on_where_the_log_is_cut(self, told: list[Event | str], data: st.DataObject) -> None:
        log = emitted(*told)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=8)))
        whole, cut = Progress(), Progress()
        expected = list(whole.hear(log))
        heard = [
            event
            for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True)
            for event in cut.hear(log[start:end])
        ]
        assert heard == expected
        assert vars(cut) == vars(whole)

    @given(st.lists(events | st.just("other"), max_size=12))
    def test_hearing_all_again_is_no_news(self, told: list[Event | str]) -> None:
        progress, log = Progress(), emitted(*told)
        list(progress.hear(log))
        updates = dict(progress.updates)
        assert list(progress.hear(log)) == []
        assert progress.updates == updates

    def test_an_end_is_news_at_the_step_of_the_last_report(self) -> None:
        running, ended = (TrialUpdate(key="a/0", state=state, step=4, steps=8) for state in ("RUNNING", "PRUNED"))
        progress = Progress()
        assert list(progress.hear(emitted(running, ended, running))) == [running, ended]
        assert progress.updates == {"a/0": ended}
