import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTimeSeriesPrediction,
    PatchTSTConfig,
    PatchTSTForPrediction,
)

import hf_scorevi
from hf_scorevi.models import AutoModelForForecasting
from hf_scorevi.models.koopa import KoopaConfig, KoopaForPrediction, KoopaModel

CONFIG = KoopaConfig(input_size=2, context_length=12, prediction_length=6, mask_spectrum=[0, 3])


def test_auto_classes(tmp_path):
    torch.manual_seed(0)
    model = AutoModelForForecasting.from_config(CONFIG)
    assert type(model) is KoopaForPrediction
    model.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is KoopaConfig and config.mask_spectrum == [0, 3]
    assert type(AutoModel.from_pretrained(tmp_path)) is KoopaModel
    for auto in (AutoModelForForecasting, AutoModelForTimeSeriesPrediction):
        loaded = auto.from_pretrained(tmp_path)
        assert type(loaded) is KoopaForPrediction
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))


def test_other_forecasters():
    config = PatchTSTConfig(num_input_channels=2, context_length=16, patch_length=4, patch_stride=4, d_model=8)
    assert type(AutoModelForForecasting.from_config(config)) is PatchTSTForPrediction


def test_found_from_the_top():
    assert hf_scorevi.models.koopa.KoopaConfig is KoopaConfig
