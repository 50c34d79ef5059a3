"""Audio classification with the uncertainty of every prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AudioClassificationPipeline

from .classification import BayesianClassification

__all__ = ["BayesianAudioClassificationPipeline"]


class BayesianAudioClassificationPipeline(BayesianClassification, AudioClassificationPipeline):  # type: ignore[misc]
    """
    Classify recordings, with the uncertainty of each prediction.

    ```python
    classifier = pipeline("bayesian-audio-classification", model="user/repository")
    classifier("dog.wav", num_samples=32, seed=0)
    classifier({"array": samples, "sampling_rate": 44100})
    ```

    For each recording it returns a dictionary like that of `BayesianImageClassificationPipeline`. Recordings are WAV
    files, others that ffmpeg reads, arrays, or dictionaries of an array with its sampling rate.

    Args:
        model: a `BayesianModel`, or where one lies: on the Hub or in a folder.
        feature_extractor: for a model passed as an object, or where one lies; default: the one beside the
            model, or beside an adapter's base. Its class must be of transformers: no code is executed.
        num_samples, seed, top_k: as in `BayesianImageClassificationPipeline`.
    """

    bayesian_task = "bayesian-audio-classification"
    part = "feature_extractor"

    def __init__(self, *args: Any, top_k: int | None = 5, **kwargs: Any) -> None:
        super().__init__(*args, top_k=top_k, **kwargs)

    def preprocess(self, inputs: Any) -> Any:  # type: ignore[override]
        """Return the model's inputs for one recording."""
        is_wav = isinstance(inputs, str) and inputs.lower().endswith(".wav") and "://" not in inputs
        if is_wav or (isinstance(inputs, dict) and "array" in inputs):  # without ffmpeg, and without torchaudio
            from ..audio_data import to_waveform

            inputs = to_waveform(inputs, self.feature_extractor.sampling_rate, Path())  # type: ignore[union-attr]
        return super().preprocess(inputs)

    def _sanitize_parameters(  # type: ignore[override]
        self, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess, forward, _ = super()._sanitize_parameters(**kwargs)
        # The stock one takes a call without top_k for one that asks for all classes.
        return preprocess, forward, {"top_k": kwargs["top_k"]} if "top_k" in kwargs else {}
