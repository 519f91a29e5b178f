"""What a sweep must share with the one that it goes on with, and what it may learn from another."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import TrialState

from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.origin import Origin
from advseg.platform.ledger.reading import read_sweep, sweep_names
from advseg.platform.ledger.rows import best_row
from advseg.platform.ledger.samplers import distributions_of, seed_of
from advseg.platform.ledger.study import FROM
from advseg.platform.spec.spec import Spec
from advseg.trainers.errors import UserError

from ..conftest import writing

MakeSpec = Callable[..., Spec]
Opened = Callable[..., Ledger]

BEGUN = Origin(dataset="d" * 64, code="c" * 64)
OTHER_DATA = Origin(dataset="e" * 64, code="c" * 64)
OTHER_CODE = Origin(dataset="d" * 64, code="b" * 64)

HEIR = ("name=heir", "sweep.fork=probe")
TPE = "sweep.sampler={name: tpe, startup_trials: 3}"
REMEDY = "or begin another that learns from its trials, as in --set name=probe-2 --fork probe"


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestGoingOn:
    @pytest.mark.parametrize(
        ("override", "told"),
        [
            ("trainer.seed=1", "trainer.seed is 1, but the sweep has 0"),
            (
                "sweep.space.method.threshold.high=0.8",
                "sweep.space.method.threshold.high is 0.8, but the sweep has 0.9",
            ),
            ("sweep.sampler={name: random}", "sweep.sampler.name is random, but the sweep has tpe"),
            ("sweep.pruner={name: median}", "sweep.pruner is {"),
        ],
    )
    def test_with_another_spec_is_refused_naming_what_differs(
        self, make_spec: MakeSpec, opened: Opened, override: str, told: str
    ) -> None:
        opened(make_spec())
        message = refusal(lambda: opened(make_spec(override)))
        assert f"sweep probe was begun with another spec ({told}" in message
        assert message.endswith(f"): submit the old one to go on with it, {REMEDY}")

    def test_on_other_data_is_refused(self, make_spec: MakeSpec, opened: Opened) -> None:
        opened(make_spec(), origin=BEGUN)
        assert refusal(lambda: opened(make_spec(), origin=OTHER_DATA)) == (
            f"sweep probe was begun on other data (digest eeeeeeeeeeee, but the sweep has dddddddddddd): "
            f"restore the dataset to go on with it, {REMEDY}"
        )

    def test_by_other_code_is_refused(self, make_spec: MakeSpec, opened: Opened) -> None:
        opened(make_spec(), origin=BEGUN)
        assert refusal(lambda: opened(make_spec(), origin=OTHER_CODE)) == (
            f"sweep probe was begun by other code in models/ and trainers/ (digest bbbbbbbbbbbb, but the sweep has "
            f"cccccccccccc): install that version to go on with it, {REMEDY}"
        )

    @pytest.mark.parametrize(
        "override",
        [
            "sweep.trials=9",
            "sweep.concurrency=7",
            "sweep.retry.max_attempts=1",
            "sweep.register_as=model",
            "resources.workers=2",
            "storage=runs",
            "profile=true",
        ],
    )
    def test_with_another_budget_or_elsewhere_is_allowed(
        self, make_spec: MakeSpec, opened: Opened, override: str
    ) -> None:
        opened(make_spec()).propose()
        assert opened(make_spec(override)).unfinished() == [0]

    def test_that_was_refused_changes_nothing(self, make_spec: MakeSpec, opened: Opened) -> None:
        opened(make_spec())
        refusal(lambda: opened(make_spec("trainer.seed=1"), origin=OTHER_DATA))
        opened(make_spec(), origin=BEGUN)


@pytest.fixture
def source(make_spec: MakeSpec, opened: Opened) -> Ledger:
    """A sweep with trials 0, 1 and 4 complete, 2 pruned, 3 failed, and 5 running."""
    ledger = opened(make_spec(TPE, "sweep.trials=9"))
    for number in range(6):
        ledger.propose()
        if number != 3:
            ledger.report(number, 4, 10.0 * number)
        if number in (0, 1, 4):
            ledger.report(number, 8, 50.0 + number)
            ledger.finish(number, TrialState.COMPLETE)
    ledger.finish(2, TrialState.PRUNED, "not among the best at step 4")
    ledger.finish(3, TrialState.FAIL, "broken")
    return ledger


INHERITED = ["probe/0", "probe/1", "probe/2", "probe/4"]


def inherited(storage: Path, sweep: str) -> list[str]:
    """Keys of the trials that a sweep took over."""
    with writing(storage, None) as database:
        trials = optuna.load_study(study_name=sweep, storage=database).get_trials(deepcopy=False)
    return [trial.user_attrs[FROM] for trial in trials if FROM in trial.user_attrs]


class TestFork:
    def test_of_a_sweep_that_there_is_not_leaves_nothing_behind(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        for fork in ("sweep.fork=nothere", "sweep.fork=nothere-either"):
            with pytest.raises(UserError, match="there is no sweep nothere"):
                opened(make_spec(TPE, "name=heir", fork))
            assert sweep_names(tmp_path) == []
        assert opened(make_spec(TPE, "name=heir")).propose() == 0

    def test_takes_over_complete_and_pruned_trials_with_their_curves(
        self, source: Ledger, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        opened(make_spec(TPE, *HEIR))
        assert inherited(tmp_path, "heir") == INHERITED
        with writing(tmp_path, None) as database:
            trials = optuna.load_study(study_name="heir", storage=database).trials
        rows = [source.row(number) for number in (0, 1, 2, 4)]
        assert [(t.state, t.params, t.intermediate_values) for t in trials] == [
            (row.state, row.params, row.curve) for row in rows
        ]
        assert [trial.value for trial in trials if trial.state is TrialState.COMPLETE] == [50.0, 51.0, 54.0]

    def test_proposes_what_follows_from_them(self, source: Ledger, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec(TPE, *HEIR))
        number = ledger.propose()
        assert number == len(INHERITED)

        expected = optuna.create_study(
            study_name="heir", direction="maximize", sampler=TPESampler(seed=seed_of(0, number), n_startup_trials=3)
        )
        for trial in source._study.trials:
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                expected.add_trial(trial)
        assert ledger.row(number).params == expected.ask(distributions_of(source.spec.sweep.space)).params

    def test_counts_its_own_trials_only(
        self, source: Ledger, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        ledger = opened(make_spec(TPE, *HEIR, "sweep.trials=2"))
        assert (ledger.rows(), ledger.unfinished(), best_row(ledger.rows())) == ([], [], None)
        assert [ledger.propose() for _ in range(3)] == [4, 5, None]
        ledger.report(4, 8, 1.0)
        ledger.finish(4, TrialState.COMPLETE)
        best = best_row(read_sweep(tmp_path, "heir").rows)
        assert best
        assert best.number == 4
        assert [row.number for row in ledger.rows()] == [4, 5]
        assert ledger.unfinished() == [5]

    def test_counts_so_also_when_it_is_reopened(self, source: Ledger, make_spec: MakeSpec, opened: Opened) -> None:
        opened(make_spec(TPE, *HEIR, "sweep.trials=2")).propose()
        ledger = opened(make_spec(TPE, *HEIR, "sweep.trials=2"))
        assert [ledger.propose() for _ in range(2)] == [5, None]

    def test_tries_its_first_points_after_them_also_one_that_was_tried_before(
        self, source: Ledger, make_spec: MakeSpec, opened: Opened
    ) -> None:
        tried = source.row(1).params
        points = [{"method.lambda_adv": 0.5, "method.threshold": 0.25}, tried]
        ledger = opened(make_spec(TPE, *HEIR, f"sweep.first={points}"))
        assert [ledger.propose() for _ in range(3)] == [4, 5, 6]
        assert [row.params for row in ledger.rows()[:2]] == points
        assert ledger.row(6).params not in points

    def test_tries_the_whole_of_a_grid(self, source: Ledger, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec("sweep.sampler={name: grid, values: 2}", *HEIR, "sweep.trials=50"))
        assert [ledger.propose() for _ in range(5)] == [4, 5, 6, 7, None]

    def test_leaves_points_outside_of_its_ranges_behind(
        self, source: Ledger, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        values = {row.number: row.params["method.threshold"] for row in source.rows() if row.number in (0, 1, 2, 4)}
        *lower, _ = sorted(values.values())
        opened(make_spec(TPE, *HEIR, f"sweep.space.method.threshold.high={lower[-1]!r}"))
        assert inherited(tmp_path, "heir") == [f"probe/{n}" for n, value in values.items() if value <= lower[-1]]
        assert len(inherited(tmp_path, "heir")) == 3

    def test_may_have_wider_ranges_and_other_code(
        self, source: Ledger, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        wider = "sweep.space.method.threshold.high=1"
        ledger = opened(make_spec(TPE, *HEIR, wider, "trainer.seed=3"), origin=OTHER_CODE)
        assert inherited(tmp_path, "heir") == INHERITED
        assert ledger.propose() == 4

    def test_of_a_fork_takes_over_what_that_took_over_and_its_own(
        self, source: Ledger, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        heir = opened(make_spec(TPE, *HEIR))
        heir.propose()
        heir.report(4, 8, 60.0)
        heir.finish(4, TrialState.COMPLETE)
        opened(make_spec(TPE, "name=grandchild", "sweep.fork=heir"))
        assert inherited(tmp_path, "grandchild") == [*INHERITED, "heir/4"]

    def test_takes_nothing_more_over_once_it_was_begun(
        self, source: Ledger, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        opened(make_spec(TPE, *HEIR))
        source.report(5, 8, 70.0)
        source.finish(5, TrialState.COMPLETE)
        ledger = opened(make_spec(TPE, *HEIR))
        assert inherited(tmp_path, "heir") == INHERITED
        assert ledger.propose() == 4

    @pytest.mark.parametrize("writes", range(4 + 2))
    def test_that_a_crash_cut_short_is_begun_as_one_that_was_not(
        self,
        source: Ledger,
        make_spec: MakeSpec,
        opened: Opened,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        writes: int,
    ) -> None:
        """Four trials are added, then two attributes are set."""
        points = [{"method.lambda_adv": value, "method.threshold": value} for value in (0.5, 0.25)]
        spec = make_spec(TPE, *HEIR, f"sweep.first={points}")
        left = iter(range(writes))

        def dying(write: Callable[..., None]) -> Callable[..., None]:
            def run(*arguments: object, **options: object) -> None:
                if next(left, None) is None:
                    raise KeyboardInterrupt
                write(*arguments, **options)

            return run

        with monkeypatch.context() as patch:
            for name in ("add_trial", "set_user_attr"):
                patch.setattr(Study, name, dying(getattr(Study, name)))
            with pytest.raises(KeyboardInterrupt):
                opened(spec)
        ledger = opened(spec)
        assert inherited(tmp_path, "heir") == INHERITED
        assert [ledger.propose() for _ in range(3)] == [4, 5, 6]
        assert [row.params for row in ledger.rows()[:2]] == points

    def test_that_a_crash_cut_short_is_begun_though_the_other_sweep_has_gone_on(
        self, source: Ledger, make_spec: MakeSpec, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        points = [{"method.lambda_adv": 0.5, "method.threshold": 0.25}]
        spec = make_spec(TPE, *HEIR, f"sweep.first={points}")
        with monkeypatch.context() as patch:
            patch.setattr(Study, "set_user_attr", lambda *_: pytest.exit("crash"))
            with pytest.raises(pytest.exit.Exception):
                opened(spec)
        source.report(5, 8, 70.0)
        source.finish(5, TrialState.COMPLETE)
        ledger = opened(spec)
        assert [ledger.propose(), ledger.propose()] == [5, 6]
        assert ledger.row(5).params == points[0]

    def test_that_searches_other_keys_is_refused(self, source: Ledger, make_spec: MakeSpec, opened: Opened) -> None:
        other = "sweep.space={method.lambda_semi: {low: 0, high: 1}, method.threshold: {low: 0, high: 0.9}}"
        assert refusal(lambda: opened(make_spec(TPE, *HEIR, other))) == (
            "sweep.fork names probe, which searched method.lambda_adv, method.threshold, but this spec's space has "
            "method.lambda_semi, method.threshold: search the same keys, or remove sweep.fork"
        )

    def test_of_a_sweep_on_other_data_is_refused(self, source: Ledger, make_spec: MakeSpec, opened: Opened) -> None:
        assert refusal(lambda: opened(make_spec(TPE, *HEIR), origin=OTHER_DATA)) == (
            "sweep.fork names probe, which ran on other data (digest dddddddddddd, but this spec's has eeeeeeeeeeee): "
            "its results do not tell of these; remove sweep.fork"
        )

    def test_of_an_unknown_sweep_is_refused_naming_the_known_ones(
        self, source: Ledger, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        message = refusal(lambda: opened(make_spec("name=heir", "sweep.fork=prob")))
        assert message.startswith(f"there is no sweep prob in {tmp_path}; known sweeps: probe")

    def test_of_a_sweep_of_an_older_version_is_refused(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        with writing(tmp_path, None) as database:
            optuna.create_study(study_name="probe", storage=database, direction="maximize")
        assert refusal(lambda: opened(make_spec(*HEIR))) == (
            "sweep.fork names probe, which was never begun by this version of advseg: run it"
        )

    def test_that_was_refused_may_be_begun_without_it(
        self, source: Ledger, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        refusal(lambda: opened(make_spec(*HEIR), origin=OTHER_DATA))
        ledger = opened(make_spec("name=heir"), origin=OTHER_DATA)
        assert ledger.propose() == 0
        assert inherited(tmp_path, "heir") == []
