"""The kind of a tensor, as far as its name shows it."""

import re

# In the order of a legend. The last is what no rule knows.
KINDS = (
    "embedding",
    "attention",
    "feed-forward",
    "convolution",
    "normalisation",
    "bias",
    "head",
    "LoRA A",
    "LoRA B",
    "other adapter",
    "other",
)

# These decide by themselves, in this order.
_FIRST = (
    ("LoRA A", re.compile(r"lora_(embedding_)?a\b")),
    ("LoRA B", re.compile(r"lora_(embedding_)?b\b")),
    ("other adapter", re.compile(r"\b(lora|ia3|vera|hada|lokr|oft|boft|prompt)_|adapter|adaption_prompt")),
    ("bias", re.compile(r"(^|[._])bias(_[a-z]+_l\d+(_reverse)?)?$")),
)
# Of these the one that is found furthest to the right, in the innermost module, decides; among equals the first.
_INNERMOST = (
    ("normalisation", re.compile(r"norm|\b(ln|bn)(\d|_|\b)|_bn\b|downsample\.1\b|downsampling_layer\.0\b")),
    ("convolution", re.compile(r"conv(?!next)|squeeze_excit|downsample\.0\b|downsampling_layer\.1\b")),
    ("attention", re.compile(r"attn|attention|\b[qkv]_(proj|lin)\b")),
    ("feed-forward", re.compile(r"mlp|ffn|feed_?forward|intermediate|experts|\bdense\w+dense")),
    ("feed-forward", re.compile(r"(gate|up|down)_proj|\b(c_)?(fc|lin|linear)\d")),
    ("embedding", re.compile(r"emb(ed|\b|_)|\bw[tp]e\b|(cls|mask|class|dist\w*)_token|relative_\w+_bias|\bshared\b")),
    ("head", re.compile(r"classifier|(^|\.)(lm_)?heads?\b|^([a-z]\w*\.)?fc\b|\bscore\b|qa_outputs|pooler|\bcls\.")),
    ("head", re.compile(r"\bprojector\b|(text|visual)_projection")),
)
_OUTPUT_OF_LAYER = re.compile(r"\blayer\.\d+\.output\.")  # BERT's second feed-forward matrix has no name of its own


def tensor_kind(name: str) -> str:
    """Return one of `KINDS` for a parameter's name, `"vit.layers.0.attention.q_proj.weight"` -> `"attention"`.

    A parameter called bias is a bias, whatever it is a bias of. For others the innermost module that a rule knows
    decides: the norm of an attention block is a normalisation, and a projection of the classifier belongs to the head.
    The rules know the names that transformers, timm, torchvision and PEFT use.
    """
    lowered = name.lower()
    for kind, pattern in _FIRST:
        if pattern.search(lowered):
            return kind
    found, position = "other", -1
    for kind, pattern in _INNERMOST:
        for match in pattern.finditer(lowered):
            if match.end() > position:
                found, position = kind, match.end()
    if found == "other" and _OUTPUT_OF_LAYER.search(lowered):
        return "feed-forward"
    return found
