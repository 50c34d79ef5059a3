"""The errors of this library that a caller may want to tell apart."""

__all__ = ["InputError", "NonFiniteLossError", "PosteriorCheckpointError", "PushError"]


class InputError(ValueError):
    """Something the user gave does not fit; the message says what, and what to do."""


class PosteriorCheckpointError(ValueError):
    """A stored posterior is missing, damaged, or does not belong to the weights it lies beside."""


class PushError(OSError):
    """
    A checkpoint did not reach the Hub. Nothing is lost, and the message says how to try again.

    Attributes:
        reason: what the Hub said, or did not.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NonFiniteLossError(FloatingPointError):
    """
    The training loss, its gradient or the weights are NaN or infinite. The model holds the mean as the last step left
    it, never a draw; the message says if that is not finite itself.
    """
