import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError

from hf_scorevi.models.koopa import KoopaConfig


def test_defaults_and_round_trip(tmp_path):
    config = KoopaConfig(input_size=7, prediction_length=24, mask_spectrum=[0, 3, 48])
    assert config.segment_length == 24 and config.dropout == 0.05 and config.model_type == "koopa"
    config.save_pretrained(tmp_path)
    loaded = KoopaConfig.from_pretrained(tmp_path)
    assert loaded.to_diff_dict() == config.to_diff_dict() and loaded.mask_spectrum == [0, 3, 48]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_layers": 1}, "hidden_layers must be at least 2, not 1"),
        ({"num_blocks": 0}, "num_blocks must be at least 1, not 0"),
        ({"prediction_length": 96}, r"segment_length \(96, .*must be less than the context_length \(96\)"),
        ({"segment_length": 100}, r"segment_length \(100, .*must be less than the context_length \(96\)"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1, not 1.0"),
        ({"mask_spectrum": [0, 49, -1]}, r"mask_spectrum has \[49, -1\], but .* has the frequencies 0 to 48"),
        ({"mask_spectrum": [13], "context_length": 25, "prediction_length": 5}, r"has \[13\], but .* 0 to 12"),
    ],
)
def test_names_what_is_out_of_range(values, message):
    with pytest.raises(ValueError, match=message):
        KoopaConfig(**values)


def test_names_what_has_another_type():
    with pytest.raises(StrictDataclassFieldValidationError, match="input_size"):
        KoopaConfig(input_size="7")
