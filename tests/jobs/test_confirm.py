"""Which trials are confirmed, by which specs, and against whom."""

from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from advseg.jobs import confirm, judge_on_test
from advseg.jobs.confirm import (
    candidates_of,
    champion_document,
    champion_to_beat,
    confirm_best,
    document_of,
    with_figures,
)
from advseg.jobs.sweep import crown_best
from advseg.models.architectures import IMAGENET, CompactSettings, build_segmenter
from advseg.models.bundle import save
from advseg.models.card import Card
from advseg.platform.cluster.driver import Job
from advseg.platform.gate.plan import SUPERVISED, champion_arm, trial_arm
from advseg.platform.gate.verdict import Gate, Incumbent, Outcome, judge
from advseg.platform.ledger.confirmations import Planned
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.opening import open_ledger
from advseg.platform.ledger.origin import Origin
from advseg.platform.ledger.rows import BASELINE_NUMBER, Row, Verdict, verdict_of
from advseg.platform.registry.champion import Champion
from advseg.platform.registry.promotion import Standing, protocol_of
from advseg.platform.registry.registry import pull
from advseg.platform.registry.verdicts import read_verdict
from advseg.platform.spec.confirm import Confirm
from advseg.platform.spec.spec import Spec, confirmed, spec_from
from advseg.platform.spec.spec_file import load_spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.sweep.tasks import SweepTasks
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import KEY_TAG, ensure_run
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


