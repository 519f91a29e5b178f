"""Names that several rooms share: keys of trainings, the places that follow from them, names of what Ray is told."""

import re

BASELINE = "baseline"
CONFIRM = "confirm-"
"""How what stands for the number of a training begins that a sweep makes once more, on a fresh seed."""
SINGLE = "single"
"""What stands for the number of a training that belongs to no sweep, though one may have its name."""
S3 = "s3://"
"""How the address of an object store begins."""
HUB = "hf://"
"""How the address of a repository on the Hugging Face Hub begins."""
MODEL = "model"
"""Folder of a training with its trained model, which `advseg.models.load` reads; and of its run's artifacts."""
JOB = "ADVSEG_JOB"
"""Environment variable with the id of the job that a process belongs to."""

# What passes between a training and Ray.
NUMBER = "number"
"""The trial's, in what Tune configures it by."""
ARM = "arm"
"""Of the sweep, which the trial belongs to; None of one without arms."""
PARAMS = "params"
ATTEMPT = "attempt"
HALVINGS = "halvings"
"""How often the trial's micro-batch was halved."""
STEP = "step"
METRIC = "val/miou"
"""What is maximised: mean IoU in percent on the validation images."""
KIND = "kind"
"""How the training failed."""
FAILURE = "failure"
"""Why, in words."""


def key_of(sweep: str, trial: int | str) -> str:
    """The key of a trial, `<sweep>/<number>`, of the supervised baseline, `<sweep>/baseline`, or of a training that
    belongs to no sweep, `<name>/single`."""
    return f"{sweep}/{trial}"


def is_of_sweep(trial: str) -> bool:
    """Whether that may stand in a key for the number of a training of a sweep."""
    return trial.isdecimal() or trial == BASELINE or trial.startswith(CONFIRM)


def sweep_of(key: str) -> str:
    """The sweep, or the name, of a training with a key."""
    return key.rpartition("/")[0]


def job_id(name: str, number: int) -> str:
    """The id of a job, `<name>-<n>`; `n` is greater the newer the job is."""
    return f"{name}-{number}"


def job_parts(id: str) -> tuple[str, int] | None:
    """The name and the number of a job's id; None of what is no such id. A job `a-1-1` is the first of `a-1`."""
    parts = re.fullmatch(r"(?P<name>.+)-(?P<number>[1-9][0-9]*)", id)
    return (parts["name"], int(parts["number"])) if parts else None
