"""The program as a user types it: its help, and what it says to mistakes."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
import yaml

from advseg.jobs.cli import main
from advseg.jobs.cli.main import app
from advseg.models.model import Model, Prediction
from advseg.platform.cluster.submit import Submitted
from advseg.platform.spec.spec import Spec
from advseg.platform.spec.spec_file import load_spec

Command = Callable[..., tuple[int, str, str]]


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from verbs(child, (*path, name))


VERBS = dict(verbs(typer.main.get_command(app)))


def said(text: str) -> str:
    """What was printed, without frames and line ends."""
    return " ".join(re.sub("[╭─╮│╰╯]", " ", text).split())


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_command_has_help_and_says_all_that_is_written_of_it(
    advseg: Command, verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")  # no word is parted

    status, out, err = advseg(*verb, "--help")

    assert (status, err) == (0, "")
    assert said(out).startswith(f"Usage: {' '.join(('advseg', *verb))} [OPTIONS]")
    command = VERBS[verb]
    assert " ".join(command.help.split()) in said(out)
    for option in command.params:
        assert option.help, option.name
        assert option.help in said(out)


@pytest.mark.parametrize("verb", [verb for verb, command in VERBS.items() if not hasattr(command, "commands")])
def test_every_verb_has_an_example_of_itself(verb: tuple[str, ...]) -> None:
    assert f"Example: `advseg {' '.join(verb)}" in VERBS[verb].help


def test_help_is_in_groups(advseg: Command) -> None:
    _, out, _ = advseg("--help")
    assert re.findall(r"╭─ (\w+) ", out) == ["Options", "Services", "Data", "Train", "Sweeps", "Models"]


def test_says_its_version(advseg: Command) -> None:
    assert advseg("--version")[:2] == (0, f"advseg {version('advseg')}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completes_verbs_in_a_shell(shell: str) -> None:
    typed = "advseg sweep s"
    environment = {
        **os.environ,
        "_ADVSEG_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": typed,
        "COMP_CWORD": "2",
        "_TYPER_COMPLETE_ARGS": typed,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run([sys.executable, "-m", "advseg.jobs.cli"], capture_output=True, text=True, env=environment)
    assert {"show", "stop"} <= set(re.findall(r"\w+", done.stdout))
    assert "report" not in done.stdout


@pytest.mark.parametrize("verb", [(), ("sweep",), ("models",)], ids=" ".join)
def test_without_a_verb_there_is_help(advseg: Command, verb: tuple[str, ...]) -> None:
    status, out, err = advseg(*verb)
    assert (status, err) == (2, "")
    assert "Usage: " in out


def test_help_imports_nothing_slow() -> None:
    program = """
