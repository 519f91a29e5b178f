"""Works under way, and who is told of them."""

from advseg.trainers.progress import progress, ticks, underway, watched


class Recording:
    def __init__(self) -> None:
        self.seen: list[object] = []

    def see(self, what: str, done: int, total: int, note: str) -> None:
        self.seen.append((what, done, total, note))

    def leave(self, what: str) -> None:
        self.seen.append(f"left {what}")


def test_items_are_counted_once_they_are_done():
    watcher, before = Recording(), ticks()
    with watched(watcher):
        for item in progress("ab", 2, "letters"):
            watcher.seen.append(item)
    assert watcher.seen == [
        ("letters", 0, 2, ""),
        "a",
        ("letters", 1, 2, ""),
        "b",
        ("letters", 2, 2, ""),
        "left letters",
    ]
    assert ticks() == before + 2


def test_a_work_that_breaks_off_is_left():
    watcher = Recording()
    with watched(watcher):
        items = progress("ab", 2, "letters")
        next(items)
        items.close()
    assert watcher.seen[-1] == "left letters"


def test_nobody_needs_to_look():
    watcher = Recording()
    with watched(watcher):
        pass
    assert list(progress("ab", 2, "letters")) == ["a", "b"]
    with underway("letters", 2) as done:
        done(1, "halfway")
    assert watcher.seen == []
