"""`BayesianModel`: a model together with its posterior, for prediction."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import CommitInfo
from torch import nn
from torch.utils.data import Dataset
from transformers import PreTrainedConfig, PreTrainedModel

from .errors import InputError, PushError
from .hub import (
    CardMetadata,
    Evaluation,
    StoredPosterior,
    fetch_checkpoint,
    load_mean,
    load_posterior,
    push_checkpoint,
    read_checkpoint,
    read_evaluations,
    read_recalibration,
    save_mean,
    save_posterior,
    saved_aside,
    write_card,
    write_evaluations,
)
from .padding import Collator
from .posterior import Posterior, PosteriorConfig, draw_seed
from .posthoc import Recalibration
from .prediction import Predictor
from .predictive import ForecastOutput
from .recalibration import fit_recalibration
from .twin import Kept, Twins, derive_anew

__all__ = ["BayesianModel"]


class BayesianModel(Predictor):
    """
    A model, whose weights are the posterior's mean, and the posterior over them.

    ```python
    model = BayesianModel.from_pretrained("outputs/demo/checkpoint")
    out = model.predict(pixel_values=x, num_samples=16, seed=0)
    out = model.predict_dataset(test_data, num_samples=16, seed=0)
    with model.sample(seed=0) as drawn:      # an ordinary model with the weights of one draw
        logits = drawn(pixel_values=x).logits
    classifier = pipeline("image-classification", model=model, image_processor=processor)
    ```

    Args:
        model: holds the posterior's mean: a `PreTrainedModel`, a `PeftModel`, or your own module.
        posterior: over its weights.
        stored: the settings it was learned with.
        evaluations: its results on data sets.
        recalibration: fitted to held-out data by `calibrate`; applied to every predictive.
    """

    def __init__(
        self,
        model: nn.Module,
        posterior: Posterior,
        stored: StoredPosterior,
        evaluations: Sequence[Evaluation] = (),
        recalibration: Recalibration | None = None,
    ) -> None:
        self.model = model.eval()
        derive_anew(model)
        self._kept = Kept(model)
        self.posterior = posterior
        self.evaluations = list(evaluations)
        self.recalibration = recalibration
        self.stored = stored

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        subfolder: str = "",
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        base_model: nn.Module | None = None,
        **model_kwargs: Any,
    ) -> BayesianModel:
        """
        Load mean and posterior from the Hub, or from a folder that `save_pretrained` or the trainer wrote.

        Args:
            name: `user/repository` on the Hub, or a folder.
            revision: branch, tag or commit; mean and posterior are those of one commit. Default: `main`.
            subfolder: where in the repository or folder the checkpoint lies.
            token: for private repositories; default: that of `hf auth login`.
            cache_dir: default: the usual cache of the Hub.
            local_files_only: do not ask the Hub, use the cache only; `HF_HUB_OFFLINE=1` does the same.
            base_model: for an adapter's checkpoint, the model to put it on, changed in place: the one that it was
                trained on, in any precision; default: the one that its configuration names, rounded and quantised as
                in training. For other checkpoints, the model to put the weights into; your own module needs this.
            model_kwargs: passed on to the model's `from_pretrained`. Weights are float32 whatever `dtype` says.

        Raises:
            PosteriorCheckpointError: no posterior there, a damaged one, or one of another mean.
            OSError: the Hub cannot be reached (`huggingface_hub.errors` has the cases).
        """
        if model_kwargs.pop("trust_remote_code", False):
            raise InputError(
                "Code from a checkpoint is never executed: leave out trust_remote_code=True, and give a model whose "
                "class transformers does not have as base_model=model."
            )
        where: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        folder = fetch_checkpoint(name, revision=revision, subfolder=subfolder, **where)
        contents = read_checkpoint(folder)
        model = load_mean(folder, base_model, model_kwargs, base_kwargs=where)
        posterior, stored = load_posterior(folder, model, contents)
        return cls(model, posterior, stored, read_evaluations(folder), read_recalibration(folder))

    def save_pretrained(
        self, folder: str | os.PathLike[str], *, push_to_hub: bool = False, repo_id: str | None = None, **kwargs: Any
    ) -> None:
        """
        Save the mean as its library does, with the posterior, the evaluations and a model card beside it.

        Args:
            push_to_hub: push the folder afterwards.
            repo_id: where to; default: the folder's name.
            kwargs: as `push_to_hub` takes them.
        """
        self.posterior.require_mean()
        with saved_aside(folder) as aside:
            save_mean(self.model, aside)
        save_posterior(folder, self.model, self.posterior, self.stored)
        write_evaluations(folder, self.evaluations, self.recalibration)
        if push_to_hub:
            push_checkpoint(folder, repo_id or os.path.basename(os.path.abspath(folder)), **kwargs)
        else:
            write_card(folder, repo_id=repo_id)

    def calibrate(
        self,
        dataset: Dataset,
        *,
        temperature: bool = True,
        posterior_scale: bool = False,
        num_samples: int = 16,
        seed: int = 0,
        batch_size: int = 32,
        data_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
        processing_class: Any = None,
    ) -> Recalibration:
        """
        Fit a temperature of the predictive, a factor for the posterior's standard deviations, or both, by the negative
        log-likelihood of held-out data. The result is applied to every later predictive, and saved and pushed with the
        model; earlier evaluations, which no longer hold, are dropped.

        Use neither the training nor the test data: `hf_scorevi.evaluation.evaluate` refuses data that are
        among these.

        Args:
            dataset: of rows as the Trainer takes them, with `labels`, one class an example.
            temperature: fit one; costs `num_samples` passes over the data.
            posterior_scale: fit one, by ten times as many passes; together with a temperature, each factor is
                compared with its own best temperature.
            num_samples, seed: of the draws.
            batch_size, data_collator, processing_class: as in `predict_dataset`.

        Raises:
            ValueError: nothing to fit, or these data have no labels, or the model is no classifier.
        """
        found = fit_recalibration(
            self,
            dataset,
            temperature=temperature,
            posterior_scale=posterior_scale,
            num_samples=num_samples,
            seed=seed,
            batch_size=batch_size,
            data_collator=data_collator or Collator(processing_class),
        )
        self.recalibration, self.evaluations = found, []
        return found

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        token: str | bool | None = None,
        commit_message: str = "Upload a Bayesian model",
        metadata: CardMetadata | None = None,
    ) -> CommitInfo:
        """
        Push mean, posterior, figures and card in one commit; what people have written on the card is kept.

        Args:
            repo_id: `user/repository`, made if it is not there.
            private: whether a repository that is made is private.
            revision: branch, made if it is not there; default: `main`.
            create_pr: open a pull request instead.
            token: default: that of `hf auth login`.
            metadata: for the card: licence, base model, data, tags.

        Raises:
            PushError: the Hub refused or broke off; the message says why.
        """
        with TemporaryDirectory() as folder:
            self.posterior.require_mean()
            save_mean(self.model, folder)
            save_posterior(folder, self.model, self.posterior, self.stored)
            write_evaluations(folder, self.evaluations, self.recalibration)
            try:
                return push_checkpoint(
                    folder,
                    repo_id,
                    private=private,
                    revision=revision,
                    create_pr=create_pr,
                    token=token,
                    commit_message=commit_message,
                    metadata=metadata,
                )
            except PushError as error:
                raise PushError(
                    f"The model could not be pushed to {repo_id}: {error.reason} Try again, or keep it with "
                    "save_pretrained(folder) and push that with `hf-scorevi push`.",
                    error.reason,
                ) from error.__cause__

    def forecast(
        self,
        *,
        num_samples: int = 16,
        seed: int | None = None,
        use_mean: bool = False,
        quantile_levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        paths_per_draw: int | None = None,
        draws_at_once: int = 1,
        **inputs: Any,
    ) -> ForecastOutput:
        """
        Return the posterior predictive of the future of series: uncertainty of the weights and noise of observations.

        ```python
        out = model.forecast(past_values=x, num_samples=32, seed=0)
        out.mean, out.epistemic_variance, out.aleatoric_variance   # (B, H, C)
        lower, upper = out.interval(0.9)
        out.paths                                                  # (P, B, H, C)
        ```

        Args:
            num_samples: posterior draws S.
            seed: of the draws and the noise; default: fresh ones.
            use_mean: forecast with the mean's weights alone.
            quantile_levels: in (0, 1).
            paths_per_draw: sample paths for each draw. Default: one; for a head that models a distribution, its
                configuration's `num_parallel_samples`, but at least two.
            draws_at_once: as in `predict`; not for heads that model a distribution.
            inputs: as the model's forward takes them, `past_values` (B, L, C) to begin with; for a
                TimeSeriesTransformer, Informer or Autoformer as its `generate` does.

        Raises:
            ValueError: the model is no forecaster, or its noise variance is not known; a level outside (0, 1).
        """
        if not self.head.forecasts:
            raise ValueError(f"{type(self.model).__name__} is no forecaster; ask predict().")
        if paths_per_draw is None:
            paths_per_draw = 1 if self.head.likelihood == "gaussian" else self.config.num_parallel_samples
        found: Any = self.predict(
            num_samples=num_samples,
            seed=seed,
            use_mean=use_mean,
            quantile_levels=quantile_levels,
            paths_per_draw=paths_per_draw,
            draws_at_once=draws_at_once,
            **self.inputs_of(inputs),
        )
        return found

    @property
    def config(self) -> PreTrainedConfig:
        """The model's configuration."""
        return self.model.config  # type: ignore[return-value]

    @property
    def posterior_config(self) -> PosteriorConfig:
        """The posterior's configuration."""
        return self.stored.config

    def to(self, device: torch.device | str) -> BayesianModel:
        """Move weights and posterior to a device; the dtype stays float32."""
        self.model.to(device)
        self.posterior.to_params_device()
        return self

    @contextmanager
    def sample(self, seed: int = 0) -> Iterator[nn.Module]:
        """
        Return a model with the weights of one draw. It shares its other weights with `model`, which holds the mean
        throughout. It is an ordinary model, to be copied or called from other threads.
        """
        yield Twins(self.model, self.posterior, self._kept, evaluate=False).drawn(
            draw_seed(seed, 0), self.posterior_scale, last=True
        )

    def merge_and_unload(self, seed: int = 0, *, use_mean: bool = False) -> PreTrainedModel:
        """
        Return a copy of the base model with one draw of the adapter merged into it: a plain, independent model.

        Args:
            seed: of the draw, the same as that of `sample(seed)`.
            use_mean: merge the mean instead, as PEFT's own `merge_and_unload` does.

        Raises:
            ValueError: there is no adapter, or the base is quantised.
        """
        if not hasattr(self.model, "merge_and_unload"):
            raise ValueError(
                f"{type(self.model).__name__} has no adapter to merge. The model of one draw is what "
                "`with model.sample(seed) as drawn:` gives."
            )
        if getattr(self.model, "is_quantized", False):
            raise ValueError(
                "Merging into a quantised base would round the draw away. Load the adapter onto the base in full "
                "precision first: BayesianModel.from_pretrained(folder, base_model=model)."
            )
        with nullcontext(self.model) if use_mean else self.sample(seed) as drawn:
            drawn = copy.deepcopy(drawn)
        return drawn.merge_and_unload()  # type: ignore[operator]
