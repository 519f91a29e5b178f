"""The errors that a user can cause and mend."""


class UserError(Exception):
    """A mistake of the user's: one line that names the value, the rule and the remedy.

    Commands print it and exit with 2.
    """


class DivergedError(RuntimeError):
    """A run went wrong by its own numbers; the message names the cause and the step."""


class NonFiniteLossError(DivergedError):
    """A loss became NaN or infinite; the message names the term and the first step."""


class CollapseError(DivergedError):
    """The discriminator has won, or the prediction is constant, for as many reports as the settings allow."""


class CheckpointError(UserError):
    """A checkpoint is damaged, missing or of another shape than the run that wants to resume from it."""
