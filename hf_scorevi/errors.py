"""The errors of this library that a caller may want to tell apart."""

__all__ = ["NonFiniteLossError", "PosteriorCheckpointError"]


class PosteriorCheckpointError(ValueError):
    """A stored posterior is missing, damaged, or does not belong to the weights it lies beside."""


class NonFiniteLossError(FloatingPointError):
    """The training loss or its gradient is NaN or infinite; the weights are left at the mean of the last good step."""
