"""Time series as data: tables of a series, chronological splits, windows of past and future, standardisation."""

from .calendar import calendar_features
from .processor import SeriesProcessor
from .splits import Splits, chronological_splits, ett_rows, fraction_rows
from .table import SeriesTable, read_table
from .windows import SlidingWindows, past_length, windows_for

__all__ = [
    "SeriesProcessor",
    "SeriesTable",
    "SlidingWindows",
    "Splits",
    "calendar_features",
    "chronological_splits",
    "ett_rows",
    "fraction_rows",
    "past_length",
    "read_table",
    "windows_for",
]
