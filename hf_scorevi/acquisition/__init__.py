"""
Active learning: choose the unlabelled examples that are to be labelled next.

Scores take a `PredictiveOutput`, probabilities (B, K) or probabilities of each draw (S, B, K), and return one number
an example, (B,): the higher, the more is to be learned from its label. B examples, K classes, S draws; nats.
"""

from .batch_bald import batch_bald
from .scores import bald, entropy, least_confidence, margin
from .selection import power_acquisition, select

__all__ = ["bald", "batch_bald", "entropy", "least_confidence", "margin", "power_acquisition", "select"]
