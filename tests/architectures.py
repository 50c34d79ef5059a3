"""Every image classifier and forecaster of transformers, and other heads, small, with a batch for each."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
)

from hf_scorevi.heads import supported_heads

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
    """The names of the classes, those left out that cannot be built here, or have no loss."""
    names = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.values()
    known = supported_heads().keys() - UNBUILT.keys()
    return [name for own in names for name in ([own] if isinstance(own, str) else own) if name in known]


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


# Heads of other tasks, by class: sizes of their own.
_SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 32}
_SMALL |= {"max_position_embeddings": 32, "pad_token_id": 1}
_CROSS = _SMALL | {"is_decoder": True, "add_cross_attention": True}
_LLAMA = _SMALL | {"num_key_value_heads": 2, "head_dim": 4}
_GPT2 = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 32, "vocab_size": 32, "pad_token_id": 1}
_BART = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 32, "max_position_embeddings": 32}
_BART |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
_DISTILBERT = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "vocab_size": 32, "max_position_embeddings": 32}
_T5 = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 32}
_T5 |= {"decoder_start_token_id": 0}
_XLNET = {"d_model": 8, "n_layer": 1, "n_head": 2, "d_inner": 8, "vocab_size": 32, "pad_token_id": 1}
_WHISPER = _BART | {"num_mel_bins": 4, "max_source_positions": 8, "max_target_positions": 16, "bos_token_id": 1}
_WHISPER |= {"eos_token_id": 2, "pad_token_id": 1, "decoder_start_token_id": 3}
_BEIT = _VIT | {"num_hidden_layers": 4, "out_indices": [0, 1, 2, 3], "pool_scales": [1, 2]}
_BEIT |= {"use_auxiliary_head": False}
_STAGED = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
_WAV2VEC2 = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
_WAV2VEC2 |= {"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_conv_pos_embeddings": 4}
_WAV2VEC2 |= {"num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8, "mask_time_prob": 0.0}
_TUBES = {"tubelet_size": 2, "num_frames": 2}
HEADS: dict[str, dict[str, Any]] = {
    "ASTForAudioClassification": {k: v for k, v in _VIT.items() if k != "image_size"}
    | {"max_length": 32, "num_mel_bins": 16},
    "BartForCausalLM": _BART,
    "BartForConditionalGeneration": _BART,
    "BartForQuestionAnswering": _BART,
    "BartForSequenceClassification": _BART,
    "BeitForImageClassification": _VIT,
    "BeitForSemanticSegmentation": _BEIT,
    "BertForMaskedLM": _SMALL,
    "BertForMultipleChoice": _SMALL,
    "BertForNextSentencePrediction": _SMALL,
    "BertForQuestionAnswering": _SMALL,
    "BertForSequenceClassification": _SMALL,
    "BertForTokenClassification": _SMALL,
    "BioGptForTokenClassification": _SMALL,
    "BrosForTokenClassification": _SMALL | {"hidden_size": 64},
    "DebertaV2ForSequenceClassification": _SMALL,
    "DistilBertForMaskedLM": _DISTILBERT,
    "DistilBertForQuestionAnswering": _DISTILBERT,
    "EncoderDecoderModel": {},
    "GPT2ForSequenceClassification": _GPT2,
    "GPT2LMHeadModel": _GPT2,
    "InstructBlipForConditionalGeneration": {
        "text_config": _T5 | {"model_type": "t5"},
        "vision_config": _VIT,
        "qformer_config": _SMALL | {"encoder_hidden_size": 8},
        "num_query_tokens": 2,
        "image_token_index": 31,
    },
    "LlamaForCausalLM": _LLAMA,
    "LlamaForQuestionAnswering": _LLAMA,
    "LlamaForSequenceClassification": _LLAMA,
    "LlamaForTokenClassification": _LLAMA,
    "LlavaForConditionalGeneration": {
        "text_config": _LLAMA | {"model_type": "llama"},
        "vision_config": _VIT | {"model_type": "clip_vision_model", "num_hidden_layers": 2},
        "image_token_index": 31,
    },
    "MixtralForCausalLM": _LLAMA | {"num_local_experts": 2, "num_experts_per_tok": 1},
    "MobileViTForSemanticSegmentation": {"image_size": SIZE, "hidden_sizes": [8, 8, 8], "num_attention_heads": 2}
    | {"neck_hidden_sizes": [8] * 7, "aspp_out_channels": 8, "atrous_rates": [1, 2, 3]},
    "ResNetForImageClassification": CLASSIFIERS["resnet"],
    "SegformerForSemanticSegmentation": _STAGED | {"num_attention_heads": [1, 1, 1, 1], "decoder_hidden_size": 8},
    "SwitchTransformersForConditionalGeneration": _T5 | {"num_experts": 2, "num_sparse_encoder_layers": 1},
    "T5ForConditionalGeneration": _T5,
    "UperNetForSemanticSegmentation": {"hidden_size": 8, "use_auxiliary_head": False, "pool_scales": [1, 2]}
    | {"backbone_config": _STAGED | {"model_type": "convnext", "out_features": [f"stage{i}" for i in (1, 2, 3, 4)]}},
    "ViTForImageClassification": _VIT,
    "VideoMAEForVideoClassification": _VIT | _TUBES,
    "VisionEncoderDecoderModel": {},
    "Wav2Vec2ForSequenceClassification": _WAV2VEC2,
    "WhisperForAudioClassification": _WHISPER,
    "WhisperForConditionalGeneration": _WHISPER,
    "XLNetForQuestionAnsweringSimple": _XLNET,
    "XLNetLMHeadModel": _XLNET,
}


def head_model(name: str, **settings: Any) -> Any:
    """One of `HEADS`, with settings of its configuration."""
    torch.manual_seed(0)
    kind: Any = getattr(transformers, name)
    if name.endswith("EncoderDecoderModel"):
        encoder, sizes = ("ViTModel", _VIT) if name.startswith("Vision") else ("BertModel", _SMALL)
        parts = {"encoder": head_model(encoder, **sizes), "decoder": head_model("BertLMHeadModel", **_CROSS)}
        model = kind(**parts)
        model.config.decoder_start_token_id, model.config.pad_token_id = 2, 1
        return model
    model = kind(kind.config_class(**(HEADS.get(name, {}) | settings)))
    for p in model.parameters():  # larger than they are, so that positions and classes differ
        nn.init.normal_(p, std=0.5) if p.dim() > 1 else None
    return model


def head_inputs(model: Any) -> dict[str, Tensor]:
    """Three unlike rows without labels; the text of the last is shorter."""
    generator = torch.Generator().manual_seed(1)
    name, config = type(model).__name__, model.config
    if model.main_input_name == "pixel_values" and "input_ids" not in signature(model.forward).parameters:
        frames = (config.num_frames,) if "Video" in name else ()
        return {"pixel_values": torch.randn(3, *frames, 3, SIZE, SIZE, generator=generator)}
    if model.main_input_name == "input_values":
        shape = (3, config.max_length, config.num_mel_bins) if name.startswith("AST") else (3, 400)
        return {"input_values": torch.randn(*shape, generator=generator)}
    if model.main_input_name == "input_features":
        return {"input_features": torch.randn(3, 4, 16, generator=generator)}
    shape = (3, 2, 10) if name.endswith("MultipleChoice") else (3, 10)
    ids, mask = torch.randint(3, 30, shape, generator=generator), torch.ones(shape, dtype=torch.long)
    ids[..., -1] = 2  # the end, of which encoder-decoders that classify want as many in each row
    ids[-1, ..., -4:], mask[-1, ..., -3:] = torch.tensor([2, 1, 1, 1]), 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if name.startswith(("Llava", "InstructBlip")):
        ids[:, : getattr(config, "num_query_tokens", 4)] = config.image_token_index
        inputs["pixel_values"] = torch.randn(3, 3, SIZE, SIZE, generator=generator)
    if name.startswith("InstructBlip"):
        inputs["qformer_input_ids"] = ids
    if name.startswith("Bros"):
        inputs["bbox"] = torch.rand(*shape, 4, generator=generator)
        inputs["bbox_first_token_mask"] = torch.rand(shape, generator=generator) < 0.6
    return inputs
