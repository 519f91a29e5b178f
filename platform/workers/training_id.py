"""A training without a sweep has an id of its own, beside its checkpoints: two people may choose one name."""

import uuid
from pathlib import Path

from ...trainers.whole_file import write_whole

FILE = "training_id"


def read_training_id(directory: Path) -> str:
    """The id of the training that a directory belongs to; empty if it has none."""
    try:
        return (directory / FILE).read_text().strip()
    except FileNotFoundError:
        return ""


def ensure_training_id(directory: Path) -> str:
    """The id of the training that a directory belongs to, 32 hexadecimal digits, made if there is none."""
    if not read_training_id(directory):
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / FILE, uuid.uuid4().hex)
    return read_training_id(directory)
