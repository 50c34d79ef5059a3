import tracemalloc
from functools import partial

import numpy as np
import pytest

from hf_scorevi import metrics
from hf_scorevi.metrics.chunks import CHUNK_ELEMENTS, row_chunks, top_label

LIMIT = 5 * 8 * CHUNK_ELEMENTS


@pytest.mark.parametrize(
    ("num_rows", "num_columns"), [(1, 2), (10, CHUNK_ELEMENTS), (7, 3 * CHUNK_ELEMENTS), (3000, 1000)]
)
def test_chunks_cover_each_row_once(num_rows, num_columns):
    rows = [row for chunk in row_chunks(num_rows, num_columns) for row in range(num_rows)[chunk]]
    assert rows == list(range(num_rows))


def test_chunks_have_the_size_they_promise():
    sizes = [chunk.stop - chunk.start for chunk in row_chunks(3000, 1000)]
    assert max(sizes) * 1000 <= CHUNK_ELEMENTS
    assert len(sizes) == 3


def test_top_label_over_several_chunks(make_predictions, monkeypatch):
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 50)
    probabilities, _ = make_predictions(num_examples=99)
    confidences, predictions = top_label(np.asfortranarray(probabilities))
    np.testing.assert_array_equal(confidences, probabilities.max(axis=1))
    np.testing.assert_array_equal(predictions, probabilities.argmax(axis=1))


TABLES = {
    "labels": [
        metrics.accuracy,
        metrics.adaptive_ece,
        metrics.aurc,
        metrics.brier,
        metrics.classwise_ece,
        metrics.ece,
        metrics.mce,
        metrics.nll,
        metrics.nll_from_log_probabilities,
        metrics.pooled_ece,
        metrics.reliability_bins,
        metrics.risk_coverage_curve,
        partial(metrics.debiased_ece, num_resamples=3),
        metrics.classification_metrics,
    ],
    "table": [metrics.soft_ece, metrics.soft_nll],
    "two tables": [partial(metrics.paired_bootstrap, num_resamples=3)],
    "draws": [metrics.predictive_uncertainty],
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("takes", TABLES)
def test_memory_does_not_grow_with_the_number_of_classes(takes, order):
    # 80 MB of predictions. A few chunks in float64 and some vectors of one number an example are allowed; a copy of
    # the input, or a boolean mask of its shape (20 MB) besides, is not.
    num_examples, num_classes = 20_000, 1000
    table = np.full((num_examples, num_classes), 1 / num_classes, dtype=np.float32, order=order)
    labels = np.zeros(num_examples, dtype=np.int64)
    draws = table.reshape(num_examples // 4, 4, num_classes, order=order)
    inputs = {"labels": (table, labels), "table": (table, table), "two tables": (table, table, labels)}
    logs = np.log(table)
    for metric in TABLES[takes]:
        arguments = inputs.get(takes, (draws,))
        if metric is metrics.nll_from_log_probabilities:
            arguments = (logs, labels)
        tracemalloc.start()
        try:
            metric(*arguments)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < LIMIT, metric
