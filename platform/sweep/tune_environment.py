"""How the environment of a driver rules Ray Tune, and what of it Tune takes into those of its trials."""

import logging
import os

from ray.tune.execution import class_cache

TUNE = {
    # Our own spool and reporters track; Tune's loggers would write every result three times more.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # The ledger decides what is tried again. Tune would, by itself, what a drained node took along.
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
    # Its handler tells nobody that it was called, and outlives the search. Of SIGUSR1, too, it makes an interrupt.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # By itself it prints a table of settings that we do not have, at any verbosity.
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""How Ray Tune is run, as environment variables."""
_KEYS = "AWS_"
_ANALYSIS = "ray.tune.analysis.experiment_analysis"
"""Warns of every trial that its results lie in no file of Tune's, as they do not without its loggers."""


def prepare_environment() -> None:
    """Let no key travel, no logger of Tune's own write, nor miss what none has written, and Tune try nothing again.

    Tune copies keys of AWS into its actors' runtime environments, which Ray's APIs, logs and command lines show to
    others. Every node has its own keys, as it has for a training without Tune.
    """
    class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith(_KEYS)}
    os.environ.update(TUNE)
    logging.getLogger(_ANALYSIS).setLevel(logging.ERROR)
