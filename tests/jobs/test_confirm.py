"""Which trials are confirmed, by which specs, and against whom."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from advseg.jobs import confirm
from advseg.jobs.confirm import candidates_of, champion_document, confirm_best, document_of
from advseg.jobs.sweep import crown_best
from advseg.platform.cluster.driver import Job
from advseg.platform.gate.plan import SUPERVISED, champion_arm, trial_arm
from advseg.platform.gate.verdict import judge
from advseg.platform.ledger.confirmations import Planned
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.opening import open_ledger
from advseg.platform.ledger.origin import Origin
from advseg.platform.ledger.rows import BASELINE_NUMBER, Row, verdict_of
from advseg.platform.registry.champion import Champion
from advseg.platform.registry.promotion import Standing
from advseg.platform.registry.verdicts import read_verdict
from advseg.platform.spec.confirm import Confirm
from advseg.platform.spec.spec import Spec, confirmed, spec_from
from advseg.platform.spec.spec_file import load_spec
from advseg.platform.sweep.tasks import SweepTasks
from advseg.platform.tracking.runs import KEY_TAG
from advseg.platform.workers.account import Account
from advseg.trainers.errors import UserError

TWO = Confirm(candidates=2)
DEMO = Path(__file__).parents[2] / "jobs" / "specs" / "demo.yaml"


def row(number: int, value: float | None, state: TrialState = TrialState.COMPLETE, **params: float) -> Row:
    curve = {} if value is None else {8: value}
    return Row(number=number, params=dict(params), state=state, reason="", curve=curve)


BASELINE = row(BASELINE_NUMBER, 50.0)


def test_candidates_are_the_best_complete_trials_above_the_baseline() -> None:
    rows = [row(0, 52.0), row(1, 53.0), row(2, 49.0), row(3, 99.0, TrialState.PRUNED), row(4, 51.0)]
    assert candidates_of(TWO, rows, BASELINE) == [1, 0]
    assert candidates_of(TWO, [row(0, 50.0)], BASELINE) == []
    assert candidates_of(TWO, rows, row(BASELINE_NUMBER, 10.0, TrialState.FAIL)) == []


def demo(*overrides: str) -> Spec:
    return load_spec(DEMO, overrides, files_elsewhere=True)


@pytest.fixture
def document() -> dict[str, Any]:
    return demo("trainer.seed=3").model_dump(mode="json")


@pytest.fixture
def champion(document: dict[str, Any]) -> Champion:
    """Another network, trained for longer, of another sweep."""
    own = {**document["trainer"], "steps": 999, "batch_size": 6, "evaluate_every": 9}
    spec = {**document, "name": "older", "model": {**document["model"], "width": 24}, "trainer": own}
    return Champion(standing=Standing(version="2", dataset="ab", protocol=None), spec=spec, run_id="r")


def test_a_candidate_is_the_trial_with_another_seed(document: dict[str, Any]) -> None:
    rows = {4: row(4, 60.0, **{"method.lambda_adv": 0.5})}
    found = document_of(document, trial_arm(4), 9, rows, None)
    assert spec_from(found) == spec_from(document).with_values({"method.lambda_adv": 0.5, "trainer.seed": 9})


def test_the_baseline_is_the_spec_without_its_method(document: dict[str, Any]) -> None:
    found = spec_from(document_of(document, SUPERVISED, 9, {}, None))
    assert (found.method.name, found.trainer.seed) == ("supervised", 9)
    assert found.model_copy(update={"trainer": spec_from(document).trainer}) == spec_from(document).supervised()


def test_the_champion_is_its_own_spec_for_as_many_steps(document: dict[str, Any], champion: Champion) -> None:
    found = spec_from(document_of(document, champion_arm("2"), 9, {}, champion))
    ours = spec_from(document)
    assert (found.name, found.dataset) == (ours.name, ours.dataset)
    assert (found.model.width, found.trainer.batch_size, found.trainer.seed) == (24, 6, 9)
    assert (found.trainer.steps, found.trainer.evaluate_every) == (ours.trainer.steps, ours.trainer.evaluate_every)


def test_a_champion_that_this_version_does_not_read_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"model\.architecture"):
        spec_from(champion_document(document, {"model": {"architecture": "of tomorrow"}, "trainer": {}}, 0))


def test_what_is_asked_later_is_put_into_the_spec() -> None:
    spec = demo("sweep.confirm=null")
    later = confirmed(spec, None, None)
    assert later.sweep and later.sweep.confirm == Confirm()
    more = confirmed(later, 1, 9)
    assert more.sweep and more.sweep.confirm == Confirm(candidates=1, seeds=9)
    assert more.digest() == spec.digest()
    with pytest.raises(UserError, match=r"^sweep\.confirm: nothing can pass: .*: set seeds to 6"):
        confirmed(spec, 3, 4)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    spec = demo(
        "sweep.confirm.candidates=3", "sweep.confirm.seeds=6", f"storage={tmp_path}", "sweep.register_as=things"
    )
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    return Job(path=tmp_path / "spec.yaml", tracking_uri="")


@pytest.fixture
def ledger(job: Job) -> Iterator[Ledger]:
    """Of three complete trials above the baseline."""
    with closing(open_ledger(job.store.folder, job.spec, Origin(dataset="d", code="c"))) as ledger:
        ledger.hold_baseline(BASELINE)
        for value in (53.0, 52.0, 51.0):
            number = ledger.propose()
            assert number is not None
            ledger.note(number, Account(run_id=f"run {number}"))
            ledger.report(number, 8, value)
            ledger.finish(number, TrialState.COMPLETE)
        yield ledger


class TestASweepOneOfWhoseTrialsIsTheChampion:
    """Trial 0 sits there; trials 1 and 2 are trained again beside it."""

    @pytest.fixture
    def judged(self, monkeypatch: pytest.MonkeyPatch, champion: Champion) -> list[tuple[int, ...]]:
        """The candidates of each plan that was carried out; all are ahead, by as many points as their number."""
        plans = []

        def train(job: Job, ledger: Ledger, tasks: Any, concurrency: int, plan: Any, planned: list[Planned]) -> None:
            plans.append(tuple(plan.candidates))
            ledger.plan_confirmations(planned)
            for row in ledger.confirmations():
                arm = str(row.trial).removeprefix("confirm-").rpartition("-s")[0]
                ahead = float(arm) if arm.isdecimal() else 0.0
                ledger.hold_confirmation(replace(row, state=TrialState.COMPLETE, curve={8: 50.0 + ahead}))

        monkeypatch.setattr(confirm, "train", train)
        monkeypatch.setattr(confirm, "figures_on_test", lambda *_: {})
        monkeypatch.setattr(confirm, "champion_to_beat", lambda *_: replace(champion, run_id="run 0"))
        return plans

    def test_is_judged_once(
        self,
        job: Job,
        ledger: Ledger,
        judged: list[tuple[int, ...]],
        champion: Champion,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        tasks = SweepTasks(document=job.document, store=job.store, tracking_uri="", epoch=ledger.ownership.epoch)
        first = confirm_best(job, ledger, tasks, 1)
        assert first and (first.ahead, first.left_out) == (2, 0)
        # By now the winner sits there.
        monkeypatch.setattr(confirm, "champion_to_beat", lambda *_: replace(champion, run_id="run 2"))
        again = confirm_best(job, ledger, tasks, 1)
        assert judged == [(1, 2)]
        assert again == first


def test_of_registered_trials_the_verdict_is_kept_though_none_is_promoted(
    job: Job, ledger: Ledger, client: MlflowClient
) -> None:
    seconds = client.create_run(client.create_experiment("probe")).info
    ledger.note(1, Account(run_id=seconds.run_id))
    client.create_registered_model("things")
    source = f"{seconds.artifact_uri}/model"
    client.create_model_version("things", source, run_id=seconds.run_id, tags={KEY_TAG: "shapes-demo/1"})
    values = {number: dict.fromkeys(range(6), 50.0) for number in (0, 1, 2)}
    gate = judge(Confirm(), values, {SUPERVISED.told: dict.fromkeys(range(6), 51.0)})

    verdict = verdict_of(ledger.rows(), ledger.baseline())
    assert crown_best(replace(job, tracking_uri=client.tracking_uri), ledger, verdict, gate) is None

    assert read_verdict(client, "things@1") == gate
