"""Recordings in data sets, read as waveforms of one channel at the sampling rate of a model."""

from __future__ import annotations

import io
import wave
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Audio, Dataset

from .errors import InputError

__all__ = ["AUDIO_SUFFIXES", "load_audio_folder", "to_waveform"]

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aiff")
_PCM = {1: "u1", 2: "<i2", 4: "<i4"}  # by bytes a sample


def load_audio_folder(folder: str) -> Dataset:
    """Return the recordings in a folder, as paths in the column `audio`, labelled by their subfolders."""
    paths = sorted(path for path in Path(folder).glob("*/*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if len({path.parent for path in paths}) < 2:
        raise InputError(
            f"{folder!r} has no labelled recordings. Put those of each class, of at least two, into a subfolder of "
            f"its name, and none deeper, as {', '.join(AUDIO_SUFFIXES)}."
        )
    labels = [path.parent.name for path in paths]
    return Dataset.from_dict({"audio": [str(path.resolve()) for path in paths], "label": labels})


def to_waveform(value: Any, rate: int, folder: Path) -> np.ndarray:
    """
    Return a recording as samples (n,), float32, at `rate` samples a second; several channels are averaged.

    Args:
        value: path, relative to `folder`; encoded bytes; `{"bytes", "path"}`; `{"array", "sampling_rate"}`; or
            samples at that rate. WAV files are read without any other library, others by torchcodec.

    Raises:
        InputError: it is of another type, or cannot be read.
    """
    if isinstance(value, str):
        value = {"path": str(folder / value), "bytes": None}
    elif isinstance(value, bytes):
        value = {"path": None, "bytes": value}
    given = rate
    if isinstance(value, dict) and "array" in value:
        value, given = value["array"], int(value.get("sampling_rate") or rate)
    elif isinstance(value, dict):
        value, given = _decoded(value, rate)
    try:
        samples = np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise InputError(
            "A recording is neither a file nor an array of samples. Name the right column, or remove its row."
        ) from error
    if samples.ndim != 1 or not len(samples):
        raise InputError(f"A recording has the shape {samples.shape}; give samples of one channel, at least one.")
    return samples if given == rate else _resampled(samples, given, rate)


def _decoded(file: dict[str, Any], rate: int) -> tuple[np.ndarray, int]:
    """Return samples and their rate."""
    name = file.get("path") or "of a row"
    try:
        content = file.get("bytes") or Path(file["path"]).read_bytes()
        with wave.open(io.BytesIO(content)) as recording:
            return _from_pcm(recording)
    except (OSError, KeyError, TypeError) as error:
        raise InputError(f"The recording {name} cannot be read ({error}). Mend it, or remove its row.") from error
    except (wave.Error, EOFError) as error:  # not a WAV file that the standard library reads
        if find_spec("torchcodec") is None:
            raise InputError(
                f"The recording {name} is no WAV file of whole numbers ({error}). Convert it, or install torchcodec, "
                "which reads other kinds."
            ) from error
    try:
        decoder = Audio(sampling_rate=rate, num_channels=1).decode_example({"bytes": content, "path": None})
        return decoder.get_all_samples().data[0].numpy(), rate
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"The recording {name} cannot be read ({error}). Mend it, or remove its row.") from error


def _from_pcm(recording: wave.Wave_read) -> tuple[np.ndarray, int]:
    width, content = recording.getsampwidth(), recording.readframes(recording.getnframes())
    if width == 3:  # as the upper three bytes of four
        parts = np.frombuffer(content, np.uint8).reshape(-1, 3)
        content, width = np.pad(parts, ((0, 0), (1, 0))).tobytes(), 4
    if width not in _PCM:
        raise wave.Error(f"{8 * width} bits a sample")
    values = np.frombuffer(content, _PCM[width]).astype(np.float64)
    if width == 1:
        values -= 128
    values /= 2.0 ** (8 * width - 1)
    return values.reshape(-1, recording.getnchannels()).mean(axis=1).astype(np.float32), recording.getframerate()


def _resampled(samples: np.ndarray, given: int, rate: int) -> np.ndarray:
    """Resample by the Fourier transform: frequencies above the new rate's limit are removed, so nothing is aliased."""
    length = max(1, round(len(samples) * rate / given))
    spectrum = np.fft.rfft(samples)[: length // 2 + 1]
    return (np.fft.irfft(spectrum, length) * (length / len(samples))).astype(np.float32)
