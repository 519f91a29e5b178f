"""Names that are identities: a trial's key, and the places that follow from it."""

from pathlib import Path

BASELINE = "baseline"


def key_of(sweep: str, trial: int | str) -> str:
    """The key of a trial, `<sweep>/<number>`, or of the supervised baseline, `<sweep>/baseline`."""
    return f"{sweep}/{trial}"


def number_of(key: str) -> int:
    """The number of a trial's key."""
    return int(key.rpartition("/")[2])


def directory_of(storage: Path, key: str) -> Path:
    """Where a training with a key keeps its checkpoints, log and pictures."""
    return storage / key


def scratch_of(storage: Path, name: str) -> Path:
    """Where Ray may keep what nobody reads again while the job of a name runs."""
    return storage / ".scratch" / name
