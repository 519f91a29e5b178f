"""What a job spec says of confirming a sweep's best trials."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .section import Section


class Confirm(Section):
    """The best trials are trained on fresh seeds, beside the champion and the baseline: one may become the champion."""

    candidates: Annotated[int, Field(ge=1, le=20)] = 3
    """Best complete trials that are trained again, of each arm."""
    seeds: Annotated[int, Field(ge=2, le=16)] = 6
    """Fresh seeds, `trainer.seed` + 1 and on, on each of which candidates and rivals are trained once."""
    alpha: Annotated[float, Field(ge=1e-4, lt=0.5)] = 0.05
    """How probable it may be that any candidate is promoted though none is better."""
    margin: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Percentage points of mean IoU by which a candidate has to be better."""
    against: Literal["champion", "baseline"] = "champion"
    """Whom a candidate has to beat: the champion, if there is one, and the supervised baseline; or the latter alone,
    which lets nobody take the place of a champion."""
    test: Literal["sign_flip", "t"] = "sign_flip"
    """The exact test of pairs, or Student's, which assumes that differences are normal and needs fewer seeds."""

    @property
    def level(self) -> float:
        """The share of intervals that hold the true lead; of those that end where the tests decide."""
        return 1 - 2 * self.alpha

    @model_validator(mode="after")
    def _can_pass(self) -> Self:
        if reason := cannot_pass(self, self.candidates):
            raise ValueError(reason)
        return self


def cannot_pass(confirm: Confirm, candidates: int) -> str:
    """Why none of so many candidates could pass, and what to do; empty if one may."""
    least, share = 0.5**confirm.seeds, confirm.alpha / candidates
    if confirm.test != "sign_flip" or least <= share:
        return ""
    enough = next((seeds for seeds in range(2, 17) if 0.5**seeds <= share), None)
    more = f"set seeds to {enough}, or fewer candidates" if enough else "set fewer candidates, or a greater alpha"
    who = "1 candidate needs" if candidates == 1 else f"{candidates} candidates need"
    return (
        f"nothing can pass: the exact test of {confirm.seeds} seeds gives p = {least:.3g} at best, but "
        f"{who} {share:.3g}: {more}, or test: t"
    )