import sys
from advseg.jobs.cli.main import main
sys.argv = ["advseg", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code
slow = {"torch", "ray", "mlflow", "optuna", "numpy", "pyarrow", "pydantic", "cv2"}
print(sorted(slow & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_threads_leave_their_cores_to_others_while_they_wait_unless_the_user_says_otherwise(monkeypatch, given) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(main, "guard_output", lambda: None)
    monkeypatch.setattr(main, "exit_status", lambda run: 0)
    with pytest.raises(SystemExit):
        main.main()
    assert os.environ["OMP_WAIT_POLICY"] == (given or "PASSIVE")


def mistake(result: tuple[int, str, str]) -> str:
    """The one error of a command that ended as a user's mistake should."""
    status, _, err = result
    assert status == 2
    assert "Traceback" not in err
    assert err.count("error: ") == 1
    assert err.startswith("error: ")
    return err.removeprefix("error: ").removesuffix("\n")


NO_MLFLOW, NO_RAY = "the MLflow server does not run in ", "the Ray head does not run in "


class TestWithoutServices:
    def test_submit_asks_for_them(self, advseg: Command, spec: Path) -> None:
        assert mistake(advseg("submit", spec)).startswith(NO_RAY)

    def test_submit_checks_the_spec_first(self, advseg: Command, spec: Path) -> None:
        assert "trainer.steps: must be at least 1, but is 0" in mistake(advseg("submit", spec, "--set=trainer.steps=0"))

    def test_submit_forks_no_training(self, advseg: Command, spec: Path) -> None:
        said = f"--fork begins a sweep, but {spec} is a single training (job: train): leave it out"
        assert mistake(advseg("submit", spec, "--fork=old")) == said

    def test_submit_looks_for_no_dataset_before_it_knows_the_cluster(self, advseg: Command, spec: Path) -> None:
        assert mistake(advseg("submit", spec, "--set=dataset.root=/data/voc")).startswith(NO_RAY)

    @pytest.mark.parametrize(
        ("command", "missing"),
        [
            *((f"job {verb} x", NO_RAY) for verb in ("logs", "follow", "stop", "wait")),
            ("job list", NO_RAY),
            ("sweep stop x", NO_RAY),
            ("models list", NO_MLFLOW),
            ("models show a@b", NO_MLFLOW),
            ("models pull a@b --to q", NO_MLFLOW),
            ("compare a/1", NO_MLFLOW),
            ("predict a@b . --to q", NO_MLFLOW),
        ],
    )
    def test_what_needs_one_of_them_asks_for_that(self, advseg: Command, command: str, missing: str) -> None:
        assert mistake(advseg(*command.split())).startswith(missing)

    def test_status_says_so(self, advseg: Command) -> None:
        status, out, err = advseg("status")
        assert (status, err) == (0, "")
        assert NO_RAY in out

    def test_status_says_where_the_environment_names_one(
        self, advseg: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.org")
        assert "elsewhere  http://mlflow.example.org" in advseg("status")[1]

    def test_show_of_an_unknown_sweep_names_the_known_ones(self, advseg: Command, tmp_path: Path) -> None:
        expected = (
            f"there is no sweep x in {tmp_path / 'home' / 'runs'}; known sweeps: none yet; a team's ledger is named by "
            f"--ledger or ADVSEG_LEDGER"
        )
        assert mistake(advseg("sweep", "show", "x")) == expected

    def test_show_of_a_broken_ledger_names_it(self, advseg: Command, tmp_path: Path) -> None:
        (tmp_path / "ledger.db").write_text("this is no database, however long it goes on")
        assert "ledger.db cannot be read" in mistake(advseg("sweep", "show", "x", "--storage", tmp_path))

    @pytest.mark.parametrize("verb", ["sweep list", "sweep show x", "sweep report x", "sweep resume x", "sync"])
    def test_the_ledger_is_the_teams_without_an_option(
        self, advseg: Command, monkeypatch: pytest.MonkeyPatch, verb: str
    ) -> None:
        monkeypatch.setenv("ADVSEG_LEDGER", "postgresql://team@127.0.0.1:9/advseg")
        said = mistake(advseg(*verb.split()))
        assert said.startswith("ledger postgresql://...@127.0.0.1:9/advseg cannot be read (connection failed: ")

    @pytest.mark.parametrize(
        "verb", ["sweep list", "sweep show x", "sweep report x", "sweep resume x", "sweep retry x"]
    )
    def test_storage_in_s3_asks_for_the_ledger_of_it(self, advseg: Command, verb: str) -> None:
        said = mistake(advseg(*verb.split(), "--storage", "s3://bucket/runs"))
        assert said.startswith("a storage in S3 has its ledger elsewhere: name that by --ledger postgresql://")


def test_a_sweep_is_resumed_in_the_ledger_that_was_asked(
    advseg: Command, jobs: Any, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = "postgresql://team@host/advseg"
    submitted: list[Spec] = []

    def submit(client: Any, spec: Spec, *_: Any) -> Submitted:
        submitted.append(spec)
        return Submitted(id="tiny-1", is_new=True)

    monkeypatch.setattr("advseg.platform.cluster.submit.submit", submit)
    monkeypatch.setattr("advseg.platform.ledger.reading.read_spec", lambda *_: load_spec(spec))
    assert advseg("sweep", "resume", "tiny", "--ledger", asked)[0] == 0
    assert [each.ledger for each in submitted] == [asked]


class TestTrain:
    def test_of_a_missing_spec(self, advseg: Command) -> None:
        assert mistake(advseg("train", "no.yaml")) == "spec no.yaml does not exist"

    def test_of_a_malformed_override(self, advseg: Command, spec: Path) -> None:
        assert "must have the form key=value" in mistake(advseg("train", spec, "--set", "trainer.steps"))

    def test_of_a_broken_dataset_lists_all_problems(
        self, advseg: Command, document: dict[str, Any], shapes: Path, tmp_path: Path
    ) -> None:
        broken = tmp_path / "broken"
        shutil.copytree(shapes, broken)
        first, second, *_ = sorted((broken / "JPEGImages").iterdir())
        first.write_text("no image")
        second.unlink()
        document = {**document, "dataset": {**document["dataset"], "root": str(broken)}}
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(document))
        lines = mistake(advseg("train", "spec.yaml")).splitlines()
        assert lines[0] == f"2 problems in dataset {broken}:"
        assert any(str(first) in line for line in lines)
        assert any(str(second) in line for line in lines)

    @pytest.mark.parametrize("to", ["file", "file/below"])
    def test_into_a_file(self, advseg: Command, spec: Path, tmp_path: Path, to: str) -> None:
        (tmp_path / "file").write_text("mine")
        assert mistake(advseg("train", spec, "--to", to)).startswith("file")
        assert (tmp_path / "file").read_text() == "mine"

    def test_that_diverges_names_the_term(self, advseg: Command, spec: Path) -> None:
        status, _, err = advseg("train", spec, "--to", "run", "--set=trainer.segmenter_optimizer={name: sgd, lr: 1e30}")
        assert status == 1
        assert err.startswith("error: ")
        assert "became NaN or infinite at step" in err

    def test_says_where_the_model_is(self, advseg: Command, spec: Path, tmp_path: Path) -> None:
        status, out, _ = advseg("train", spec, "--set=trainer.steps=1")
        assert status == 0
        assert out.endswith(f"model in {tmp_path / 'home' / 'runs' / 'tiny' / 'local' / 'model'}\n")


class TestShapes:
    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("--labelled=0", "--labelled must be at least 1, but is 0"),
            ("--size=5", "--size must be in [16, 512], but is 5"),
            ("--seed=-1", "--seed must be in [0, 9.22337e+18), but is -1"),
        ],
    )
    def test_with_numbers_out_of_range(self, advseg: Command, option: str, message: str) -> None:
        assert mistake(advseg("data", "shapes", "new", option)) == message

    def test_with_a_word_for_a_number(self, advseg: Command) -> None:
        status, _, err = advseg("data", "shapes", "new", "--labelled=many")
        assert status == 2
        assert "Invalid value for '--labelled'" in err

    def test_over_something_else(self, advseg: Command, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "file").touch()
        assert mistake(advseg("data", "shapes", "mine")).startswith("mine holds something else")

    def test_below_a_file(self, advseg: Command, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert mistake(advseg("data", "shapes", "file/new")).startswith("file/")

    def test_twice_writes_once(self, advseg: Command) -> None:
        small = [f"--{part}=1" for part in ("labelled", "unlabelled", "val", "test")]
        assert advseg("data", "shapes", "new", "--size=16", *small)[:2] == (0, "4 images of 16 x 16 written to new\n")
        again = "4 images of 16 x 16 lie already in new\n"
        assert advseg("data", "shapes", "new", "--size=16", *small)[:2] == (0, again)


class TestPredict:
    def test_with_what_is_no_model(self, advseg: Command, shapes: Path, tmp_path: Path) -> None:
        missing = mistake(advseg("predict", "nowhere", shapes / "JPEGImages", "--to", "to"))
        assert missing.startswith("model nowhere does not exist: name a folder, or a registered model")
        (tmp_path / "file").touch()
        file = mistake(advseg("predict", "file", shapes / "JPEGImages", "--to", "to"))
        assert file == "file is a file, but a model is a folder with model.json: name that folder"

    def test_of_a_missing_image(self, advseg: Command, model: Path) -> None:
        assert mistake(advseg("predict", model, "no.png", "--to", "to")) == "image no.png does not exist"

    def test_of_what_is_no_image(self, advseg: Command, model: Path, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("hello")
        status, out, err = advseg("predict", model, "notes.txt", "--to", "to")
        assert (status, out) == (1, "")
        assert err.startswith("error: notes.txt is none of PNG, JPEG, TIFF, BMP and WebP")
        assert err.endswith("0 of 1 images have masks now in to\n")

    def test_into_a_file(self, advseg: Command, model: Path, shapes: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert mistake(advseg("predict", model, shapes / "JPEGImages", "--to", "file")) == (
            "file is no folder, as mask file/shapes_00000.png needs: remove it, or name another with --to"
        )

    def test_says_how_many_masks_it_wrote(self, advseg: Command, model: Path, shapes: Path, tmp_path: Path) -> None:
        status, out, _ = advseg("predict", model, shapes / "JPEGImages", "--to", "to")
        assert (status, out) == (0, "10 masks written to to\n")
        (tmp_path / "to" / "shapes_00000.png").unlink()
        status, out, _ = advseg("predict", model, shapes / "JPEGImages", "--to", "to")
        assert (status, out) == (0, "1 mask written to to, and 9 of the same model and image were there\n")

    def test_that_is_interrupted_goes_on_by_the_same_command(
        self, advseg: Command, model: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command = ("predict", model, shapes / "JPEGImages", "--to", "to masks")
        predictions, calls = Model.predictions, count()

        def once(self: Model, images: np.ndarray, **wanted: bool) -> list[Prediction]:
            if next(calls) == 3:
                raise KeyboardInterrupt
            return predictions(self, images, **wanted)

        monkeypatch.setattr(Model, "predictions", once)
        status, out, err = advseg(*command)
        assert (status, out) == (130, "")
        said = f"interrupted: masks that are written stay; `{shlex.join(['advseg', *map(str, command)])}` goes on\n"
        assert err.endswith(said)

        out = advseg(*command)[1]
        assert out == "7 masks written to to masks, and 3 of the same model and image were there\n"

    def test_leaves_more_beside_them(self, advseg: Command, model: Path, shapes: Path, tmp_path: Path) -> None:
        image = shapes / "JPEGImages" / "shapes_00000.jpg"
        options = ("--overlay", "--probabilities", "--confidence", "--device=cpu", "--batch=2")
        assert advseg("predict", model, image, "--to", "to", *options)[0] == 0
        suffixes = {path.name.removeprefix("shapes_00000") for path in (tmp_path / "to").iterdir()}
        assert suffixes == {".png", ".overlay.png", ".npz", ".confidence.png"}


class TestPicture:
    @pytest.fixture
    def ask(self, advseg: Command, shapes: Path) -> Callable[..., tuple[int, str, str]]:
        image = sorted((shapes / "JPEGImages").iterdir())[0]

        def run(*models: str, out: str = "out.png", truth: Path = shapes / "SegmentationClass") -> tuple[int, str, str]:
            named = [f"--model={model}" for model in models]
            return advseg("picture", out, "--images", image, "--truth", truth, *named)

        return run

    def test_without_truth(self, ask: Command, model: Path, tmp_path: Path) -> None:
        assert mistake(ask(f"a={model}", truth=tmp_path / "no")).endswith(".png does not exist")

    @pytest.mark.parametrize("form", ["{}", "={}", "a="])
    def test_of_a_malformed_model(self, ask: Command, model: Path, form: str) -> None:
        assert mistake(ask(form.format(model))).endswith("must have the form NAME=DIR")

    def test_of_two_models_of_one_name(self, ask: Command, model: Path) -> None:
        assert "names a second model a" in mistake(ask(f"a={model}", f"a={model}"))

    def test_onto_a_folder(self, ask: Command, model: Path, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        assert mistake(ask(f"a={model}", out="folder")).startswith("folder is there and no regular file: remove it")

    def test_says_where_it_is(self, ask: Command, model: Path) -> None:
        assert ask(f"a={model}")[:2] == (0, "picture written to out.png\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("foo",), "No such command 'foo'"),
        (("sweeps",), "No such command 'sweeps'"),
        (("train",), "Missing argument 'SPEC'"),
        (("train", "a.yaml", "--set"), "Option '--set' requires an argument"),
        (("predict", "m"), "Missing argument 'IMAGE...'"),
        (
            ("up", "--cpus", "[/many]"),
            "Invalid value for '--cpus': Input should be a valid integer, "
            "unable to parse string as an integer, but is '[/many]'",
        ),
        (("reproduce", "voc", "--on=moon"), "Invalid value for '--on': 'moon' is not one of 'paper', 'shapes'"),
        (("[/bold]",), "No such command '[/bold]'"),
    ],
    ids=str,
)
def test_a_command_line_that_is_wrong_is_answered_in_one_line(
    advseg: Command, arguments: tuple[str, ...], reason: str
) -> None:
    line = mistake(advseg(*arguments))
    assert line.startswith(reason)
    assert line.endswith(": --help says what the command takes")
    assert "\n" not in line


def test_an_interrupted_command_says_so(advseg: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("advseg.jobs.init_data.init_data", interrupted)
    assert advseg("data", "init", "leaves") == (130, "", "interrupted\n")


def test_names_of_the_users_cannot_steer_the_terminal(advseg: Command, tmp_path: Path) -> None:
    status, out, err = advseg("data", "init", tmp_path / "\x1b]0;title\x07\u202e")
    assert (status, out) == (2, "")
    assert "\\u001b]0;title\\u0007\\u202e is no folder" in err


def test_an_address_in_the_place_of_a_folder_makes_none(advseg: Command, tmp_path: Path) -> None:
    assert mistake(advseg("data", "shapes", "s3://bucket/shapes")).startswith("s3://bucket/shapes is an address: name ")
    assert mistake(advseg("sweep", "list", "--storage", "gs://bucket/runs")).startswith(
        "--storage gs://bucket/runs is an address"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_is_an_address_is_refused(advseg: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADVSEG_HOME", "s3://me:hunter2@bucket/home")
    told = "ADVSEG_HOME is the address s3://...@bucket/home, but must be a folder: name one of this machine"
    assert mistake(advseg("sweep", "list")) == told
    assert list(tmp_path.iterdir()) == []
