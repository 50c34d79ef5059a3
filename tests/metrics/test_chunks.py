import tracemalloc

import numpy as np
import pytest

from hf_scorevi.metrics import classification_metrics, nll_from_log_probabilities
from hf_scorevi.metrics._chunks import CHUNK_ELEMENTS, row_chunks, top_label


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
    monkeypatch.setattr("hf_scorevi.metrics._chunks.CHUNK_ELEMENTS", 50)
    probabilities, _ = make_predictions(num_examples=99)
    confidences, predictions = top_label(np.asfortranarray(probabilities))
    np.testing.assert_array_equal(confidences, probabilities.max(axis=1))
    np.testing.assert_array_equal(predictions, probabilities.argmax(axis=1))


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_does_not_grow_with_the_number_of_classes(order):
    # 80 MB of predictions. A few chunks in float64 and some vectors of one number an example are allowed; a copy of
    # the input, or a boolean mask of its shape (20 MB), is not.
    num_examples, num_classes = 20_000, 1000
    probabilities = np.full((num_examples, num_classes), 1 / num_classes, dtype=np.float32, order=order)
    labels = np.zeros(num_examples, dtype=np.int64)
    log_probabilities = np.log(probabilities)
    tracemalloc.start()
    try:
        classification_metrics(probabilities, labels)
        nll_from_log_probabilities(log_probabilities, labels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 8 * CHUNK_ELEMENTS
