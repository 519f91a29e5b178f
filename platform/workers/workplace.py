"""Where an attempt at a training works on its machine, and how what is to last gets from there to the store."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...models.manifest import BrokenDirectoryError
from ...models.partial import partial_of
from ...trainers.checkpoint import CHECKPOINTS, step_of
from ...trainers.keeper import InPlace, Keeper
from ...trainers.kept import Kept
from ...trainers.outcome import OUTCOME
from ..base.keys import MODEL
from ..storage.store import MissingKeyError, Store
from .checkpoints import sealed_checkpoints
from .heartbeat import FILE as HEARTBEAT
from .lease import FOLDER as LEASES

_APART = (CHECKPOINTS, MODEL, LEASES, HEARTBEAT)
"""What goes to the store by ways of its own."""


class Workplace:
    """A folder of a store that is one: what is written there is kept."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def keeper(self) -> Keeper:
        """Of the training's checkpoints."""
        return InPlace()

    def keep_files(self) -> None:
        """Keep what has changed since, but for checkpoints and model."""

    def keep_model(self) -> None:
        """Keep the model, which is whole."""


class Apart(Workplace):
    """A folder of this machine alone, with copies of what the store has."""

    def __init__(self, directory: Path, store: Store, check: Callable[[], None]) -> None:
        """The store is the training's own; `check` raises FencedError if it is another's to write by now."""
        super().__init__(directory)
        self._store = store
        self._check = check
        self._kept: dict[str, tuple[int, int]] = {}
        """Size and time of change of each file that is in the store as it is here."""

    @property
    def keeper(self) -> Keeper:
        """This very object."""
        return self

    def bring_files(self) -> None:
        """Copy what the store has, but for checkpoints and model."""
        keys = self._store.keys()
        for key in keys:
            if key.partition("/")[0] in _APART:
                continue
            path = self.directory / key
            path.parent.mkdir(parents=True, exist_ok=True)
            # An older attempt, which has not learnt yet that it is one, may take away what it has.
            with suppress(MissingKeyError):
                path.write_bytes(self._store.read(key))
                self._kept[key] = _version_of(path)

    def keep_files(self) -> None:
        """Keep what has changed since, the outcome at last: it says that all else is there."""
        here = {path.relative_to(self.directory).as_posix(): path for path in self.directory.rglob("*")}
        files = {key: path for key, path in here.items() if path.is_file() and _is_kept(key)}
        changed = {key: version for key, path in files.items() if self._kept.get(key) != (version := _version_of(path))}
        # Each waits for a store that is away, and meanwhile another may have taken the training.
        for key in sorted(changed, key=lambda key: key == OUTCOME):
            self._check()
            self._store.write(key, files[key].read_bytes())
            self._kept[key] = changed[key]
        for key in self._kept.keys() - files.keys():
            self._check()
            self._store.remove(key)
            del self._kept[key]

    def keep_model(self) -> None:
        """Keep the model, which is whole."""
        self._check()
        self._store.put(self.directory / MODEL, MODEL)

    def place(self, root: Path) -> str:
        """Where the checkpoints last, in words."""
        return f"{self._store.address}/{root.name}"

    def names(self) -> list[str]:
        """Of the checkpoints in the store."""
        return [checkpoint.key.rpartition("/")[2] for checkpoint in sealed_checkpoints(self._store)]

    def bring(self, path: Path) -> None:
        """Put the checkpoint of that name there, verified. Raises BrokenDirectoryError."""
        try:
            self._store.get(f"{CHECKPOINTS}/{path.name}", path)
        except MissingKeyError as error:
            raise BrokenDirectoryError(str(error)) from None

    def keep(self, path: Path, kept: Kept) -> None:
        """Keep a checkpoint that was just saved, and of those before it what stays; what was reported comes first."""
        self.keep_files()
        self._check()
        self._store.put(path, f"{CHECKPOINTS}/{path.name}")
        step = step_of(path.name)
        assert step is not None
        keys = {checkpoint.step: checkpoint.key for checkpoint in sealed_checkpoints(self._store)}
        for old in kept.superseded(keys, step):
            self._store.remove(keys[old])


def _is_kept(key: str) -> bool:
    parts = key.split("/")
    return parts[0] not in _APART and not any(part.startswith(".") for part in parts)


def _version_of(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@contextmanager
def workplace(store: Store, check: Callable[[], None], *, files: bool) -> Iterator[Workplace]:
    """Where to work on a training whose own the store is; with the `files` that it has there already."""
    if store.folder is not None:
        yield Workplace(store.folder)
        return
    # What was left by one that was killed on this machine goes: it may be gigabytes.
    with partial_of(Path(tempfile.gettempdir(), "advseg")) as directory:
        directory.chmod(0o700)
        place = Apart(directory, store, check)
        if files:
            place.bring_files()
        yield place
