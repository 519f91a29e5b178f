"""What Ray Tune takes from its driver's environment into those of its trials."""

import os

from ray.tune.execution import class_cache

_KEYS = "AWS_"


def prepare_environment() -> None:
    """Let no key travel, and no logger of Tune's own write.

    Tune copies keys of AWS into its actors' runtime environments, which Ray's APIs, logs and command lines show to
    others. Every node has its own keys, as it has for a training without Tune.
    """
    class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith(_KEYS)}
    # Our own spool and reporters track; Tune's loggers would write every result three times more.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
