"""Ray Tune's own way of making an actor of a trial, with keys in the driver's environment."""

import logging
import os

import pytest
from ray.tune.analysis import experiment_analysis
from ray.tune.execution.class_cache import _ActorClassCache
from ray.tune.experimental.output import AirVerbosity, get_air_verbosity

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


def test_tune_prints_no_table_and_misses_no_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AIR_NEW_OUTPUT", raising=False)
    analysis = logging.getLogger(experiment_analysis.__name__)
    monkeypatch.setattr(analysis, "level", logging.NOTSET)
    prepare_environment()
    assert get_air_verbosity(AirVerbosity.SILENT) is None
    assert not analysis.isEnabledFor(logging.WARNING)
