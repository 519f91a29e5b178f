"""Whether a sweep's best trials are better than what there is: a function of values on fresh seeds alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from math import isfinite
from typing import Self

from pydantic import TypeAdapter

from ..spec.confirm import Confirm
from .paired import TESTS, Estimate, holm, least_p, may_pass, pairs_needed, used

Values = Mapping[int, float | None]
"""Mean IoU in percent after the last step, by seed; None where the training failed. Of a seed that is not there
nothing was trained."""


class Outcome(StrEnum):
    """What the gate says."""

    PROMOTED = "promoted"
    CANDIDATE = "candidate"
    """Ahead of the baseline; the sitting champion could not be compared."""
    KEPT = "kept"
    UNDECIDED = "cannot tell"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A candidate against one rival, on the seeds of which both have a value."""

    rival: str
    differences: dict[int, float]
    """Percentage points of mean IoU by which the candidate is above it, by seed."""
    estimate: Estimate | None
    """None of fewer pairs than the test takes."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What became of a trial that was confirmed."""

    trial: int
    values: dict[int, float | None]
    comparisons: tuple[Comparison, ...]
    p: float
    """The greatest of its comparisons: it has to beat every rival."""
    adjusted: float
    """For the number of candidates, by Holm."""
    given_up: str
    """Why it was out before the test; empty otherwise."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """How a trial was looked at, by a gate and by those before it."""

    times: int
    used: float
    """What their tests could use of alpha. The next has the rest, so that all together pass a trial that is no better
    with a probability of at most alpha."""


@dataclass(frozen=True, kw_only=True)
class Incumbent:
    """The champion that was a rival."""

    model: str
    version: str
    run: str
    """Id of the run that it came of; a version's number may be given again."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The verdict, with all that it rests on."""

    outcome: Outcome
    reason: str
    ahead: int | None
    """The trial that is promoted, or of which it cannot be told; None if the champion is kept."""
    candidates: tuple[Candidate, ...]
    rivals: dict[str, dict[int, float | None]]
    confirm: Confirm
    test: dict[str, float] = field(default_factory=dict)
    """Mean IoU in percent on images that nothing was chosen by: of who passes, by its trial, and of its rivals.
    Empty where nobody does, or there are none."""
    left_out: int | None = None
    """The trial that sat as the champion when this was judged, and was no candidate against itself."""
    looked: dict[int, Looked] = field(default_factory=dict)
    """At trials, by this gate and by all before it."""
    model: str | None = None
    """The registered model whose champion was to be beaten; None if there was to be none."""
    champion: Incumbent | None = None
    """None where none sat there, or it is no rival."""

    @property
    def passes(self) -> bool:
        """Whether a trial is shown to be better than its rivals."""
        return self.outcome in (Outcome.PROMOTED, Outcome.CANDIDATE)

    def is_of(self, confirm: Confirm, candidates: Iterable[int], model: str | None) -> bool:
        """Whether it was asked just this of these trials for a registered model, whoever sits there by now."""
        compared = [trial for trial in candidates if trial != self.left_out]
        asked = (confirm, model, compared)
        return (self.confirm, self.model, [each.trial for each in self.candidates]) == asked

    def beside(self, uncompared: str) -> Self:
        """It, where a champion sits there that is no rival, for that reason: who passes does not take its place."""
        if self.outcome is not Outcome.PROMOTED:
            return self
        return replace(self, outcome=Outcome.CANDIDATE, reason=f"{self.reason}; {uncompared}")

    def to_json(self) -> str:
        """All of it, for anyone to read."""
        return _adapter().dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The verdict that `to_json` wrote. Raises ValueError if it is none."""
        return _adapter().validate_json(text)


@cache
def _adapter() -> TypeAdapter:
    return TypeAdapter(Gate)


def levels(confirm: Confirm, candidates: Iterable[int], looked: Mapping[int, Looked]) -> dict[int, float]:
    """What earlier looks at candidates have left of alpha, by trial; 0 where no p can be so small."""
    left = {trial: confirm.alpha - (looked[trial].used if trial in looked else 0) for trial in candidates}
    least = len(left) * least_p(confirm.seeds) if confirm.test == "sign_flip" else 1e-9
    return {trial: level if trial not in looked or level >= least else 0.0 for trial, level in left.items()}


def judge(
    confirm: Confirm,
    candidates: Mapping[int, Values],
    rivals: Mapping[str, Values],
    looked: Mapping[int, Looked] | None = None,
) -> Gate:
    """The verdict on candidates by their trials' numbers; `rivals` by what they are called, one or more.

    `looked` is what the gate before it has of that name.
    """
    looked = looked or {}
    level = levels(confirm, candidates, looked)
    unadjusted = [_candidate(confirm, trial, values, rivals, level[trial]) for trial, values in candidates.items()]
    adjusted = holm([each.p for each in unadjusted])
    judged = tuple(replace(each, adjusted=p) for each, p in zip(unadjusted, adjusted, strict=True))
    passed = [each for each in judged if each.adjusted <= level[each.trial]]
    winner = max(passed, key=_mean, default=None)
    looked = {**looked, **{trial: _looked(confirm, looked.get(trial), of) for trial, of in level.items() if of}}
    outcome, reason = _verdict(confirm, judged, winner, rivals, level, looked)
    return Gate(
        outcome=outcome,
        reason=reason,
        ahead=None if outcome is Outcome.KEPT else (winner or _nearest(judged)).trial,
        candidates=judged,
        rivals={name: dict(values) for name, values in rivals.items()},
        confirm=confirm,
        looked=looked,
    )


def _looked(confirm: Confirm, before: Looked | None, level: float) -> Looked:
    share = used(confirm.seeds, alpha=level) if confirm.test == "sign_flip" else level
    return Looked(times=before.times + 1 if before else 1, used=before.used + share if before else share)


def hopeless(confirm: Confirm, candidate: Values, rivals: Mapping[str, Values], level: float | None = None) -> str:
    """Why a candidate cannot pass any more, whatever the seeds that are missing bring; empty while it may.

    `level` is what is left for it of alpha. Nothing passes by this, so it takes no share of that.
    """
    level = confirm.alpha if level is None else level
    if level == 0:
        return f"earlier looks at it have left too little of alpha = {confirm.alpha:g} for {confirm.seeds} seeds"
    if failed := [seed for seed, value in candidate.items() if _of(value) is None]:
        return f"it failed on seed {failed[0]}"
    if name := _without_value(confirm, rivals):
        return f"it cannot be compared with {name}, which failed on every seed"
    if confirm.test != "sign_flip":
        return ""
    for name, values in rivals.items():
        lost = sum(_of(value) is None for value in values.values())
        differences = list(_differences(candidate, values).values())
        if not may_pass(differences, confirm.seeds - lost, margin=confirm.margin, alpha=level):
            return f"after {len(differences)} of {confirm.seeds} seeds it cannot be shown to beat {name} any more"
    return ""


def _without_value(confirm: Confirm, rivals: Mapping[str, Values]) -> str | None:
    """A rival that failed on every seed."""
    for name, values in rivals.items():
        if len(values) == confirm.seeds and all(_of(value) is None for value in values.values()):
            return name
    return None


def _of(value: float | None) -> float | None:
    """A value that can be compared."""
    return value if value is not None and isfinite(value) else None


def _candidate(confirm: Confirm, trial: int, values: Values, rivals: Mapping[str, Values], level: float) -> Candidate:
    comparisons = tuple(compare(confirm, values, name, theirs) for name, theirs in rivals.items())
    out = hopeless(confirm, values, rivals, level)
    whole = len(values) == confirm.seeds and not out
    p = max(each.estimate.p if each.estimate else 1.0 for each in comparisons) if whole else 1.0
    return Candidate(
        trial=trial, values=dict(values), comparisons=comparisons, p=p, adjusted=p, given_up="" if whole else out
    )


def compare(confirm: Confirm, values: Values, rival: str, theirs: Values) -> Comparison:
    """A candidate's values against those of another, pair by pair."""
    differences = _differences(values, theirs)
    test, fewest = TESTS[confirm.test], 1 if confirm.test == "sign_flip" else 2
    enough = len(differences) >= fewest
    estimate = test(list(differences.values()), margin=confirm.margin, alpha=confirm.alpha) if enough else None
    return Comparison(rival=rival, differences=differences, estimate=estimate)


