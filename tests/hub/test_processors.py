"""Tokenizers and feature extractors from files of JSON and text alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import GPT2Config

from hf_scorevi import PosteriorCheckpointError
from hf_scorevi.hub import processors
from hf_scorevi.hub.processors import load_feature_extractor, load_tokenizer
from tests.sounds import extractor
from tests.text import SPECIAL, WORDS, bert_config, tokenizer

TEXT = "the film was good in lisbon ."


def test_a_tokenizer_is_what_was_saved(tmp_path: Path) -> None:
    words = tokenizer()
    words.model_max_length = 10**30  # more than 64 bits
    words.save_pretrained(tmp_path)
    found = load_tokenizer(tmp_path)
    assert found(TEXT)["input_ids"] == words(TEXT)["input_ids"]
    assert (found.model_max_length, found.pad_token, found.name_or_path) == (10**30, "[PAD]", str(tmp_path))


def test_a_vocabulary_will_do(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]))
    bert_config().save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path)(TEXT)["input_ids"] == tokenizer()(TEXT)["input_ids"]
    other = tmp_path / "gpt2"
    other.mkdir()
    (other / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}))
    (other / "merges.txt").write_text("#version: 0.2\na b\n")
    GPT2Config().save_pretrained(other)
    assert load_tokenizer(other)("abb")["input_ids"] == [2, 1]


def test_what_is_not_read_or_damaged_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e")  # sentencepiece's
    with pytest.raises(PosteriorCheckpointError, match=r"has no tokenizer that is read here"):
        load_tokenizer(tmp_path)
    for content in ("{", '{"model": {"type": "Evil"}}'):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(PosteriorCheckpointError, match=r"describes no tokenizer that transformers has"):
            load_tokenizer(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[" * 10**5)
    with pytest.raises(PosteriorCheckpointError, match=r"tokenizer_config.json cannot be read as JSON"):
        load_tokenizer(tmp_path)
    monkeypatch.setattr(processors, "_MOST_BYTES", 10)
    with pytest.raises(PosteriorCheckpointError, match=r"tokenizer.json cannot be right: it has .* bytes"):
        load_tokenizer(tmp_path)


def test_a_feature_extractor_is_what_was_saved(tmp_path: Path) -> None:
    extractor().save_pretrained(tmp_path)
    assert load_feature_extractor(tmp_path).to_dict() == extractor().to_dict()
    (tmp_path / "preprocessor_config.json").write_text('{"feature_extractor_type": "EvilFeatureExtractor"}')
    with pytest.raises(PosteriorCheckpointError, match=r"describes no feature extractor that transformers has"):
        load_feature_extractor(tmp_path)
