"""What a test has the trainings of its cluster do: see orders/sitecustomize.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Orders:
    """Holds trainings, and breaks them, by their keys."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def held(self, *keys: str, step: int) -> Iterator[None]:
        """Meanwhile these trainings, also when they are resumed, make no step beyond that one."""
        for key in keys:
            self.hold(key, step)
        try:
            yield
        finally:
            for key in keys:
                self.release(key)

    def hold(self, key: str, step: int) -> None:
        """From now on a training makes no step beyond that one, whatever it was told before."""
        self._give(key, "hold", step)

    def release(self, key: str) -> None:
        """A training goes on."""
        (self._folder / key / "hold").unlink(missing_ok=True)

    def breaks(self, key: str, step: int) -> Path:
        """Have a training fail once, after a step; the file is gone as soon as it does."""
        return self._give(key, "break", step)

    def _give(self, key: str, what: str, step: int) -> Path:
        order = self._folder / key / what
        order.parent.mkdir(parents=True, exist_ok=True)
        # Whoever finds it finds it whole.
        (partial := order.with_suffix(".partial")).write_text(str(step))
        return partial.rename(order)
