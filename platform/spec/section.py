"""What the sections of a job spec have in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a spec: it knows its keys and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
