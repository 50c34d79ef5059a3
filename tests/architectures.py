"""Every image classifier and forecaster of transformers, small, with a batch for each."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
)

SIZE = 32
_VIT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
_VIT |= {"image_size": SIZE, "patch_size": 16}
_TEXT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 8}
_SWIN = {"image_size": SIZE, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
_STAGES = {"hidden_sizes": [8, 8], "depths": [1, 1]}

# By model type; its own sizes where the defaults are large.
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "beit": _VIT,
    "bit": _STAGES | {"embedding_size": 8, "num_groups": 4},
    "clip": {"vision_config": _VIT, "text_config": _TEXT, "projection_dim": 8},
    "convnext": {"hidden_sizes": [8, 8], "depths": [1, 1], "num_stages": 2},
    "convnextv2": {"hidden_sizes": [8, 8], "depths": [1, 1], "num_stages": 2},
    "cvt": {"embed_dim": [8, 8, 8], "num_heads": [2, 2, 2], "depth": [1, 2, 3]},
    "data2vec-vision": _VIT,
    "deit": _VIT,
    "dinov2": _VIT,
    "dinov2_with_registers": _VIT,
    "donut-swin": _SWIN,
    "efficientnet": {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128},
    "focalnet": {"embed_dim": 8, "depths": [1, 1], "hidden_sizes": [8, 8], "focal_levels": [1, 1]}
    | {"focal_windows": [3, 3], "image_size": SIZE},
    "hgnet_v2": {"depths": [1, 1], "hidden_sizes": [8, 8], "embedding_size": 8, "stem_channels": [3, 8, 8]}
    | {"stage_in_channels": [8, 8], "stage_mid_channels": [8, 8], "stage_out_channels": [8, 8]}
    | {"stage_num_blocks": [1, 1], "stage_downsample": [False, True], "stage_light_block": [False, True]}
    | {"stage_kernel_size": [3, 3], "stage_numb_of_layers": [1, 1]},
    "hiera": {
        "embed_dim": 8,
        "image_size": [SIZE, SIZE],
        "depths": [1, 1],
        "num_heads": [1, 2],
        "query_stride": [2, 2],
    }
    | {"masked_unit_size": [4, 4], "num_query_pool": 1},
    "ijepa": _VIT,
    "imagegpt": {"vocab_size": 9, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2},
    "levit": {"image_size": 64, "hidden_sizes": [8, 8, 8], "depths": [1, 1, 1], "num_attention_heads": [1, 1, 1]}
    | {"key_dim": [8, 8, 8]},
    "metaclip_2": {"vision_config": _VIT, "text_config": _TEXT, "projection_dim": 8},
    "mobilenet_v1": {"depth_multiplier": 0.1, "min_depth": 8},
    "mobilenet_v2": {"depth_multiplier": 0.1, "min_depth": 8},
    "mobilevit": {"image_size": SIZE, "hidden_sizes": [8, 8, 8], "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 8]}
    | {"num_attention_heads": 2},
    "mobilevitv2": {
        "image_size": 64,
        "width_multiplier": 0.1,
        "base_attn_unit_dims": [8, 8, 8],
        "n_attn_blocks": [1, 1, 1],
    },
    "perceiver": {"num_latents": 4, "d_latents": 8, "num_blocks": 1, "num_self_attends_per_block": 1}
    | {"num_self_attention_heads": 2, "num_cross_attention_heads": 1, "image_size": SIZE},
    "poolformer": {"hidden_sizes": [8, 8], "depths": [1, 1], "num_encoder_blocks": 2, "patch_sizes": [7, 3]}
    | {"strides": [4, 2], "padding": [2, 1]},
    "pvt": {
        "image_size": SIZE,
        "hidden_sizes": [8, 8, 8, 8],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 1, 1],
    },
    "pvt_v2": {"image_size": SIZE, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
    | {"num_attention_heads": [1, 1, 1, 1]},
    "regnet": _STAGES | {"embedding_size": 8, "groups_width": 8},
    "resnet": _STAGES | {"embedding_size": 8},
    "segformer": {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 1]},
    "siglip": {"vision_config": _VIT, "text_config": _TEXT},
    "siglip2": {"vision_config": _VIT | {"num_patches": 4, "patch_size": 16}, "text_config": _TEXT},
    "swiftformer": {"image_size": SIZE, "depths": [1, 1, 1, 1], "embed_dims": [8, 8, 8, 8]},
    "swin": _SWIN,
    "swinv2": _SWIN,
    "textnet": {"stem_num_channels": 3, "stem_out_channels": 8, "hidden_sizes": [8, 8, 8]}
    | {"image_size": [SIZE, SIZE], "depths": [1, 1]}
    | {"conv_layer_kernel_sizes": [[[3, 3]], [[3, 3]]], "conv_layer_strides": [[2], [2]]},
    "vit": _VIT,
    "vit_msn": _VIT,
}
UNBUILT = {
    "DinatForImageClassification": "needs natten",
    "PPLCNetForImageClassification": "has no logits among its outputs",
    "ShieldGemma2ForImageClassification": "is a language model that says yes or no",
    "TimmWrapperForImageClassification": "needs timm",
}
_SERIES: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
_SERIES |= {"head_dim": 4, "patch_length": 4, "context_length": 16, "horizon_length": 4}
FORECASTERS = {
    "timesfm": _SERIES,
    "timesfm2_5": _SERIES | {"num_key_value_heads": 2, "output_quantile_len": 8, "max_position_embeddings": 16},
}


def classifiers() -> list[str]:
    """The names of the classes, those left out that cannot be built here."""
    names = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.values()
    return [name for own in names for name in ([own] if isinstance(own, str) else own) if name not in UNBUILT]


def build(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """A classifier of three classes, and a batch of two images without labels."""
    torch.manual_seed(0)
    kind: Any = getattr(transformers, name)
    sizes = (CLASSIFIERS | FORECASTERS)[kind.config_class.model_type]
    model = kind(kind.config_class(**sizes, **({} if "Prediction" in name else {"num_labels": 3})))
    for p in model.parameters():  # some start at zero, biases of attention for instance, and would not show
        nn.init.normal_(p, std=0.1) if not p.any() else None
    size = getattr(model.config, "image_size", SIZE)
    generator = torch.Generator().manual_seed(1)
    if name.startswith("ImageGPT"):
        return model, {"input_ids": torch.randint(8, (2, 16), generator=generator)}
    if name.startswith("Siglip2"):
        mask, shapes = torch.ones(2, 4, dtype=torch.long), torch.tensor([[2, 2], [2, 2]])
        pixels = torch.randn(2, 4, 768, generator=generator)
        return model, {"pixel_values": pixels, "pixel_attention_mask": mask, "spatial_shapes": shapes}
    if "ForPrediction" in name:
        return model, {"past_values": torch.randn(2, 16, generator=generator)}
    size = 64 if size == 64 else SIZE
    return model, {"pixel_values": torch.randn(2, 3, size, size, generator=generator)}
