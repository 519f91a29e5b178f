"""How well a sweep fills its slots: 16 trials of about 30 s on 2 slots, against trials that follow without a pause.

    python benchmarks/slots.py [--trials 16] [--steps 320]

Services are started for it in a folder of their own, and ended. A trial's time is from its first step to its last, as
its reports tell; what lies between two trials of a slot, such as starting, saving and asking the ledger, is loss.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import yaml
from demo_task import demo_spec, write_data
from timing import machine

from advseg.platform.services.services import down, up
from advseg.platform.tracking.spool import read_records
from advseg.platform.workers.heartbeat import read_beat

SLOTS = 2
REPORTS = 8


@dataclass(frozen=True, kw_only=True)
class Span:
    """One trial on its slot, in seconds since the epoch."""

    slot: int
    begun: float
    ended: float


def span(folder: Path) -> Span:
    """When a trial trained, from its reports and its heartbeat."""
    beat, times = read_beat(folder), [record["timestamp"] / 1e3 for record in read_records(folder / "metrics.jsonl")]
    assert beat and len(times) == REPORTS
    # The first report's own interval is as long as the others.
    begun = times[0] - (times[-1] - times[0]) / (REPORTS - 1)
    return Span(slot=beat.pid, begun=begun, ended=times[-1])


def gaps(spans: list[Span]) -> list[float]:
    """Seconds between each two trials of a slot."""
    found = []
    for slot in {each.slot for each in spans}:
        mine = sorted((each for each in spans if each.slot == slot), key=lambda each: each.begun)
        found += [b.begun - a.ended for a, b in pairwise(mine)]
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--steps", type=int, default=320)
    asked = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        spec = demo_spec(
            write_data(Path(folder) / "data"),
            "name=slots",
            f"trainer.steps={asked.steps}",
            f"trainer.evaluate_every={asked.steps // REPORTS}",
            f"sweep.trials={asked.trials}",
            f"sweep.concurrency={SLOTS}",
            "sweep.pruner=null",
            "sweep.baseline_workers=1",
        )
        path = Path(folder) / "spec.yaml"
        path.write_text(yaml.safe_dump(spec.model_dump(mode="json")))
        up(home, cpus=SLOTS, say=print)
        try:
            command = [sys.executable, "-m", "advseg.jobs.cli", "submit", str(path), "--follow"]
            subprocess.run(command, check=True, env={**os.environ, "ADVSEG_HOME": str(home)}, stdout=subprocess.DEVNULL)
            spans = [span(home / "runs" / "slots" / str(number)) for number in range(asked.trials)]
        finally:
            down(home, say=print)
    trained = [each.ended - each.begun for each in spans]
    whole = max(each.ended for each in spans) - min(each.begun for each in spans)
    between = gaps(spans)
    print(
        f"{asked.trials} trials of {median(trained):.1f} s on {len({each.slot for each in spans})} slots: {whole:.1f} s"
    )
    print(f"share of the ideal: {sum(trained) / SLOTS / whole:.3f}")
    print(f"between two trials of a slot: median {median(between):.2f} s, {min(between):.2f} to {max(between):.2f}")


if __name__ == "__main__":
    main()
