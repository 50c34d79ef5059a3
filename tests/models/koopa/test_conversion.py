import pytest
import torch

from hf_scorevi.models.koopa import KoopaConfig, KoopaForPrediction, from_original_state_dict

CONFIG = KoopaConfig(
    input_size=2, context_length=12, prediction_length=6, dynamic_dim=3, hidden_dim=5, num_blocks=2, mask_spectrum=[0]
)


def original_state_dict(model):
    """As the original would have it: other names, and each block with the encoders and decoders once more."""
    theirs = {"invariant": "inv", "variant": "var"}
    found = {}
    for name, tensor in model.state_dict().items():
        first, rest = name.removeprefix("model.").split(".", 1)
        if first == "operators":
            found[f"time_inv_kps.{rest.split('.')[0]}.K.weight"] = tensor
            continue
        _, kind, part = first.split("_")
        found[f"time_{theirs[kind]}_{part}.layers.{rest}"] = tensor
        for block in range(2):
            found[f"time_{theirs[kind]}_kps.{block}.{part}.layers.{rest}"] = tensor
    return found


def test_weights_arrive():
    torch.manual_seed(0)
    model = KoopaForPrediction(CONFIG).double()
    original = original_state_dict(model)
    assert len(original) == 16 * 3 + 2 and "time_inv_kps.1.encoder.layers.3.bias" in original
    converted = from_original_state_dict(original, CONFIG)
    assert converted.dtype == torch.float64 and not converted.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(converted.state_dict()[name], tensor), name


def test_names_what_does_not_fit():
    original = original_state_dict(KoopaForPrediction(CONFIG))
    with pytest.raises(ValueError, match=r"'projection.weight' is no key of the original"):
        from_original_state_dict(original | {"projection.weight": torch.zeros(1)}, CONFIG)
    wider = KoopaConfig(**(CONFIG.to_dict() | {"hidden_dim": 7}))
    with pytest.raises(ValueError, match=r"decoder.0.bias' should have the shape \(7,\) and has \(5,\)"):
        from_original_state_dict(original, wider)
    deeper = KoopaConfig(**(CONFIG.to_dict() | {"num_blocks": 3}))
    with pytest.raises(ValueError, match=r"operators.2.weight' should have the shape \(3, 3\) and has none at all"):
        from_original_state_dict(original, deeper)
