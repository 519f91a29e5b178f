"""A registered model is trained again from what the registry knows, and is the same to the bit or is told not to be."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import RunTag
from mlflow.tracking import MlflowClient

from advseg.jobs.reproduce_model import spec_of
from advseg.jobs.reproduced import Compared, refuse_differing
from advseg.jobs.train import train
from advseg.models import load
from advseg.models.bundle import read_card, save
from advseg.models.card import Card
from advseg.models.manifest import write_directory
from advseg.platform.base.code_digest import TRAINING, code_digest
from advseg.platform.base.environment import Environment, environment_of
from advseg.platform.registry.made import Made
from advseg.platform.registry.registering import register
from advseg.platform.registry.registry import Record
from advseg.platform.spec.spec_file import load_spec
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run
from advseg.trainers.errors import NotReproducedError, UserError
from advseg.trainers.reporter import Reporters

Command = Callable[..., tuple[int, str, str]]
Register = Callable[..., str]


@pytest.fixture
def put(tracking: MlflowClient, model: Path, tmp_path: Path) -> Register:
    """Registers the model, with what a test changes of its card and its runs; gives its address."""

    def registered(change: Callable[[Card], Card] = lambda card: card, path: Path = model, **tags: str) -> str:
        loaded = load(path)
        judge = loaded.discriminator and loaded.discriminator.state_dict()
        folder = tmp_path / "changed"
        save(folder, change(loaded.card), loaded.segmenter.state_dict(), judge)
        sweep = ensure_run(tracking, RunIdentity(experiment="probe", key="probe"))
        tracking.log_batch(sweep, tags=[RunTag(name.replace("_", "."), value) for name, value in tags.items()])
        run_id = ensure_run(tracking, RunIdentity(experiment="probe", key="probe/0", parent="probe"))
        register(tracking, folder, "shapes", run_id, "probe/0", None, lambda: None)
        return "models:/shapes@candidate"

    return registered


def with_environment(**values: Any) -> Callable[[Card], Card]:
    def changed(card: Card) -> Card:
        environment = {**card.lineage["environment"], **values}
        return replace(card, lineage={**card.lineage, "environment": environment})

    return changed


def with_spec(section: str, **values: Any) -> Callable[[Card], Card]:
    def changed(card: Card) -> Card:
        spec = card.lineage["spec"]
        return replace(card, lineage={**card.lineage, "spec": {**spec, section: {**spec[section], **values}}})

    return changed


def test_it_is_the_same_to_the_bit_from_the_registry_alone(
    advseg: Command, put: Register, model: Path, tmp_path: Path
) -> None:
    status, out, err = advseg("reproduce", put())
    assert (status, err) == (0, "")
    first, *reports, last = [line for line in out.splitlines() if line.startswith(("training", "step", "shapes"))]
    assert first.endswith("the same command goes on if it is interrupted")
    assert [line.split()[1] for line in reports] == ["2/4", "4/4"]
    count = len(load(model).card.metrics)
    assert last == f"shapes version 1 is reproduced to the bit: {count} figures and 2 files of weights are equal"
    (folder,) = (tmp_path / "home" / "reproduce" / "models").iterdir()
    assert folder.name.startswith("shapes-1-")
    assert (folder / "model" / "segmenter.safetensors").read_bytes() == (model / "segmenter.safetensors").read_bytes()


@pytest.mark.parametrize("harm", ["damaged", "gone", "not listed"])
def test_a_model_whose_weights_are_not_those_of_its_manifest_is_refused(
    advseg: Command, put: Register, tmp_path: Path, harm: str
) -> None:
    address = put()
    (weights,) = (path for path in tmp_path.rglob("segmenter.safetensors") if "changed" not in path.parts)
    match harm:
        case "damaged":
            weights.write_bytes(weights.read_bytes()[:-1] + b"!")
        case "gone":
            weights.unlink()
        case "not listed":
            (tmp_path / "card").mkdir()
            card = (weights.parent / "model.json").read_bytes()
            write_directory(tmp_path / "card", lambda folder: (folder / "model.json").write_bytes(card))
            shutil.copytree(tmp_path / "card", weights.parent, dirs_exist_ok=True)
    status, out, err = advseg("reproduce", address)
    assert (status, out) == (2, "")
    assert err.startswith("error: shapes@candidate is not whole: ")
    assert "segmenter.safetensors" in err
    assert len(err.splitlines()) == 1


DYING = """
import os, signal
from advseg.jobs.cli.main import main
from advseg.trainers.loop import Training

goes_on = Training._must_stop

def die(self):
    if (self.world.rank, self.step, os.environ["TORCHELASTIC_RESTART_COUNT"]) == (1, 3, "0"):
        os.kill(os.getpid(), signal.SIGKILL)
    return goes_on(self)