def test_candidates_are_so_many_of_each_arm() -> None:
    rows = [replace(row(n, 51.0 + n), arm="ab"[n // 4]) for n in range(8)]
    assert candidates_of(TWO, rows, BASELINE) == [7, 6, 3, 2]


def test_a_candidate_of_an_arm_is_trained_by_the_method_of_that(document: dict[str, Any]) -> None:
    space = document["sweep"]["space"]
    document["sweep"] |= {"trials": None, "space": {}, "first": []}
    document["sweep"]["confirm"] |= {"candidates": 1, "seeds": 6}
    document["sweep"]["arms"] = {
        "one": {"method": {**document["method"], "semi_start": 7}, "trials": 1, "space": space},
        "other": {"method": {**document["method"], "semi_start": 9}, "trials": 1, "space": space},
    }
    rows = {4: replace(row(4, 60.0, **{"method.lambda_adv": 0.5}), arm="other")}
    found = spec_from(document_of(document, trial_arm(4), 9, rows, None))
    assert (found.method.semi_start, found.method.lambda_adv, found.trainer.seed) == (9, 0.5, 9)
    assert found.sweep and found.sweep.arms is None

    tasks = SweepTasks(document=document, store=LocalStore(Path()), tracking_uri="", epoch=1)
    task = tasks.of(rows[4])
    assert (task.spec["method"]["semi_start"], task.spec["method"]["lambda_adv"]) == (9, 0.5)
    assert task.identity.tags == {"advseg.arm": "other"}
    assert task.identity.params["method.semi_start"] == 9
    config = {"number": 4, "arm": "one", "params": {}, "attempt": 1, "halvings": 0}
    assert tasks.configured(config).spec["method"]["semi_start"] == 7


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
    return Champion(standing=Standing(version="2", dataset="ab", protocol=None, run="r"), spec=spec)


def test_a_candidate_is_the_trial_with_another_seed(document: dict[str, Any]) -> None:
    rows = {4: row(4, 60.0, **{"method.lambda_adv": 0.5})}
    found = document_of(document, trial_arm(4), 9, rows, None)
    assert spec_from(found) == spec_from(document).with_values({"method.lambda_adv": 0.5, "trainer.seed": 9})


def test_the_baseline_is_the_spec_without_its_method(document: dict[str, Any]) -> None:
    found = spec_from(document_of(document, SUPERVISED, 9, {}, None))
    assert (found.method.name, found.trainer.seed) == ("supervised", 9)
    assert found.model_copy(update={"trainer": spec_from(document).trainer}) == spec_from(document).supervised()


def test_the_champion_is_its_own_spec_for_as_many_steps(document: dict[str, Any], champion: Champion) -> None:
    found = spec_from(document_of(document, champion_arm("2", "r"), 9, {}, champion))
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
    return Job(path=write(spec, tmp_path / "spec.yaml"), tracking_uri="http://127.0.0.1:9")


def write(spec: Spec, path: Path) -> Path:
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    return path


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


def from_run(champion: Champion, run: str) -> Champion:
    return replace(champion, standing=replace(champion.standing, run=run))


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
        monkeypatch.setattr(confirm, "champion_to_beat", lambda *_: (from_run(champion, "run 0"), ""))
        return plans

    def test_is_judged_once(
        self,
        job: Job,
        ledger: Ledger,
        judged: list[tuple[int, ...]],
        champion: Champion,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        tasks = SweepTasks(document=job.document, store=job.store, tracking_uri="", epoch=ledger.ownership.epoch)
        first = confirm_best(job, ledger, tasks, 1)
        assert first and (first.ahead, first.left_out) == (2, 0)
        # By now the winner sits there.
        monkeypatch.setattr(confirm, "champion_to_beat", lambda *_: (from_run(champion, "run 2"), ""))
        again = confirm_best(job, ledger, tasks, 1)
        assert judged == [(1, 2)]
        assert again == first
        assert "judged on these seeds before" in capsys.readouterr().out

    def test_is_not_judged_on_what_earlier_looks_have_not_left(
        self, job: Job, ledger: Ledger, judged: list[tuple[int, ...]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        tasks = SweepTasks(document=job.document, store=job.store, tracking_uri="", epoch=ledger.ownership.epoch)
        first = confirm_best(job, ledger, tasks, 1)
        more = replace(job, path=write(job.spec.with_values({"sweep.confirm.seeds": 7}), job.path))
        assert confirm_best(more, ledger, tasks, 1) == first
        assert judged == [(1, 2)]
        assert "left too little of alpha = 0.05 for 7 seeds" in capsys.readouterr().out

    def test_is_judged_beside_the_champion_of_another_model_if_that_is_asked_for(
        self, job: Job, ledger: Ledger, judged: list[tuple[int, ...]]
    ) -> None:
        tasks = SweepTasks(document=job.document, store=job.store, tracking_uri="", epoch=ledger.ownership.epoch)
        confirm_best(job, ledger, tasks, 1)
        asked = {"sweep.register_as": "others", "sweep.confirm.seeds": 12}
        other = replace(job, path=write(job.spec.with_values(asked), job.path))
        gate = confirm_best(other, ledger, tasks, 1)
        assert gate and gate.champion
        assert gate.champion.model == "others"
        assert len(judged) == 2


class TestFiguresOnTestImages:
    """Of a gate that was passed, with a champion among the rivals."""

    GATE = Gate(
        outcome=Outcome.PROMOTED,
        reason="",
        ahead=0,
        candidates=(),
        rivals={},
        confirm=Confirm(),
        champion=Incumbent(model="things", version="2", run="r"),
    )

    @pytest.fixture
    def with_test(self, job: Job) -> Job:
        return replace(job, path=write(job.spec.with_values({"dataset.test": "test"}), job.path))

    def test_are_held_one_by_one_and_made_once(
        self, with_test: Job, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def until_killed(job: Job, ledger: Ledger, gate: Gate) -> Iterator[tuple[str, float]]:
            yield "trial 0", 60.0
            raise KeyboardInterrupt

        monkeypatch.setattr(confirm, "missing_figures", until_killed)
        with pytest.raises(KeyboardInterrupt):
            with_figures(with_test, ledger, self.GATE)
        assert ledger.gate
        held = Gate.from_json(ledger.gate)
        assert held == replace(self.GATE, test={"trial 0": 60.0})
        asked: list[str] = []
        monkeypatch.setattr(judge_on_test, "_models", lambda *_: {"trial 0": {}, "the supervised baseline": {}})
        monkeypatch.setattr(judge_on_test, "_asked", lambda job, models: asked.extend(models) or {})
        assert list(judge_on_test.missing_figures(with_test, ledger, held)) == []
        assert asked == ["the supervised baseline"]

    def test_of_a_champion_come_from_the_driver_which_alone_may_ask(
        self, with_test: Job, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        folder = tmp_path / "pulled"
        (folder / "weights").mkdir(parents=True)
        (folder / "weights" / "a").write_bytes(b"1")
        monkeypatch.setattr(judge_on_test, "find_source", lambda *_: SimpleNamespace(run_id="r"))
        monkeypatch.setattr(judge_on_test, "pulled", lambda *_: nullcontext(folder))
        models = judge_on_test._models(with_test, ledger, self.GATE)
        assert models["the champion, version 2"] == {"weights/a": b"1"}

    def test_of_a_champion_that_is_gone_are_left_out(
        self, with_test: Job, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(judge_on_test, "find_source", lambda *_: SimpleNamespace(run_id="another"))
        models = judge_on_test._models(with_test, ledger, self.GATE)
        assert list(models) == ["trial 0", "the supervised baseline"]
        assert "things@2 is another model by now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"dataset": "other"}, "the champion, version 2, was judged on other data"),
        ({"run": None}, "the champion, version 2, came of no run"),
    ],
)
def test_of_a_champion_that_is_no_rival_it_is_told_why(
    job: Job, champion: Champion, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], told: str
) -> None:
    protocol = protocol_of(job.document)
    sitting = replace(champion, standing=replace(champion.standing, protocol=protocol, **changed))
    monkeypatch.setattr(confirm, "sitting_champion", lambda *_: sitting)
    tasks = SweepTasks(document=job.document, store=job.store, tracking_uri="", epoch=1, dataset="ab")
    assert champion_to_beat(job, Confirm(), tasks) == (None, told)
    seeds = range(6)
    gate = judge(Confirm(), {0: dict.fromkeys(seeds, 60.0)}, {SUPERVISED.told: dict.fromkeys(seeds, 50.0)}).beside(told)
    assert gate.outcome is Outcome.CANDIDATE
    assert gate.passes
    assert gate.reason.endswith(f"p = 0.0156; {told}")


@pytest.mark.parametrize("override", ["sweep.register_as=things", "sweep.register_as=null"])
def test_the_model_of_the_best_trial_is_kept_though_it_does_not_beat_the_baseline(
    job: Job, ledger: Ledger, client: MlflowClient, tmp_path: Path, override: str
) -> None:
    here = replace(job, tracking_uri=client.tracking_uri, path=write(demo(override, f"storage={tmp_path}"), job.path))
    best = verdict_of(ledger.rows(), ledger.baseline()).best
    assert best
    key = f"shapes-demo/{best.number}"
    ensure_run(client, RunIdentity(experiment="shapes-demo", key=key))
    settings = CompactSettings(width=8)
    card = Card(
        segmenter=settings,
        discriminator=None,
        classes=("a", "b"),
        palette=((0, 0, 0), (1, 1, 1)),
        ignore_index=255,
        normalisation=IMAGENET,
    )
    save(tmp_path / "model", card, build_segmenter(settings, 2).state_dict(), None)
    job.store.at(key).put(tmp_path / "model", "model")

    assert crown_best(here, ledger, Verdict(best=best, baseline=99.0), None) is None

    assert pull(client, key, tmp_path / "pulled")[0] == f"the model of {key}"
    with pytest.raises(UserError, match="there is no model shapes-demo@champion: no trial of shapes-demo became one"):
        pull(client, "shapes-demo@champion")


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