def _differences(ours: Values, theirs: Values) -> dict[int, float]:
    both = [(seed, _of(value), _of(theirs.get(seed))) for seed, value in ours.items()]
    # Rounded, for 50.1 - 50 is no lead of more than 0.1.
    return {seed: round(one - other, 9) for seed, one, other in both if one is not None and other is not None}


def _mean(candidate: Candidate) -> float:
    known = [value for value in map(_of, candidate.values.values()) if value is not None]
    return sum(known) / len(known)


def _verdict(
    confirm: Confirm,
    judged: Sequence[Candidate],
    winner: Candidate | None,
    rivals: Mapping[str, Values],
    level: Mapping[int, float],
    looked: Mapping[int, Looked],
) -> tuple[Outcome, str]:
    best = winner or _nearest(judged)
    hardest = _hardest(best)
    if hardest is None or hardest.estimate is None:
        return Outcome.KEPT, f"trial {best.trial} has nothing to be compared with: {best.given_up}"
    told = f"trial {best.trial} is {_told(confirm, hardest, hardest.estimate)}"
    times = looked[best.trial].times if level[best.trial] else 1
    if times > 1:
        told += f" (look {times} at it, which needs p of at most {level[best.trial]:.2g})"
    if winner:
        return Outcome.PROMOTED, told
    if None in map(_of, best.values.values()) or _without_value(confirm, rivals) or not level[best.trial]:
        return Outcome.KEPT, f"{told}, but {best.given_up}"
    if hardest.estimate.mean <= confirm.margin:
        return Outcome.KEPT, f"no trial is ahead of {hardest.rival} on fresh seeds: {told}"
    left = confirm.alpha - looked[best.trial].used
    needed = pairs_needed(list(hardest.differences.values()), margin=confirm.margin, alpha=left / len(judged))
    if needed and needed > confirm.seeds and confirm.test == "sign_flip":
        more = f"{count} more seeds" if (count := needed - confirm.seeds) > 1 else "1 more seed"
        return Outcome.UNDECIDED, f"{told}, which may be chance: {more} would probably show it at this spread"
    return Outcome.UNDECIDED, f"{told}, which may be chance: no look at more seeds would probably show it"


def _nearest(judged: Sequence[Candidate]) -> Candidate:
    """The one that came nearest to passing."""
    return min(judged, key=lambda each: (each.adjusted, None in each.values.values(), -_lead(each)))


def _lead(candidate: Candidate) -> float:
    hardest = _hardest(candidate)
    return hardest.estimate.mean if hardest and hardest.estimate else -100.0


def _hardest(candidate: Candidate) -> Comparison | None:
    """The comparison in which the candidate does worst."""

    def place(comparison: Comparison) -> tuple[float, float]:
        assert comparison.estimate
        return comparison.estimate.p, -comparison.estimate.mean

    return max((each for each in candidate.comparisons if each.estimate), key=place, default=None)


def _told(confirm: Confirm, comparison: Comparison, estimate: Estimate) -> str:
    word = "above" if estimate.mean >= 0 else "below"
    interval = "" if estimate.low is None else f", {confirm.level:.0%} [{estimate.low:+.2f}, {estimate.high:+.2f}]"
    seeds = len(comparison.differences)
    return (
        f"{abs(estimate.mean):.2f} points {word} {comparison.rival} on {seeds} {'seed' if seeds == 1 else 'seeds'}"
        f"{interval}, p = {estimate.p:.3g}"
    )
