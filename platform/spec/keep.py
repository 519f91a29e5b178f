"""What a job spec says of the checkpoints that stay."""

from typing import Annotated

from pydantic import Field

from .section import Section


class Keep(Section):
    """Which checkpoints stay. Models, reports and pictures do in any case, and what a registered version came from."""

    newest: Annotated[int, Field(ge=1)] = 2
    """Newest checkpoints of each training, which has that of its best step beside them. If one is damaged the training
    goes on from the one before it."""
    best: Annotated[int, Field(ge=0)] | None = None
    """Best complete trials of a sweep that keep theirs once it has ended, but as many as `sweep.confirm.candidates` at
    least; by default all. Those of pruned trials go then, and with `advseg clean` those of failed ones."""
