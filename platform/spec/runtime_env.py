"""The packages that Ray installs for a job."""

import re
from typing import Self

from pydantic import model_validator

from ...trainers.errors import brief
from ..base.addresses import holds_secret
from .section import Section

_END_OF_NAME = re.compile(r"[^\w.+-]")
"""Where the name of a requirement or an option ends, behind which there may be a secret."""
_USER = re.compile(r"//[^/]*@")


class RuntimeEnv(Section):
    """Packages that Ray installs for the job on every node, beside those that are there. Its own code needs none."""

    uv: tuple[str, ...] = ()
    """Requirements that uv installs, as `albumentations==2.0.8`."""
    pip: tuple[str, ...] = ()
    """The same for pip, instead of uv."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if bool(self.uv) == bool(self.pip):
            raise ValueError("must name requirements in either uv or pip: leave it out to install none")
        for line in (*self.uv, *self.pip):
            named = brief(_END_OF_NAME.split(line.strip(), maxsplit=1)[0])
            if named.startswith("-"):
                raise ValueError(f"must name requirements alone, but one is the option {named}: set it up on the nodes")
            if holds_secret(line) or _USER.search(line):
                raise ValueError(
                    f"{named} holds a user or a secret, which a spec must not: set its index up on the nodes"
                )
        return self

    def for_ray(self) -> dict[str, list[str]]:
        """As Ray takes it."""
        return {"uv": list(self.uv)} if self.uv else {"pip": list(self.pip)}
