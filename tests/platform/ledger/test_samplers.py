import itertools
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.samplers import grid_point, quasi_random_point, scaled, seed_of
from advseg.platform.spec.dimensions import Choices, Dimension, Range
from advseg.platform.spec.spec import Spec

MakeSpec = Callable[..., Spec]
Opened = Callable[..., Ledger]

WHOLE, STEPPED = Range(low=4, high=16, step=4), Range(low=0.0, high=1.0, step=0.25)
NORM = Choices(choices=("frozen", "batch", None))
LINEAR, LOG = Range(low=0, high=0.9), Range(low=0.001, high=1, log=True)
SPACE = {"method.lambda_adv": LOG, "method.threshold": LINEAR}
RANDOM, QUASI_RANDOM, TPE = (f"sweep.sampler={{name: {name}}}" for name in ("random", "quasi_random", "tpe"))


def grid(values: int) -> str:
    return f"sweep.sampler={{name: grid, values: {values}}}"


def drawn(ledger: Ledger, count: int) -> list[tuple[float, ...]]:
    """The points of new trials."""
    numbers = [number for _ in range(count) if (number := ledger.propose()) is not None]
    return [tuple(value for _, value in sorted(ledger.row(number).params.items())) for number in numbers]


def shares(points: Sequence[dict[str, float]], key: str, asked: Range) -> list[float]:
    """Where the values lie in their range, 0 to 1."""
    change = math.log if asked.log else float
    low, high = change(asked.low), change(asked.high)
    return [(change(point[key]) - low) / (high - low) for point in points]


class TestSeeds:
    def test_fit_the_samplers_and_differ(self) -> None:
        seeds = {seed_of(seed, number) for seed in range(20) for number in range(20)}
        assert len(seeds) == 400
        assert max(seeds) < 2**32

    def test_are_those_of_every_version(self) -> None:
        assert [seed_of(0, 0), seed_of(7, 12)] == [3940750165, 1352796973]


MIXED = (
    "sweep.space={trainer.batch_size: {low: 4, high: 16, step: 4}, trainer.precision: {choices: [float32, float64]}, "
    "trainer.segmenter_optimizer.lr: {low: 1e-5, high: 1e-2, log: true}, trainer.seed: {low: 1, high: 100, log: true}}"
)


class TestMixedSpace:
    """A rate, whole numbers and a choice."""

    @pytest.mark.parametrize("sampler", [RANDOM, QUASI_RANDOM, TPE, grid(3)])
    def test_points_lie_in_it_and_are_of_its_types(self, make_spec: MakeSpec, opened: Opened, sampler: str) -> None:
        spec = make_spec("sweep.trials=24", sampler, MIXED)
        ledger = opened(spec)
        assert spec.sweep
        for number in range(24):
            assert ledger.propose() == number
            row = ledger.row(number)
            assert all(row.params[key] in dimension for key, dimension in spec.sweep.space.items())
            assert {key: type(value) for key, value in row.params.items()} == {
                "trainer.batch_size": int,
                "trainer.precision": str,
                "trainer.segmenter_optimizer.lr": float,
                "trainer.seed": int,
            }
            ledger.report(number, 8, float(number))
            ledger.finish(number, TrialState.COMPLETE)
        seen = {(row.params["trainer.batch_size"], row.params["trainer.precision"]) for row in ledger.rows()}
        assert len(seen) > 5

    def test_a_grid_has_each_value_once(self, make_spec: MakeSpec) -> None:
        space: dict[str, Dimension] = {"a": WHOLE, "b": NORM, "c": Range(low=1, high=3)}
        points = [grid_point(space, 5, 0, index) for index in range(4 * 3 * 3)]
        assert len({tuple(point.values()) for point in points if point}) == 36
        assert grid_point(space, 5, 0, 36) is None
        assert [grid_point({"a": WHOLE}, 2, 0, index) for index in (0, 1)] in (
            [{"a": 4}, {"a": 16}],
            [{"a": 16}, {"a": 4}],
        )

    @pytest.mark.parametrize("dimension", [WHOLE, STEPPED, NORM, Range(low=0, high=9)])
    def test_quasi_random_points_give_each_value_its_share(self, dimension: Dimension) -> None:
        points = [quasi_random_point({"a": dimension}, 0, index)["a"] for index in range(400)]
        count = len(dimension.choices) if isinstance(dimension, Choices) else dimension.count
        assert count
        assert len(set(points)) == count
        assert all(abs(points.count(value) - 400 / count) < 5 for value in set(points))

    def test_a_value_that_a_crash_cut_off_is_drawn_again(self, make_spec: MakeSpec, opened: Opened) -> None:
        spec = make_spec(RANDOM, MIXED)
        whole = opened(spec)
        whole.propose()
        cut = opened(make_spec(RANDOM, MIXED, "name=cut"))
        # Of a point, whose values are written one after another, none is there yet.
        cut._study.ask()
        cut.close()
        again = opened(make_spec(RANDOM, MIXED, "name=cut"))
        assert again.row(0).params == whole.row(0).params


