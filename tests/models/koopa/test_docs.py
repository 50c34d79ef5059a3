"""What docs/koopa.md shows has to run."""

import re
from pathlib import Path

import torch

from hf_scorevi.models.koopa import KoopaForPrediction

PAGE = Path(__file__).parents[3] / "docs" / "koopa.md"


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    use, convert = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(compile(use, "koopa.md", "exec"), names)
    assert names["config"].mask_spectrum == [2, 3] and names["forecast"].shape == (1, 12, 2)
    assert type(names["model"]) is KoopaForPrediction

    layers = {}
    for name, tensor in names["model"].model.state_dict().items():  # as the original would name them
        name = re.sub(r"operators\.(\d)\.weight", r"time_inv_kps.\1.K.weight", name)
        name = re.sub(r"time_(inv|var)[a-z]+_(\w+?)\.", r"time_\1_\2.layers.", name)
        layers[name] = tensor
    torch.save(layers, "checkpoint.pth")
    exec(compile(convert, "koopa.md", "exec"), names)
    past = torch.randn(1, 24, 2)
    assert names["model"](past).prediction_outputs.shape == (1, 12, 2)
