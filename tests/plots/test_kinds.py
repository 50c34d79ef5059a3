import pytest

from hf_scorevi.plots import tensor_kind
from tests.tiny_models import tiny_vit


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        # ViT, BERT, GPT-2, T5, LLaMA, CLIP
        ("vit.embeddings.cls_token", "embedding"),
        ("vit.embeddings.patch_embeddings.projection.weight", "embedding"),
        ("vit.layers.0.attention.q_proj.weight", "attention"),
        ("vit.layers.0.attention.q_proj.bias", "bias"),
        ("vit.layers.0.layernorm_before.weight", "normalisation"),
        ("vit.layers.0.layernorm_before.bias", "bias"),
        ("vit.layers.0.mlp.fc1.weight", "feed-forward"),
        ("classifier.weight", "head"),
        ("bert.encoder.layer.0.attention.output.dense.weight", "attention"),
        ("bert.encoder.layer.0.attention.output.LayerNorm.weight", "normalisation"),
        ("bert.encoder.layer.0.intermediate.dense.weight", "feed-forward"),
        ("bert.encoder.layer.0.output.dense.weight", "feed-forward"),
        ("bert.pooler.dense.weight", "head"),
        ("roberta.embeddings.LayerNorm.weight", "normalisation"),
        ("classifier.out_proj.weight", "head"),
        ("transformer.wte.weight", "embedding"),
        ("transformer.h.0.attn.c_proj.weight", "attention"),
        ("transformer.h.0.mlp.c_proj.weight", "feed-forward"),
        ("transformer.ln_f.weight", "normalisation"),
        ("score.weight", "head"),
        ("shared.weight", "embedding"),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", "attention"),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "embedding"),
        ("encoder.block.0.layer.1.DenseReluDense.wi.weight", "feed-forward"),
        ("model.embed_tokens.weight", "embedding"),
        ("model.layers.0.mlp.gate_proj.weight", "feed-forward"),
        ("model.layers.0.post_attention_layernorm.weight", "normalisation"),
        ("lm_head.weight", "head"),
        ("vision_model.pre_layrnorm.weight", "normalisation"),  # sic
        # convolutions: transformers, torchvision, timm
        ("resnet.embedder.embedder.convolution.weight", "convolution"),
        ("resnet.encoder.stages.0.layers.0.shortcut.normalization.weight", "normalisation"),
        ("classifier.1.weight", "head"),
        ("conv1.weight", "convolution"),
        ("layer1.0.bn1.weight", "normalisation"),
        ("layer1.0.downsample.0.weight", "convolution"),
        ("layer1.0.downsample.1.weight", "normalisation"),
        ("fc.weight", "head"),
        ("timm_model.fc.weight", "head"),
        ("convnext.encoder.stages.0.layers.0.layer_scale_parameter", "other"),
        ("convnext.encoder.stages.1.downsampling_layer.0.weight", "normalisation"),
        ("efficientnet.encoder.blocks.0.projection.project_bn.weight", "normalisation"),
        # biases of other names
        ("self_attn.in_proj_bias", "bias"),
        ("rnn.bias_ih_l0", "bias"),
        ("rnn.bias_hh_l1_reverse", "bias"),
        # adapters
        ("base_model.model.vit.layers.0.attention.q_proj.lora_A.default.weight", "LoRA A"),
        ("base_model.model.vit.layers.0.attention.q_proj.lora_B.default.weight", "LoRA B"),
        ("base_model.model.vit.layers.0.attention.q_proj.lora_B.default.bias", "LoRA B"),
        ("base_model.model.roberta.embeddings.word_embeddings.lora_embedding_A.default", "LoRA A"),
        ("base_model.model.vit.layers.0.attention.q_proj.lora_magnitude_vector.default.weight", "other adapter"),
        ("base_model.model.vit.layers.0.mlp.fc2.ia3_l.default", "other adapter"),
        ("base_model.model.classifier.modules_to_save.default.weight", "head"),
        ("base_model.model.classifier.modules_to_save.default.bias", "bias"),
        # names that say nothing
        ("logit_scale", "other"),
        ("0.weight", "other"),
        ("", "other"),
    ],
)
def test_kind_of_a_tensor(name, kind):
    assert tensor_kind(name) == kind


def test_every_kind_of_a_tiny_vit_is_known():
    kinds = {tensor_kind(name) for name, _ in tiny_vit().named_parameters()}
    assert kinds == {"embedding", "attention", "feed-forward", "normalisation", "bias", "head"}
