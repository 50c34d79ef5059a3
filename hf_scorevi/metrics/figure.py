"""How to read a number in a metric's result. The file of each metric declares those of its own result."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """
    The names of a figure, and the direction that is better.

    Attributes:
        name: in the result of the metric.
        label: on cards and pictures.
        greater_is_better: `None` if neither more nor less is better of itself (a coverage, an entropy, a bound).
        unit: of the value; "" if it has none, "target" for that of the target.
        is_binned: whether it depends on a number of bins.
    """

    name: str
    label: str
    greater_is_better: bool | None
    unit: str = ""
    is_binned: bool = False

    @property
    def direction(self) -> str:
        """The direction that is better, in words; empty if neither is."""
        return {True: "higher is better", False: "lower is better", None: ""}[self.greater_is_better]
