"""One training in this process, without Ray.

`advseg train` runs it as `python -m advseg.jobs.train SPEC [--to DIR]`. Running it again resumes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..platform.exits import exit_status
from ..platform.home import find_home
from ..platform.keys import directory_of, key_of
from ..platform.spec_file import load_spec
from ..trainers.data.dataset import open_dataset
from ..trainers.loop import Training
from ..trainers.reporter import ConsoleReporter, JsonLinesReporter, PanelReporter, Reporters


def main(arguments: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="advseg train", description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--to", type=Path, metavar="DIR")
    asked = parser.parse_args(arguments)
    spec = load_spec(asked.spec, asked.overrides)
    folder = asked.to or directory_of(spec.storage or find_home() / "runs", key_of(spec.name, "local"))
    training = Training(spec.recipe(), open_dataset(spec.dataset), folder)
    folder.mkdir(parents=True, exist_ok=True)
    outcome = training.run(
        Reporters(
            ConsoleReporter(),
            JsonLinesReporter(folder / "metrics.jsonl"),
            PanelReporter(folder / "validation.png"),
        )
    )
    training.export(folder / "model", {"spec": spec.model_dump(mode="json")})
    print(f"mIoU {outcome.metrics['val/miou']:.1f} after {outcome.step} steps; model in {folder / 'model'}")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
