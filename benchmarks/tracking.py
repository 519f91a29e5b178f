"""Step time of the demo's training with tracking in a live MLflow server, and in one that is away, against without.

    python benchmarks/tracking.py [--rounds 20]

A round is 20 steps and, with tracking, a report at their beginning, which is sent while they run. The server is one of
our own on this machine, so its work is on these cores too. Nothing listens where the one lies that is away.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch
from demo_task import demo_spec, write_data
from timing import interleaved, machine

from advseg.platform.services import services
from advseg.platform.tracking.identity import single_identity
from advseg.platform.tracking.reporter import MlflowReporter
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.loop import Training
from advseg.trainers.reporter import Report

STEPS = 20
METRICS = {f"metric/{number}": float(number) for number in range(20)}


def compare(data: Path, folder: Path, tracking_uri: str, rounds: int) -> None:
    """Print the table."""
    spec = demo_spec(data, "job=train", "sweep=null")
    training = Training(spec.recipe(), open_dataset(spec.dataset), folder / "run")
    identity = single_identity(spec.model_dump(mode="json"))
    reporter = MlflowReporter(tracking_uri, identity, folder / "metrics.jsonl")
    lost = MlflowReporter("http://127.0.0.1:9", identity, folder / "away" / "metrics.jsonl")
    batch, reports = training.batch(0), 0

    def steps() -> None:
        for _ in range(STEPS):
            training.method.step(0, batch)

    def tracked_steps() -> None:
        nonlocal reports
        reports += 1
        reporter.report(Report(step=reports, steps=10**6, metrics=METRICS))
        steps()

    def steps_without_answer() -> None:
        nonlocal lost_reports
        lost_reports += 1
        lost.report(Report(step=lost_reports, steps=10**6, metrics=METRICS))
        steps()

    lost_reports = 0
    sent = folder / "metrics.sent"

    def settle() -> None:
        while reports and (not sent.exists() or int(sent.read_text()) < reports):
            time.sleep(0.05)

    timings = interleaved({"off": steps, "on": tracked_steps, "away": steps_without_answer}, rounds=rounds, warmup=2)
    settle()
    reporter.close()
    lost.leave()
    print(timings.table())
    print(f"with tracking a step takes {1 / timings.speedup('on'):.3f} of the time without; {reports} reports arrived")
    print(f"with a server that is away it takes {1 / timings.speedup('away'):.3f}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # as jobs have it
    }
    torch.set_num_threads(1)
    print(machine())
    with tempfile.TemporaryDirectory() as temp:
        home = Path(temp) / "home"
        home.mkdir()
        try:
            running = services.up(home, say=lambda line: None)
            running.enter()
            compare(write_data(Path(temp) / "shapes"), Path(temp), running.tracking_uri, asked.rounds)
        finally:
            services.down(home, say=lambda line: None)


if __name__ == "__main__":
    main()
