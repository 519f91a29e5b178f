"""The errors that a user can cause and mend."""

from collections.abc import Sequence


class UserError(Exception):
    """A mistake of the user's: one line that names the value, the rule and the remedy.

    Commands print it and exit with 2.
    """


def listed(problems: Sequence[str], place: str, shown: int | None = None) -> str:
    """Problems as the message of one error: a single one as it is, several below a head, at most `shown` of them."""
    if len(problems) == 1:
        return on_one_line(problems[0])
    lines = [f"{len(problems)} problems in {place}:", *(f"  {on_one_line(problem)}" for problem in problems[:shown])]
    if shown is not None and len(problems) > shown:
        lines.append(f"  and {len(problems) - shown} more")
    return "\n".join(lines)


def on_one_line(text: str) -> str:
    """A text that may name files, with the ends of lines that such a name may hold written out."""
    return text.replace("\n", "\\n")


def brief(text: str, most: int = 100) -> str:
    """A text for a message, without its middle if it has more characters than `most`."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 3
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


class DivergedError(RuntimeError):
    """A run went wrong by its own numbers; the message names the cause and the step."""


class NonFiniteLossError(DivergedError):
    """A loss became NaN or infinite; the message names the term and the first step."""


class CollapseError(DivergedError):
    """A symptom, such as a constant prediction, lasted for as many reports as the settings allow."""


class CheckpointError(UserError):
    """A checkpoint is damaged, missing or of another shape than the run that wants to resume from it."""


class ForeignCheckpointError(CheckpointError):
    """A checkpoint is another run's, by its settings or data, or another version's."""


class FencedError(RuntimeError):
    """Another process owns what this one was about to write; nothing was written."""


class PreemptedError(RuntimeError):
    """A training, or other work, was asked to stop and has saved what it did; it may go on elsewhere."""


class BrokenEnvironmentError(RuntimeError):
    """What a training needs of its machine or of a server is broken, which says nothing of the training.

    The message names the machine and the cause. The training may go on once that is mended.
    """


class LostProcessError(RuntimeError):
    """A process of a training was killed or found no room; the training may go on from its newest checkpoint."""


class NotReproducedError(RuntimeError):
    """What was computed again came out otherwise, or would be computed by other code; the message says why."""


class IncompleteError(RuntimeError):
    """Some of what was asked for could not be done, and all else was; the message names what is missing."""


class FruitlessError(RuntimeError):
    """A job has come to its end without anything that it was to find; the message says why."""
