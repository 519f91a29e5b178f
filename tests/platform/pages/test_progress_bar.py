"""Works under way, as whoever waits sees them."""

import io
import sys
from collections.abc import Callable

import pytest

from advseg.platform.pages.progress_bar import Lines, progress_shown
from advseg.trainers.progress import progress, underway


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class TestInAPipe:
    def test_lines_come_at_ever_longer_pauses(self) -> None:
        clock, lines = Clock(), []
        watcher = Lines(lines.append, clock)
        for second in range(200):
            clock.now = 100.0 + second
            watcher.see("steps", 50 + 2 * second, 1000, "mIoU 12.3")
        assert [line.split()[1] for line in lines] == ["70/1000", "110/1000", "190/1000", "350/1000"]
        assert lines[0] == "steps 70/1000  2.0/s  0:07:45 left  mIoU 12.3"

    def test_of_slow_items_a_minute_is_told(self) -> None:
        clock, lines = Clock(), []
        watcher = Lines(lines.append, clock)
        watcher.see("images", 0, 4, "")
        clock.now += 12
        watcher.see("images", 0, 4, "")
        clock.now += 28
        watcher.see("images", 1, 4, "")
        assert lines == ["images 0/4", "images 1/4  1.5/min  0:02:00 left"]

    def test_what_is_soon_done_is_not_told_and_another_begins_anew(self) -> None:
        clock, lines = Clock(), []
        watcher = Lines(lines.append, clock)
        for _ in range(9):
            watcher.see("images", 0, 4, "")
            clock.now += 9
            watcher.see("images", 4, 4, "")
            watcher.leave("images")
        assert lines == []

    def test_nothing_is_printed_of_what_is_quick(self, capsys: pytest.CaptureFixture[str]) -> None:
        with progress_shown():
            assert list(progress("ab", 2, "letters")) == ["a", "b"]
        assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestInATerminal:
    @pytest.fixture
    def enter(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
        def enter() -> Terminal:
            terminal = Terminal()
            monkeypatch.setattr(sys, "stderr", terminal)
            monkeypatch.setenv("TERM", "xterm")
            return terminal

        return enter

    def test_a_bar_shows_count_and_note(self, enter: Callable[[], Terminal]) -> None:
        terminal = enter()
        with progress_shown(), underway("steps", 20) as done:
            done(5, "mIoU 12.3")
            print("on its way", file=sys.stderr)
        shown = terminal.getvalue()
        assert "steps" in shown
        assert "5/20" in shown
        assert "mIoU 12.3" in shown
        assert "on its way\n" in shown

    def test_results_in_a_pipe_stay_there(
        self, enter: Callable[[], Terminal], capsys: pytest.CaptureFixture[str]
    ) -> None:
        terminal = enter()
        with progress_shown():
            print("42")
        assert capsys.readouterr().out == "42\n"
        assert "42" not in terminal.getvalue()

    def test_what_is_printed_meanwhile_does_not_steer_the_terminal(self, enter: Callable[[], Terminal]) -> None:
        terminal = enter()
        with progress_shown(), underway("steps", 20) as done:
            done(1)
            print("\x1b[31mred", file=sys.stderr)
        assert "\x1b[31m" not in terminal.getvalue()
        assert sys.stderr is terminal
