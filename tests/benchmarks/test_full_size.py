"""The program that takes a full-size model from training to prediction, with tiny models."""

import json

import pytest

from benchmarks import full_size


@pytest.mark.parametrize(("model", "family"), [("vit_l32", "diagonal"), ("resnet_101", "isotropic")])
def test_what_is_saved_comes_back(tmp_path, capsys, model, family):
    full_size.main([model, "--quick", "--family", family, "--batch-size", "2", "--output-dir", str(tmp_path)])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["probabilities_sum"] == pytest.approx(1, abs=1e-5)
    assert found["weights"] > 10_000 and found["peak_gb"] > 0
    assert (tmp_path / model / "posterior.safetensors").is_file()


def test_a_checkpoint_that_gives_back_something_else_fails(tmp_path, monkeypatch):
    original = full_size.BayesianModel.from_pretrained

    def other(folder):
        model = original(folder)
        model.posterior.params[0].data.add_(1e-6)
        return model

    monkeypatch.setattr(full_size.BayesianModel, "from_pretrained", other)
    with pytest.raises(SystemExit, match="gave back other weights"):
        full_size.main(["vit_l32", "--quick", "--batch-size", "2", "--output-dir", str(tmp_path)])
