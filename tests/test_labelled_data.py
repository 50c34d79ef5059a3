"""Texts and recordings as classifiers take them, from tables, folders and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from transformers import DataCollatorWithPadding, Wav2Vec2FeatureExtractor

from hf_scorevi.audio_data import load_audio_folder, to_waveform
from hf_scorevi.image_data import InputError
from hf_scorevi.labelled_data import load_audio, load_texts
from tests.sounds import PITCHES, extractor, save_sounds, sound, tiny_ast, wav
from tests.text import bert_config, tokenizer

TEXTS = ["the film was good .", "a bad book", "lisbon is fine"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


def rows(path: Path, **columns: list[Any]) -> str:
    values = zip(*columns.values(), strict=True)
    path.write_text("\n".join(json.dumps(dict(zip(columns, row, strict=True))) for row in values))
    return str(path)


def test_texts_are_what_the_tokenizer_makes_and_labels_are_the_model_s(tmp_path: Path) -> None:
    words = tokenizer()
    expected = words(TEXTS)["input_ids"]
    for columns in ({"text": TEXTS, "label": ["good", "bad", "fine"]}, {"sentence": TEXTS, "labels": [0, 1, 2]}):
        file = rows(tmp_path / f"{min(columns)}.jsonl", **columns)
        data, described = load_texts(file, bert_config(), words)
        assert data[:]["input_ids"] == expected and data[:]["labels"] == [0, 1, 2]
        assert described["dataset"].endswith(".jsonl")
    names = ["fine", "good", "bad"]  # numbered otherwise than the model's
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    Dataset.from_dict({"text": TEXTS, "label": [1, 2, 0]}, features=features).to_parquet(tmp_path / "named.parquet")
    assert load_texts(str(tmp_path / "named.parquet"), bert_config(), words)[0][:]["labels"] == [0, 1, 2]
    batch = DataCollatorWithPadding(words)([data[i] for i in range(3)])
    assert batch["input_ids"].shape == (3, 7) and batch["labels"].tolist() == [0, 1, 2]


def test_pairs_numbers_and_long_texts(tmp_path: Path) -> None:
    words = tokenizer()
    file = rows(tmp_path / "pairs.jsonl", one=TEXTS, two=[" ".join(TEXTS * 3)] * 3, label=[0.5, 2.0, -1.0])
    asked = {"text_column": "one", "text_pair_column": "two", "numbers": True}
    _, described = load_texts(file, bert_config(), words, **asked, max_examples=2, seed=1)
    assert described["split"] == "2 examples drawn with seed 1"
    whole, _ = load_texts(file, bert_config(), words, **asked)
    assert whole[:]["labels"] == [0.5, 2.0, -1.0]
    assert [len(ids) for ids in whole[:]["input_ids"]] == [16] * 3
    words.model_max_length = 10**30  # nobody has told it
    short = bert_config(max_position_embeddings=12)
    assert [len(ids) for ids in load_texts(file, short, words, **asked)[0][:]["input_ids"]] == [12] * 3


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"words": TEXTS, "label": [0] * 3}, {}, "has no column 'text' or 'sentence'; its columns are words, label"),
        ({"text": TEXTS, "kind": [0] * 3}, {}, "has no column 'label' or 'labels'"),
        ({"text": TEXTS, "label": [0] * 3}, {"text_pair_column": "text"}, "in columns of their own"),
        ({"text": TEXTS, "label": ["good", "bad", "odd"]}, {}, "none of the model's classes: odd"),
        ({"text": TEXTS, "label": ["good", "bad", "odd"]}, {"numbers": True}, "The label 'good' is no number"),
        ({"text": [1, 2, 3], "label": [0] * 3}, {}, "A row holds 1 in the place of a text"),
    ],
)
def test_mistakes_about_texts_are_named(tmp_path: Path, columns: Any, settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_texts(rows(tmp_path / "rows.jsonl", **columns), bert_config(), tokenizer(), **settings)[0][:]


def test_recordings_come_from_folders_and_tables(tmp_path: Path) -> None:
    save_sounds(tmp_path / "sounds", 2)
    config, own = tiny_ast().config, extractor()
    data, described = load_audio(str(tmp_path / "sounds"), config, own)
    assert described == {"dataset": "sounds"}
    names = [name for name in sorted(PITCHES) for _ in range(2)]
    assert data[:]["labels"] == [list(PITCHES).index(name) for name in names]
    expected = own(to_waveform(str(tmp_path / "sounds" / names[1] / "1.wav"), 16000, tmp_path), sampling_rate=16000)
    assert np.array_equal(data[1]["input_values"], expected["input_values"][0])
    file = rows(tmp_path / "rows.jsonl", file=["sounds/low/0.wav", "sounds/high/1.wav"], kind=["low", "high"])
    rows_, _ = load_audio(file, config, own, audio_column="file", label_column="kind")
    assert rows_[:]["labels"] == [0, 2]
    batch = DataCollatorWithPadding(own)([rows_[0], rows_[1]])
    assert batch["input_values"].shape == (2, 8, 16) and batch["labels"].tolist() == [0, 2]
    encoded = {"audio": [{"bytes": wav(sound(i, i)), "path": None} for i in range(3)], "label": [0, 1, 2]}
    Dataset.from_dict(encoded).cast_column("audio", datasets.Audio(decode=False)).to_parquet(tmp_path / "a.parquet")
    found, _ = load_audio(str(tmp_path / "a.parquet"), config, Wav2Vec2FeatureExtractor(do_normalize=False))
    assert np.abs(found[1]["input_values"] - sound(1, 1)).max() < 1e-4
    with pytest.raises(InputError, match="has no labelled recordings"):
        load_audio_folder(str(tmp_path / "sounds" / "low"))


def test_whatever_holds_a_recording_is_read(tmp_path: Path) -> None:
    samples = sound(1, 0)
    (tmp_path / "a.wav").write_bytes(wav(samples))
    for value in (
        "a.wav",
        wav(samples),
        {"bytes": None, "path": str(tmp_path / "a.wav")},
        {"array": samples, "sampling_rate": 16000},
        samples.tolist(),
        wav(samples, channels=2),
    ):
        assert np.abs(to_waveform(value, 16000, tmp_path) - samples).max() < 1e-4


def test_a_recording_is_brought_to_the_rate_of_the_model() -> None:
    for given, rate in ((48000, 16000), (8000, 16000), (44100, 16000)):
        time, wanted = np.arange(given) / given, np.arange(rate) / rate
        tone = np.sin(2 * np.pi * 440 * time)
        found = to_waveform({"array": tone, "sampling_rate": given}, rate, Path())
        assert np.abs(found - np.sin(2 * np.pi * 440 * wanted)).max() < 1e-3
    high = np.sin(2 * np.pi * 7000 * np.arange(16000) / 16000)  # which the lower rate cannot carry
    assert np.abs(to_waveform({"array": high, "sampling_rate": 16000}, 8000, Path())).max() < 1e-3


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"no recording", "is no WAV file of whole numbers .*install torchcodec"),
        ("gone.wav", "gone.wav cannot be read"),
        ({"file": "a.wav"}, "cannot be read"),
        ([[0.0, 1.0], [1.0]], "neither a file nor an array"),
        ([], "has the shape"),
    ],
)
def test_what_is_no_recording_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_waveform(value, 16000, Path())
