"""The arms of a sweep by what their best trials reach on fresh seeds: a function of a gate's values alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from .verdict import Candidate, Comparison, Gate, compare


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where an arm stands among others, by one of its trials."""

    arm: str
    trial: int
    """Of its trials that were confirmed the one with the highest mean, of those that were trained on every seed."""
    miou: float | None
    """Mean over fresh seeds, in percent; None if it failed on all."""
    seeds: int
    """On so many of them it has a value; who cannot pass the gate any more is trained on no more."""
    over: tuple[Comparison, ...]
    """Against each rival of the gate, and then against each arm that stands above it, on the seeds of both."""


def standings(gate: Gate, arms: Mapping[int, str | None]) -> list[Standing]:
    """The arms of which trials were confirmed, best first, by the arms of trials; none of a sweep without arms.

    Those that were trained on every seed come before others, whose means are of other seeds.
    """
    best: dict[str, Candidate] = {}
    for each in sorted(
        gate.candidates, key=lambda each: (len(_known(each)) < gate.confirm.seeds, -(_mean(each) or 0.0))
    ):
        if arm := arms.get(each.trial):
            best.setdefault(arm, each)
    ranked = list(best.items())
    return [
        Standing(
            arm=arm,
            trial=each.trial,
            miou=_mean(each),
            seeds=len(_known(each)),
            over=(
                *each.comparisons,
                *(compare(gate.confirm, each.values, above, of.values) for above, of in ranked[:rank]),
            ),
        )
        for rank, (arm, each) in enumerate(ranked)
    ]


def _mean(candidate: Candidate) -> float | None:
    return mean(known) if (known := _known(candidate)) else None


def _known(candidate: Candidate) -> Sequence[float]:
    return [value for value in candidate.values.values() if value is not None]