Training._must_stop = die
main()
"""
"""The program, whose second process is killed after the third step when it is started first."""


def test_what_torchrun_trained_is_that_of_one_process_and_is_reproduced_by_as_many(
    advseg: Command, put: Register, spec: Path, tmp_path: Path
) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    run = tmp_path / "run"
    verb = ["train", str(spec), "--to", str(run), "--set", "trainer.precision=float64"]
    # Six processes import PyTorch in this test, which takes a minute of a busy machine with two cores.
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    started = subprocess.run(
        [sys.executable, "-m", *launcher, "dying.py", *verb],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )

    assert started.returncode == 0, started.stderr
    said = "error: another process of this training was killed, perhaps for want of memory: make room, and the "
    assert [line[: len(said)] for line in started.stderr.splitlines() if "error: " in line] == [said]
    assert "\nresumed from " in started.stderr
    assert [line.split()[1] for line in started.stdout.splitlines()[:-1]] == ["2/4", "4/4"]
    train(load_spec(spec, ["trainer.precision=float64"]), tmp_path / "one", Reporters())
    assert figures_in(run) == [pytest.approx(each, rel=1e-9, abs=1e-9) for each in figures_in(tmp_path / "one")]

    assert load(run / "model").card.lineage["environment"]["workers"] == 2
    status, out, err = advseg("reproduce", put(path=run / "model"))
    assert (status, err) == (0, "")
    assert out.endswith("2 files of weights are equal\n")


def figures_in(run: Path) -> list[dict[str, float]]:
    """Losses and what was found by the validation images, report by report."""
    reports = (json.loads(line)["metrics"] for line in (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in each.items() if name.startswith(("loss/", "val/"))} for each in reports]


def test_it_goes_on_where_it_was_killed(
    advseg: Command, put: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = put()

    class Killed(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("advseg.trainers.reporter.ConsoleReporter.report", lambda _, r: kill() if r.step == 4 else None)
        with pytest.raises(Killed):
            advseg("reproduce", address, "--to", "again")
    assert [path.name for path in (tmp_path / "again" / "checkpoints").iterdir()] == ["step-00000002"]
    status, out, _ = advseg("reproduce", address, "--to", "again")
    assert status == 0
    assert "step 2/4" not in out


def test_a_folder_of_something_else_is_refused(advseg: Command, put: Register, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    status, _, err = advseg("reproduce", put(), "--to", "mine")
    assert (status, err) == (2, "error: mine is not empty: name another folder with --to\n")
    (tmp_path / "mine" / "reproduces.json").write_text("{}")
    status, _, err = advseg("reproduce", "models:/shapes@candidate", "--to", "mine")
    assert (status, err.partition(",")[0]) == (2, "error: mine holds the training of another model")


def test_data_that_moved_is_named_and_must_be_the_same(
    advseg: Command, put: Register, shapes: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shapes, copy)
    address = put(with_spec("dataset", root="/nowhere", pack="/nowhere/pack"))
    status, _, err = advseg("reproduce", address)
    assert status == 2
    assert "dataset.pack: folder /nowhere/pack does not exist" in err
    assert advseg("reproduce", address, "--set", "dataset.root=copy")[0] == 0

    image = sorted((copy / "JPEGImages").iterdir())[0]
    content = bytearray(image.read_bytes())
    # Of its quantisation: it can be decoded as before.
    content[content.index(b"\xff\xdb") + 40] ^= 1
    image.write_bytes(bytes(content))
    status, out, err = advseg("reproduce", address, "--set", "dataset.root=copy")
    assert status == 2
    assert "step" not in out
    digest = load(tmp_path / "changed").card.lineage["dataset_digest"]
    assert f", but shapes version 1 was trained on {digest[:12]}: restore it" in err
    assert err.startswith(f"error: dataset {copy} has digest ")


def test_nothing_but_places_may_be_set(advseg: Command, put: Register) -> None:
    status, _, err = advseg("reproduce", put(), "--set", "trainer.steps=2")
    assert status == 2
    assert err.startswith("error: --set trainer.steps=2 would train another model than shapes version 1: only where")


def test_start_weights_are_known_by_their_digest(
    advseg: Command, put: Register, spec: Path, model: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start.safetensors"
    shutil.copy(model / "segmenter.safetensors", start)
    train(load_spec(spec, [f"model.weights={start}"]), tmp_path / "run", Reporters())
    start = start.rename(tmp_path / "moved.safetensors")
    address = put(path=tmp_path / "run" / "model")
    assert advseg("reproduce", address, "--set", "model.weights=moved.safetensors")[0] == 0
    with start.open("ab") as file:
        file.write(b" ")
    status, _, err = advseg("reproduce", address, "--set", "model.weights=moved.safetensors")
    assert status == 2
    assert err.startswith(f"error: start weights {start} have digest ")


def test_other_code_is_refused_with_how_to_get_that_of_then(advseg: Command, put: Register) -> None:
    address = put(with_environment(code="0" * 64, advseg="0.1.7"), mlflow_source_git_commit="abc123")
    status, out, err = advseg("reproduce", address)
    assert (status, out) == (1, "")
    assert "trained by other code in models/ and trainers/ (digest 000000000000, here " in err
    assert "by `pip install advseg==0.1.7` or `git checkout abc123`; --any-code shows" in err
    status, out, err = advseg("reproduce", address, "--any-code")
    assert (status, err) == (0, "")
    assert f"code: {'0' * 64} then, " in out


def test_changes_that_no_commit_holds_are_named(advseg: Command, put: Register, tracking: MlflowClient) -> None:
    address = put(with_environment(code="0" * 64), mlflow_source_git_commit="abc123")
    (sweep,) = tracking.search_runs(["1"], "tags.`advseg.key` = 'probe'")
    tracking.log_text(sweep.info.run_id, "+", "code.diff")
    err = advseg("reproduce", address)[2]
    assert f"`git checkout abc123` with the changes in code.diff of MLflow's run {sweep.info.run_id}; " in err


def test_another_torch_is_told_and_blamed_where_figures_differ(advseg: Command, put: Register) -> None:
    def changed(card: Card) -> Card:
        card = with_environment(torch="1.0.0", device="cuda", hardware="NVIDIA H100")(card)
        return replace(card, metrics={**card.metrics, "val/miou": card.metrics["val/miou"] + 1})

    status, out, err = advseg("reproduce", put(changed))
    assert status == 1
    assert "torch: 1.0.0 then, " in out
    assert "device: cuda then, cpu here\nhardware: NVIDIA H100 then, " in out
    assert line_of(out, "val/miou").endswith("differs")
    assert line_of(out, "segmenter.safetensors").endswith("equal")
    assert " 1 differ (val/miou); it may be of torch (1.0.0 then, " in err


def test_one_bit_of_one_figure_is_enough(advseg: Command, put: Register) -> None:
    def changed(card: Card) -> Card:
        miou = float(np.nextafter(card.metrics["val/miou"], math.inf))
        return replace(card, metrics={**card.metrics, "val/miou": miou})

    status, _, err = advseg("reproduce", put(changed))
    assert status == 1
    assert "1 differ (val/miou); though code, torch, hardware, workers and threads are those of then" in err


def test_a_model_of_an_older_version_is_tried_with_what_is_not_known(advseg: Command, put: Register) -> None:
    def older(card: Card) -> Card:
        lineage = {key: value for key, value in card.lineage.items() if key != "environment"}
        return with_spec("trainer", speed={"augment_on_device": False})(replace(card, lineage=lineage))

    address = put(older, advseg_code=code_digest(TRAINING))
    status, out, _ = advseg("reproduce", address)
    assert status == 0
    unknown = "advseg, torch, device, hardware, workers, threads, halvings"
    assert f"not known, as an older version of advseg registered it: {unknown}\n" in out
    put(older, advseg_code="0" * 64)
    assert advseg("reproduce", address)[0] == 1


@pytest.mark.parametrize("lineage", [{}, {"spec": {"name": "x"}}, {"spec": {"name": "x", "trainer": {}}}])
def test_a_model_without_a_spec_is_refused(model: Path, lineage: dict[str, Any]) -> None:
    card = replace(read_card(model), lineage=lineage)
    record = Record(description="shapes version 1", folder="shapes-1", run_id=None, card=card, sums={})
    made = Made(record=record, environment=Environment(), commit=None, diff_of=None)
    with pytest.raises(UserError, match=r"^shapes version 1 does not say by which spec it was trained"):
        spec_of(made, [])


@pytest.mark.parametrize("option", ["voc-1-8/semi", "--on=shapes", "--seeds=2", "--processes=2"])
def test_what_is_of_tables_is_refused_for_a_model(advseg: Command, option: str) -> None:
    status, _, err = advseg("reproduce", "models:/shapes@1", option)
    assert (status, "are of tables" in err) == (2, True)
    status, _, err = advseg("reproduce", "voc", "--any-code")
    assert (status, "are of registered models" in err) == (2, True)


def test_nobody_vouches_for_an_environment() -> None:
    assert environment_of({"torch": 3, "workers": 10**9, "threads": True, "halvings": 0, "code": "ab"}) == Environment(
        code="ab", halvings=0
    )


def test_what_is_not_a_number_is_equal_to_itself() -> None:
    nan = float("nan")
    here = Environment()
    compared = Compared(
        model="x", folder=Path(), metrics={"a": (nan, nan)}, weights={"w": ("1", "1")}, then=here, here=here
    )
    told = "x is reproduced to the bit: 1 figure and 1 file of weights are equal"
    assert refuse_differing(compared) == told
    for metrics in ({"a": (nan, 1.0)}, {"a": (1.0, None)}, {"a": (nan, None)}):
        with pytest.raises(NotReproducedError, match=r"differ \(a\)"):
            refuse_differing(replace(compared, metrics=metrics))


def line_of(out: str, beginning: str) -> str:
    (line,) = [line for line in out.splitlines() if line.startswith(beginning)]
    return line.rstrip()
