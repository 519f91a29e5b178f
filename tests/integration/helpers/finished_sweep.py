"""A sweep that runs to its end, of which many tests ask what it left, and who saw its secrets."""

import contextlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from command import Command

STEPS, EVERY = 12, 4
SECRETS = {
    "AWS_ACCESS_KEY_ID": "canary-of-submitter-aws-id",
    "AWS_SECRET_ACCESS_KEY": "canary-of-submitter-aws-key",
    "HF_TOKEN": "canary-of-submitter-hugging-face",
    "MLFLOW_TRACKING_PASSWORD": "canary-of-submitter-mlflow",
    "PGPASSWORD": "canary-of-submitter-postgresql",
}
"""What is in the environment of whoever submits it."""


@dataclass(frozen=True)
class Followed:
    """What the submitter was told until the end, and the command lines of all processes meanwhile."""

    output: str
    command_lines: str


def short_sweep(sweep_document: Callable[..., dict[str, Any]], name: str, **sections: Any) -> dict[str, Any]:
    """A sweep of three short trials."""
    return sweep_document(
        name,
        trainer={"steps": STEPS, "evaluate_every": EVERY},
        sweep={"trials": 3, "first": [{"method.lambda_adv": 0.01}], "baseline_workers": 2, "register_as": name},
        **sections,
    )


def varied_sweep(sweep_document: Callable[..., dict[str, Any]], name: str) -> dict[str, Any]:
    """A sweep of a weight, a rate, whole numbers and a choice, with successive halving, and a trial that diverges."""
    document = short_sweep(sweep_document, name)
    others = {
        "trainer.segmenter_optimizer.lr": 0.003,
        "trainer.batch_size": 4,
        "trainer.augmentation.mirror": True,
    }
    document["sweep"] |= {
        "space": {
            "method.lambda_adv": {"low": 1e-3, "high": 1e38, "log": True},
            "trainer.segmenter_optimizer.lr": {"low": 1e-3, "high": 1e-2, "log": True},
            "trainer.batch_size": {"low": 2, "high": 6, "step": 2},
            "trainer.augmentation.mirror": {"choices": [False, True]},
        },
        "first": [{"method.lambda_adv": value, **others} for value in (0.01, 1e38)],
        "pruner": {"name": "successive_halving", "min_resource": EVERY},
        "confirm": {"candidates": 1, "seeds": 2, "alpha": 0.4},
    }
    document["keep"] = {"newest": 1}
    # The baseline, whose rate is the spec's own, learns nothing.
    document["trainer"]["segmenter_optimizer"]["lr"] = 1e-6
    return document


def follow(advseg: Command, document: dict[str, Any], folder: Path) -> Followed:
    """Submit a sweep and follow it to its end, as one with secrets in the environment."""
    (folder / "spec.yaml").write_text(yaml.safe_dump(document))
    lines: list[str] = []
    with subprocess.Popen(
        advseg.line("submit", folder / "spec.yaml", "--follow"),
        env={**advseg.environment(), **SECRETS},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as following:
        while following.poll() is None:
            lines.append(_command_lines())
            with contextlib.suppress(subprocess.TimeoutExpired):
                following.wait(0.5)
        assert following.stdout
        output = following.stdout.read()
    assert following.returncode == 0, output
    return Followed(output, "\n".join(lines))


def _command_lines() -> str:
    found: list[str] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found += process.cmdline()
    return "\n".join(found)
