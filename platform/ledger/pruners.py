"""When a trial is stopped early: Optuna's pruners, fed by the values that the ledger holds."""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, PatientPruner, SuccessiveHalvingPruner

from ..spec.sweep import Hyperband, Median, Patient, Pruner, SuccessiveHalving


def pruner_of(pruner: Pruner | None, steps: int) -> BasePruner:
    """The pruner of a sweep whose trials train for `steps` steps."""
    match pruner:
        case None:
            return NopPruner()
        case SuccessiveHalving(min_resource=least, reduction_factor=factor):
            return SuccessiveHalvingPruner(min_resource=least, reduction_factor=factor)
        case Hyperband(min_resource=least, reduction_factor=factor):
            return HyperbandPruner(min_resource=least, max_resource=steps, reduction_factor=factor)
        case Median(startup_trials=startup, warmup_steps=warmup):
            return MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup)
        case Patient(patience=patience, min_delta=delta, wrapped=wrapped):
            inner = pruner_of(wrapped, steps) if wrapped else None
            with warnings.catch_warnings():
                # It has been called experimental since 2021.
                warnings.simplefilter("ignore", ExperimentalWarning)
                return PatientPruner(inner, patience=patience, min_delta=delta)


def reason_of(pruner: Pruner, step: int) -> str:
    """Why a trial was stopped, in a line."""
    match pruner:
        case SuccessiveHalving() | Hyperband():
            why = "not among the best"
        case Median():
            why = "below the median"
        case Patient(patience=patience, wrapped=wrapped):
            why = f"no improvement in {patience} reports"
            if wrapped:
                why += f", and {reason_of(wrapped, step).rpartition(' at step ')[0]}"
    return f"{why} at step {step}"