class TestScale:
    @pytest.mark.parametrize("asked", [LINEAR, LOG, Range(low=1e-7, high=3e-5, log=True), Range(low=0.1, high=0.7)])
    def test_meets_both_ends_exactly_and_steps_over_neither(self, asked: Range) -> None:
        assert (scaled(0, asked), scaled(1, asked)) == (asked.low, asked.high)
        assert all(asked.low <= scaled(1 - 2.0**-bits, asked) <= asked.high for bits in range(54))

    def test_is_even_in_the_value_or_in_its_logarithm(self) -> None:
        assert scaled(0.5, LINEAR) == pytest.approx(0.45)
        assert scaled(0.5, Range(low=0.01, high=1, log=True)) == pytest.approx(0.1)


class TestGrid:
    @pytest.mark.parametrize("seed", [0, 1, 2, 2**63 - 1])
    @pytest.mark.parametrize("values", [2, 3, 5])
    def test_has_every_combination_once(self, seed: int, values: int) -> None:
        points = [grid_point(SPACE, values, seed, index) for index in range(values**2)]
        assert all(points)
        found = {
            tuple(round(share, 6) for share in pair)
            for pair in zip(
                *(shares([p for p in points if p], key, asked) for key, asked in SPACE.items()), strict=True
            )
        }
        steps = [round(step / (values - 1), 6) for step in range(values)]
        assert found == set(itertools.product(steps, steps))

    def test_ends(self) -> None:
        assert grid_point(SPACE, 3, 0, 8) is not None
        assert grid_point(SPACE, 3, 0, 9) is None

    def test_is_shuffled_by_the_seed(self) -> None:
        orders = [[grid_point(SPACE, 4, seed, index) for index in range(16)] for seed in (0, 1, 0)]
        assert orders[0] != orders[1]
        assert orders[0] == orders[2]
        assert orders[0] != sorted(orders[0], key=lambda point: sorted((point or {}).items()))

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_is_spent_when_every_combination_was_tried(self, make_spec: MakeSpec, opened: Opened, seed: int) -> None:
        ledger = opened(make_spec(grid(3), "sweep.trials=50", f"trainer.seed={seed}"))
        points = drawn(ledger, 9)
        assert len(set(points)) == 9
        assert ledger.propose() is None
        assert len(ledger.rows()) == 9

    def test_goes_on_where_it_was_when_the_ledger_is_reopened(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        spec = make_spec(grid(3), "sweep.trials=50")
        points = [point for _ in range(9) for point in drawn(opened(spec, tmp_path / "anew"), 1)]
        assert points == drawn(opened(spec, tmp_path / "kept"), 9)
        assert opened(spec, tmp_path / "anew").propose() is None

    def test_comes_whole_after_the_first_points(self, make_spec: MakeSpec, opened: Opened) -> None:
        first = "sweep.first=[{method.lambda_adv: 0.5, method.threshold: 0.25}]"
        points = drawn(opened(make_spec(grid(2), first, "sweep.trials=50")), 9)
        assert points[0] == (0.5, 0.25)
        assert sorted(points[1:]) == [(0.001, 0), (0.001, 0.9), (1, 0), (1, 0.9)]

    def test_is_cut_short_by_the_budget(self, make_spec: MakeSpec, opened: Opened) -> None:
        assert len(drawn(opened(make_spec(grid(3), "sweep.trials=4")), 9)) == 4


class TestPoints:
    """Of samplers that learn nothing from the trials before."""

    @pytest.mark.parametrize("sampler", [RANDOM, QUASI_RANDOM])
    def test_are_those_of_their_numbers_whoever_asks(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, sampler: str
    ) -> None:
        spec = make_spec(sampler, "sweep.trials=6")
        kept = drawn(opened(spec, tmp_path / "kept"), 6)
        anew = []
        for number in range(6):
            ledger = opened(spec, tmp_path / "anew")
            anew += drawn(ledger, 1)
            # What became of the trials before is no matter.
            ledger.finish(number, TrialState.FAIL, "broken")
        assert anew == kept
        assert len(set(kept)) == 6

    def test_are_the_same_in_another_process(self) -> None:
        program = (
            "from advseg.platform.ledger.samplers import quasi_random_point, grid_point\n"
            "from advseg.platform.spec.dimensions import Range\n"
            "space = {'b': Range(low=0.001, high=1, log=True), 'a': Range(low=0, high=0.9)}\n"
            "print([quasi_random_point(space, 5, 3), grid_point(space, 4, 5, 3)])"
        )
        space = {"a": LINEAR, "b": LOG}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str([quasi_random_point(space, 5, 3), grid_point(space, 4, 5, 3)])

    @pytest.mark.parametrize("sampler", [RANDOM, QUASI_RANDOM])
    def test_depend_on_the_seed(self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, sampler: str) -> None:
        points = set()
        for seed in (0, 1, 2**63 - 1):
            points.update(drawn(opened(make_spec(sampler, f"trainer.seed={seed}"), tmp_path / str(seed)), 1))
        assert len(points) == 3

    @pytest.mark.parametrize("sampler", [RANDOM, QUASI_RANDOM, TPE])
    def test_lie_in_their_ranges(self, make_spec: MakeSpec, opened: Opened, sampler: str) -> None:
        for first, second in drawn(opened(make_spec(sampler, "sweep.trials=24")), 24):
            assert 0.001 <= first <= 1
            assert 0 <= second <= 0.9


class TestQuasiRandomPoints:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    @pytest.mark.parametrize("start", [0, 8, 16])
    def test_lie_each_in_an_eighth_of_its_own_of_every_range(self, seed: int, start: int) -> None:
        points = [quasi_random_point(SPACE, seed, index) for index in range(start, start + 8)]
        for key, asked in SPACE.items():
            assert sorted(int(8 * share) for share in shares(points, key, asked)) == list(range(8))

    def test_cover_the_space_more_evenly_than_random_ones(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        """Of 8 x 8 fields, 64 points of a Sobol sequence fill each once; random ones leave about 64 / e empty."""

        def filled(sampler: str, name: str) -> int:
            points = drawn(opened(make_spec(sampler, "sweep.trials=64"), tmp_path / name), 64)
            named = [dict(zip(sorted(SPACE), point, strict=True)) for point in points]
            fields = zip(*(shares(named, key, asked) for key, asked in SPACE.items()), strict=True)
            return len({(int(8 * min(a, 1 - 1e-9)), int(8 * min(b, 1 - 1e-9))) for a, b in fields})

        assert filled(QUASI_RANDOM, "even") == 64
        assert filled(RANDOM, "random") < 55


class TestTpe:
    SPEC = ("sweep.sampler={name: tpe, startup_trials: 3}", "sweep.trials=12")

    @staticmethod
    def run(ledger: Ledger, count: int, value: Callable[[dict[str, float]], float]) -> None:
        for _ in range(count):
            number = ledger.propose()
            assert number is not None
            ledger.report(number, 8, value(ledger.row(number).params))
            ledger.finish(number, TrialState.COMPLETE)

    def test_proposes_the_same_given_the_same_history(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        def value(point: dict[str, float]) -> float:
            return -abs(point["method.threshold"] - 0.6)

        ledgers = [opened(make_spec(*self.SPEC), tmp_path / name) for name in "ab"]
        for ledger in ledgers:
            self.run(ledger, 8, value)
        assert drawn(ledgers[0], 1) == drawn(ledgers[1], 1)

    def test_learns_from_the_history(self, make_spec: MakeSpec, opened: Opened, tmp_path: Path) -> None:
        ends = []
        for name, sign in (("low", -1), ("high", 1)):
            ledger = opened(make_spec(*self.SPEC, "sweep.trials=30"), tmp_path / name)
            self.run(ledger, 30, lambda point, sign=sign: sign * point["method.threshold"])
            ends.append(np.mean([row.params["method.threshold"] for row in ledger.rows()[15:]]))
        assert ends[0] < 0.4
        assert ends[1] > 0.5
