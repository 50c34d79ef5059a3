"""Small models of text, and a tokenizer of a few words made here."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification, PreTrainedTokenizerFast

WORDS = ["good", "bad", "fine", "film", "book", "the", "a", "is", "was", "lis", "##bon", "ada", "in", "."]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
KINDS = {"id2label": {0: "good", 1: "bad", 2: "fine"}, "label2id": {"good": 0, "bad": 1, "fine": 2}}


def tokenizer(**kwargs) -> PreTrainedTokenizerFast:
    """Of word pieces, as BERT's, for inputs of at most 16 tokens."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    raw = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    tokens = {f"{name}_token": token for name, token in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=16, **tokens, **kwargs)


def bert_config(**kwargs) -> BertConfig:
    """About 2,000 weights."""
    settings = dict(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    return BertConfig(**(settings | KINDS | kwargs))


def tiny_bert(seed: int = 0, **kwargs) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    return BertForSequenceClassification(bert_config(**kwargs))


def tiny_tagger(seed: int = 0, **kwargs) -> BertForTokenClassification:
    torch.manual_seed(seed)
    return BertForTokenClassification(bert_config(**kwargs))
