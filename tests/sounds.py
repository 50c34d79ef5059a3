"""Small recordings of three classes, which differ in pitch, and a model of audio."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

PITCHES = {"low": 200, "middle": 800, "high": 3200}


def sound(label: int, seed: int, rate: int = 16000) -> np.ndarray:
    """A tenth of a second, a tone and noise, float32 in [-1, 1]."""
    time = np.arange(rate // 10) / rate
    noise = np.random.default_rng(seed).normal(size=len(time))
    return (0.5 * np.sin(2 * np.pi * list(PITCHES.values())[label] * time) + 0.02 * noise).astype(np.float32)


def wav(samples: np.ndarray, rate: int = 16000, channels: int = 1) -> bytes:
    """The same as a file of 16 bits."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).round().astype("<i2").repeat(channels).tobytes())
    return buffer.getvalue()


def save_sounds(folder: Path, count: int) -> None:
    """Write `count` recordings of each class into a subfolder of its name."""
    for label, name in enumerate(PITCHES):
        (folder / name).mkdir(parents=True)
        for seed in range(count):
            (folder / name / f"{seed}.wav").write_bytes(wav(sound(label, seed)))


def extractor() -> ASTFeatureExtractor:
    """Spectra of 16 frequencies and 8 times."""
    return ASTFeatureExtractor(num_mel_bins=16, max_length=8)


def tiny_ast(seed: int = 0, **kwargs) -> ASTForAudioClassification:
    """A transformer of spectra."""
    torch.manual_seed(seed)
    names = {"id2label": dict(enumerate(PITCHES)), "label2id": {name: i for i, name in enumerate(PITCHES)}}
    settings = dict(
        num_mel_bins=16,
        max_length=8,
        patch_size=4,
        time_stride=4,
        frequency_stride=4,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    return ASTForAudioClassification(ASTConfig(**(settings | names | kwargs)))
