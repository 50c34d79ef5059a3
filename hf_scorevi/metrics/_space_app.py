"""The page of a metric's Space: a form that takes JSON. `push_metric` puts it there as app.py."""

import json
from pathlib import Path
from typing import Any

import evaluate
import gradio  # type: ignore[import-not-found, unused-ignore]

_HERE = Path(__file__).parent
_SCRIPT = next(path for path in _HERE.glob("*.py") if path != Path(__file__))

metric = evaluate.load(str(_SCRIPT))
inputs = list(metric.features)  # predictions and, in most, references


def compute(*texts: str) -> dict[str, Any]:
    """Compute the metric from one JSON array for each of its inputs."""
    try:
        return metric.compute(**{name: json.loads(text) for name, text in zip(inputs, texts, strict=True)})
    except ValueError as error:  # what the metric or JSON says is wrong with the input, and no traceback
        raise gradio.Error(str(error)) from error


card = (_HERE / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]
gradio.Interface(
    fn=compute,
    inputs=[gradio.Textbox(label=f"{name}, as JSON", lines=4) for name in inputs],
    outputs=gradio.JSON(label="result"),
    title=metric.name,
    article=card,
).launch()
