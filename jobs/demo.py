"""The demo: the commands that a user would type, one after another.

`make demo` runs it as `python -m advseg.jobs.demo`, in the folder of a clone.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from ..platform.base.exits import exit_status
from ..platform.base.home import find_home
from ..platform.base.keys import BASELINE, key_of
from ..platform.gate.verdict import Gate, Outcome
from ..platform.ledger.reading import read_sweep
from ..platform.pages.sweep_page import print_sweep
from ..platform.pages.sweep_report import REPORT
from ..platform.registry.moves import CANDIDATE, CHAMPION
from ..platform.services.connection import connect
from ..platform.spec.ledger_address import ledger_of
from ..platform.spec.spec_file import load_spec
from ..trainers.errors import UserError

SPEC = Path("jobs/specs/demo.yaml")

console = Console(highlight=False)


def demo(home: Path) -> None:
    """Run the whole story and print how to go on. Raises UserError if a command fails."""
    data, pack, results = home / "data" / "shapes", home / "data" / "shapes-pack", home / "demo"

    say("1/6  start the services: an MLflow server and a Ray head")
    run("up")

    say("2/6  write the dataset: 800 training images, of which 50 have masks to train on; decode it once into a pack")
    run("data", "shapes", shown(data))
    # The spec's own path leads to the default home.
    overrides = [f"dataset.root={data}"] if "ADVSEG_HOME" in os.environ else []
    run("data", "pack", str(SPEC), shown(pack), *options(overrides))

    say("3/6  submit the sweep: a supervised baseline, trials of the adversarial method, the best one on fresh seeds")
    overrides.append(f"dataset.pack={shown(pack)}")
    run("submit", str(SPEC), *options(overrides), "--follow")
    spec = load_spec(SPEC, overrides)
    assert spec.sweep
    storage = home / "runs"
    ledger = ledger_of(spec.ledger)
    gate = read_sweep(storage, spec.name, ledger).gate
    alias = alias_by(Gate.from_json(gate)) if gate else None

    say("4/6  pull the models from MLflow")
    shutil.rmtree(results, ignore_errors=True)
    folders = {"supervised": shown(results / "supervised")}
    run("models", "pull", key_of(spec.name, BASELINE), "--to", folders["supervised"])
    if alias:
        folders[alias] = shown(results / alias)
        run("models", "pull", f"{spec.sweep.register_as}@{alias}", "--to", folders[alias])
    else:
        console.print("No trial was ahead of the supervised baseline, so none was registered.")

    say("5/6  predict on the test images")
    tests = (data / "ImageSets" / "Segmentation" / "test.txt").read_text().split()
    images = [shown(data / "JPEGImages" / f"{id}.jpg") for id in tests]
    run("predict", list(folders.values())[-1], *images, "--to", shown(results / "predictions"))

    say("6/6  draw the picture")
    picture = results / "picture.png"
    run(
        "picture",
        shown(picture),
        *(f"--images={image}" for image in images),
        f"--truth={shown(data / 'SegmentationClass')}",
        *(f"--model={name}={folder}" for name, folder in folders.items()),
    )

    say("done")
    print_sweep(storage, spec.name, ledger)
    mlflow = connect(home).mlflow_page
    page = {
        "Look": f"{shown(picture)}: image, truth, {', '.join(folders)}, confidence",
        "Report": f"{shown(storage / spec.name / REPORT)}: trials, plots, pictures; open it in a browser",
        "Runs": f"{mlflow}: choose Model training, then experiment {spec.name}",
        "Compare": f"advseg compare {spec.name}, which also tells where MLflow compares the same runs",
        "Models": f"{mlflow}#/models",
        "State": "advseg status",
        "Stop": f"advseg down (runs, models and data stay in {shown(home)})",
        "Your own": 'advseg data init FOLDER, see "Your own images" in README.md',
    }
    console.print()
    for word, text in page.items():
        console.print(f"{word:<9} {text}", soft_wrap=True)
    console.print(f"\nThe program advseg lies in {shown(Path(sys.executable).parent)}.", soft_wrap=True)


def alias_by(gate: Gate) -> str | None:
    """The alias that the best trial has where nobody sat before; None if it is not registered."""
    if gate.ahead is None:
        return None
    return CHAMPION if gate.outcome is Outcome.PROMOTED else CANDIDATE


def say(stage: str) -> None:
    """Head a stage."""
    console.print(f"\n[bold]{stage}[/]", soft_wrap=True)


def run(*arguments: str) -> None:
    """Run a command of ours as a user would. Raises UserError if it fails."""
    line = " ".join(arguments)
    console.print(f"[dim]$ advseg {line if len(line) < 160 else line[:157] + '...'}[/]", soft_wrap=True)
    status = subprocess.run([sys.executable, "-m", "advseg.jobs.cli", *arguments]).returncode
    if status:
        raise UserError(f"the demo stopped at `advseg {arguments[0]}`, which ended with {status}; see above")


def options(overrides: list[str]) -> list[str]:
    """Overrides of a spec as options of a command."""
    return [f"--set={override}" for override in overrides]


def shown(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: demo(find_home())))
