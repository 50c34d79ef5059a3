"""A small model of each kind of head, and rows for it: texts of unlike length, some labels ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers as T
from torch import Tensor, nn
from torch.utils.data import Dataset

LENGTH, VOCABULARY, CLASSES = 12, 30, 3
_TEXT: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16}
_TEXT |= {"num_attention_heads": 2, "max_position_embeddings": 32}
_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class Rows(Dataset):
    """Rows in a list."""

    def __init__(self, rows: list[dict[str, Tensor]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return self.rows[i]


class Case(NamedTuple):
    """A head: its model, a row of a given length, and which targets it has."""

    model: Callable[[], nn.Module]
    row: Callable[[int], dict[str, Tensor]]
    targets: tuple[str, ...] = ("labels",)


def _text(length: int) -> dict[str, Tensor]:
    ids = torch.zeros(LENGTH, dtype=torch.long)
    ids[:length] = torch.randint(2, VOCABULARY, (length,))
    return {"input_ids": ids, "attention_mask": (torch.arange(LENGTH) < length).long()}


def _tokens(length: int, classes: int = CLASSES) -> dict[str, Tensor]:
    labels = torch.full((LENGTH,), -100)
    labels[:length] = torch.randint(0, classes, (length,))
    labels[length // 2] = -100
    return _text(length) | {"labels": labels}


def _language(length: int) -> dict[str, Tensor]:
    row = _text(length)
    return row | {"labels": row["input_ids"].masked_fill(row["attention_mask"] == 0, -100)}


def _span(length: int) -> dict[str, Tensor]:
    return _text(length) | {name: torch.randint(0, length, ()) for name in ("start_positions", "end_positions")}


def _choice(length: int) -> dict[str, Tensor]:
    choices = [_text(length) for _ in range(3)]
    return {k: torch.stack([c[k] for c in choices]) for k in choices[0]} | {"labels": torch.randint(0, 3, ())}


def _pixels(length: int) -> dict[str, Tensor]:
    labels = torch.randint(0, CLASSES, (32, 32))
    labels[:, 2 * length :] = 255
    return {"pixel_values": torch.rand(3, 32, 32), "labels": labels}


def _bert(kind: str, **settings: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(T, f"BertFor{kind}")(T.BertConfig(**(_TEXT | _DROPOUT | settings)))


def _segformer() -> nn.Module:
    settings = {"depths": [1] * 4, "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2]}
    settings |= {
        "decoder_hidden_size": 16,
        "num_labels": CLASSES,
        "classifier_dropout_prob": 0.0,
        "drop_path_rate": 0.0,
    }
    model = T.SegformerForSemanticSegmentation(T.SegformerConfig(**settings))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # batch statistics do depend on how a batch is split
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
            module.training = False
    return model


HEADS: dict[str, Case] = {
    "classes": Case(_bert("SequenceClassification", num_labels=CLASSES),
                    lambda n: _text(n) | {"labels": torch.randint(0, CLASSES, ())}),
    "labels": Case(_bert("SequenceClassification", num_labels=4, problem_type="multi_label_classification"),
                   lambda n: _text(n) | {"labels": torch.randint(0, 2, (4,)).float()}),
    "choice": Case(_bert("MultipleChoice"), _choice),
    "tokens": Case(_bert("TokenClassification", num_labels=CLASSES), _tokens),
    "masked language": Case(_bert("MaskedLM", tie_word_embeddings=False), lambda n: _tokens(n, VOCABULARY)),
    "language": Case(
        lambda: T.LlamaForCausalLM(T.LlamaConfig(**_TEXT, tie_word_embeddings=False)), _language),
    "translation": Case(
        lambda: T.T5ForConditionalGeneration(T.T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=16,
            num_layers=1, num_heads=2, decoder_start_token_id=0, dropout_rate=0.0, tie_word_embeddings=False)),
        lambda n: _tokens(n, VOCABULARY)),
    "spans": Case(_bert("QuestionAnswering"), _span, ("start_positions", "end_positions")),
    "pixels": Case(_segformer, _pixels),
}  # fmt: skip


def make_head(name: str, rows: int = 8, seed: int = 0) -> tuple[nn.Module, Rows]:
    """A model and rows, the first of which is longer than all others."""
    torch.manual_seed(seed)
    case = HEADS[name]
    model = case.model()
    lengths = [LENGTH, *torch.randint(3, 6, (rows - 1,)).tolist()]
    return model, Rows([case.row(length) for length in lengths])


def negative_log_likelihood(name: str, model: nn.Module, data: Rows) -> float:
    """−log p of all rows under the weights in place, term by term."""
    import torch.nn.functional as F

    total = 0.0
    with torch.no_grad():
        for row in data.rows:
            inputs = {k: v[None] for k, v in row.items()}
            targets = [inputs[target] for target in HEADS[name].targets]
            if name != "translation":
                inputs = {k: v for k, v in inputs.items() if k not in HEADS[name].targets}
            outputs = model.eval()(**inputs)
            if name == "spans":
                for logits, target in zip((outputs.start_logits, outputs.end_logits), targets, strict=True):
                    total += F.cross_entropy(logits.double(), target).item()
                continue
            logits, labels = outputs.logits.double(), targets[0]
            if name == "labels":
                total += F.binary_cross_entropy_with_logits(logits, labels.double(), reduction="sum").item()
                continue
            if name == "pixels":
                logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
                total += F.cross_entropy(logits, labels, ignore_index=255, reduction="sum").item()
                continue
            if name == "language":
                logits, labels = logits[:, :-1], labels[:, 1:]
            total += F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum").item()
    return total
