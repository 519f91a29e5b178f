"""What a finished training came to, in a small file beside its checkpoints."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from .whole_file import write_whole

log = logging.getLogger(__name__)

OUTCOME = "outcome.json"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Where a run stands."""

    step: int
    metrics: dict[str, float]
    best_miou: float
    """In percent, of all evaluations."""
    best_step: int = 0
    """Where that was reached first; 0 if it is not known, as of a training of before."""
    dataset_digest: str


def write_outcome(directory: Path, outcome: Outcome) -> None:
    """Put an outcome in the place of the one in a run's directory, at once and to last."""
    write_whole(directory / OUTCOME, json.dumps(asdict(outcome), indent=1), durable=True)


def read_outcome(directory: Path) -> Outcome | None:
    """What the training in a directory came to, None if it has not finished.

    A damaged file counts as none, with a warning: the training writes it anew when it is resumed.
    """
    path = directory / OUTCOME
    try:
        return Outcome(**json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s is damaged (%s): it counts as absent until the training is resumed", path, error)
        return None


def drop_outcome(directory: Path) -> None:
    """Take an outcome away, if there is one: the training is not finished any more."""
    (directory / OUTCOME).unlink(missing_ok=True)
