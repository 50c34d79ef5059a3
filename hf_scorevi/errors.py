"""The errors of this library that a caller may want to distinguish."""

__all__ = ["InputError", "NonFiniteLossError", "PosteriorCheckpointError", "PushError"]


class InputError(ValueError):
    """Something the user passed does not fit; the message says what, and what to do."""


class PosteriorCheckpointError(ValueError):
    """A stored posterior is missing, damaged, or does not belong to the weights it lies beside."""


class PushError(OSError):
    """
    A checkpoint did not reach the Hub. Nothing is lost, and the message says how to try again.

    Attributes:
        reason: the Hub's answer, or why there was none.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NonFiniteLossError(FloatingPointError):
    """
    The training loss, its gradient or the weights are NaN or infinite. The model holds the mean after the last step,
    never a draw; the message says if that mean is not finite either.
    """
