"""Which trainings on fresh seeds a gate asks for, and what became of them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..base.keys import BASELINE, CONFIRM
from ..spec.confirm import Confirm
from .verdict import Looked, Values, hopeless, levels

_NAME = re.compile(rf"{CONFIRM}(?P<arm>.+)-s(?P<seed>\d+)")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of those that are compared: a spec of its own, trained on every seed."""

    name: str
    """The trial's number, `baseline`, or `champion-<version>-<start of its run's id>`."""
    told: str
    """What it is called in a sentence."""

    def training(self, seed: int) -> str:
        """What stands in the key of its training on a seed for the number of a trial."""
        return f"{CONFIRM}{self.name}-s{seed}"


SUPERVISED = Arm(name=BASELINE, told="the supervised baseline")


def champion_arm(version: str, run: str) -> Arm:
    """The sitting champion's, which came of a run: another model may have a version of that number, too."""
    return Arm(name=f"champion-{version}-{run[:8]}", told=f"the champion, version {version}")


def trial_arm(number: int) -> Arm:
    """A candidate's."""
    return Arm(name=str(number), told=f"trial {number}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who is compared, and on which seeds."""

    confirm: Confirm
    seeds: Sequence[int]
    candidates: Sequence[int]
    """Numbers of trials, the best first."""
    rivals: Sequence[Arm]
    looked: Mapping[int, Looked] = field(default_factory=dict)
    """At trials by the gates before."""

    def trainings(self) -> Iterator[tuple[Arm, int]]:
        """All that may be needed: seed by seed, so that who is hopeless is found early."""
        arms = [*self.rivals, *map(trial_arm, self.candidates)]
        return ((arm, seed) for seed in self.seeds for arm in arms)

    def values(self, ended: Mapping[str, float | None]) -> tuple[dict[int, Values], dict[str, Values]]:
        """What `judge` takes, of trainings by name: the mean IoU in percent of those that have ended, None of those
        that failed."""

        def of(arm: Arm) -> Values:
            named = {seed: arm.training(seed) for seed in self.seeds}
            return {seed: ended[name] for seed, name in named.items() if name in ended}

        return {number: of(trial_arm(number)) for number in self.candidates}, {arm.told: of(arm) for arm in self.rivals}

    def is_wanted(self, name: str, ended: Mapping[str, float | None]) -> bool:
        """Whether a training may still change what becomes of its candidate; a rival's, of any."""
        candidates, rivals = self.values(ended)
        level = levels(self.confirm, candidates, self.looked)
        alive = {
            number for number, values in candidates.items() if not hopeless(self.confirm, values, rivals, level[number])
        }
        found = _NAME.fullmatch(name)
        assert found
        return int(found["arm"]) in alive if found["arm"].isdecimal() else bool(alive)


def plan_of(confirm: Confirm, seed: int, candidates: Iterable[int], champion: Arm | None) -> Plan:
    """The plan for trials by their numbers, of a sweep with that `trainer.seed`, and the champion to beat."""
    rivals = [SUPERVISED] if champion is None else [champion, SUPERVISED]
    seeds = range(seed + 1, seed + 1 + confirm.seeds)
    return Plan(confirm=confirm, seeds=seeds, candidates=list(candidates), rivals=rivals)
