"""A sweep on which a test spends seconds, and its dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_tiny_shapes(advseg: Callable[..., object], root: Path) -> Path:
    """Have a command of ours write a dataset on which training takes seconds."""
    advseg("data", "shapes", root, "--labelled=8", "--unlabelled=16", "--val=8", "--test=2", "--size=32")
    return root


def small_sweep(
    root: Path, name: str, *, trainer: dict[str, Any], sweep: dict[str, Any], **sections: Any
) -> dict[str, Any]:
    """A sweep of a small network, as a YAML file would hold it; `trainer` and `sweep` are added to what is there."""
    return {
        "job": "sweep",
        "name": name,
        "dataset": {
            "root": str(root),
            "classes": ["background", "circle", "square", "triangle", "ring", "flower"],
        },
        "model": {"architecture": "compact", "width": 8},
        "method": {
            "name": "adversarial",
            "semi_start": 4,
            "discriminator": {"widths": [8, 8], "classifier": "dense"},
        },
        "trainer": {
            "batch_size": 4,
            "segmenter_optimizer": {"name": "adamw", "lr": 0.003},
            "augmentation": {"crop": [32, 32], "rotate": True},
            **trainer,
        },
        "sweep": {"space": {"method.lambda_adv": {"low": 0.001, "high": 1, "log": True}}, **sweep},
        **sections,
    }
