"""Names of what a training reports to Ray."""

NUMBER = "number"
"""The trial's, in what Tune configures it by."""
STEP = "step"
METRIC = "val/miou"
"""What is maximised: mean IoU in percent on the validation images."""
FAILURE = "failure"
"""Why the training failed."""
