"""Ray Tune's own way of making an actor of a trial, with keys in the driver's environment."""

import os

import pytest
from ray.tune.execution.class_cache import _ActorClassCache

from advseg.platform.sweep.trials import InProcess
from advseg.platform.sweep.tune_environment import prepare_environment

CANARY = "canary0123456789"


def test_no_key_of_the_driver_goes_into_a_trials_runtime_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "HF_TOKEN"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.delenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", raising=False)
    prepare_environment()
    actor = _ActorClassCache().get(InProcess)
    assert "PL_DISABLE_FORK" in str(actor._default_options)
    assert CANARY not in str(actor._default_options)
    assert os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] == "1"
