"""`RenewingTrainer`: posterior, prior, likelihood, update and optimizer, over the model as it stands."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from transformers.utils import logging
from transformers.utils.generic import find_labels

from ..heads import Head, base_of
from ..hub import StoredPosterior, load_posterior
from ..inference import ClosedFormUpdate, ElboUpdate, LowRankUpdate, PosteriorUpdate, ProximalSchedule
from ..posterior import GaussianPrior, Posterior, PosteriorConfig, named_parameters, select_parameters
from ..twin import Kept
from .checkpointing import load_posterior_into, load_state, save_state, training_record
from .distributed import reoptimize
from .likelihood import Likelihood, count_terms, resolve_likelihood, stored_likelihood
from .optimizers import require_weights, spare
from .prior import initial_prior
from .refusals import refuse_unsupported, upcast
from .saving import SavingTrainer
from .training_data import training_batches

__all__ = ["RenewingTrainer"]

logger = logging.get_logger(__name__)

# Arguments that an update is made with; what else it takes of them may change as it goes.
_INNER_LOOP = "proximal", "score_norm", "inner_steps", "inner_learning_rate"
_UPDATE_ARGUMENTS = ("objective", "update", "proximal_weight", "proximal_growth", *_INNER_LOOP)
# Recorded with a checkpoint: how its posterior was learned.
_METHOD_ARGUMENTS = (*_UPDATE_ARGUMENTS, "antithetic", "curvature_interval", "mc_samples", "seed")


class RenewingTrainer(SavingTrainer):
    """
    Keeps the posterior and all that is made for it those of the model, which may be changed between two trainings:
    frozen, unfrozen, wrapped, or replaced. Weights that stay keep what they have learned.

    Args:
        posterior_config (`PosteriorConfig`, *optional*): the posterior; the defaults suit fine-tuning.
    """

    def __init__(self, *args: Any, posterior_config: PosteriorConfig | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.posterior_config = posterior_config or PosteriorConfig()
        refuse_unsupported(self)
        # Data, collator, head and length whose terms of the likelihood were counted last, and their number. The
        # objects themselves: an id may be that of another by now.
        self._counted: tuple[Any, Any, Head, int | None, int] | None = None
        self._optimizer_given = self.optimizer is not None
        self._build_posterior()
        self._name_labels()

    def _build_posterior(self) -> None:
        """Make posterior and prior over the model as it stands."""
        params = self._selected()
        upcast(self.model, params, autocast=self.args.bf16 or self.args.fp16)
        self._posterior_model, self._base = self._plain_model(), None
        self._kept = Kept(self._posterior_model)
        self.posterior = Posterior.initialise(params, self.posterior_config)
        self.prior: GaussianPrior = initial_prior(self.model, self.posterior, self.posterior_config)
        self._recipe = _recipe_of(self.posterior_config)
        self.likelihood: Likelihood | None = None
        self._likelihood_head: Head | None = None
        self.update: PosteriorUpdate | None = None
        self._update_settings: list[Any] = []

    def _selected(self) -> dict[str, nn.Parameter]:
        """Return the weights that are to have a posterior, of the model as it stands."""
        config = self.posterior_config
        if config.target == "custom":  # of a checkpoint, which does not hold the callable, but what it chose
            names = set(self.posterior.names)
            return {name: p for name, p in self.model.named_parameters() if name in names}
        return select_parameters(self.model, config.target, config.exclude)

    def _renew(self, training: bool) -> None:
        """
        Make posterior and prior anew if the model is another than they were made of, or has other weights. Weights
        that are still there keep what they have learned.

        Args:
            training: drop weights that were frozen since, and take up trainable ones; else those keep their posterior.
        """
        plain, former, prior = self._plain_model(), self.posterior, self.prior
        same = plain is self._posterior_model
        if same and self.is_fsdp_enabled:  # whose weights `Posterior.follow` takes up
            return
        recipe = _recipe_of(self.posterior_config)
        same_recipe, same_prior = self._recipe == recipe, self._recipe[:2] == recipe[:2]
        present = self._selected() if training else dict(self.model.named_parameters())
        still = all(present.get(name) is p for name, p in former.parameters().items())
        if same and same_recipe and still and not (training and len(present) > len(former.names)):
            return
        likelihood, head = self.likelihood, self._likelihood_head
        self._build_posterior()
        kept = self.posterior.adopt(former) if same_recipe or likelihood is not None else set()
        if same_prior:
            self.prior.adopt(prior, self.posterior.names, former.names, kept)
        if same:
            self.likelihood, self._likelihood_head = likelihood, head
        lost = [] if likelihood is None else [name for name in former.names if name not in kept]
        if lost and getattr(self, "model_init", None) is None:
            logger.warning(
                f"The model has changed since it was trained or loaded: {len(lost)} weights, e.g. {lost[0]}, are no "
                "longer there or no longer trainable, and what their posterior had learned is dropped."
            )
        self._evaluated_step = -1
        self._batch_norm_stale = self._noise_stale = False
        refuse_unsupported(self)
        self._name_labels()
        if not same and self.place_model_on_device:
            self._move_model_to_device(self.model, self.args.device)
            self.posterior.to_params_device()

    def _drop_stale(self) -> None:
        """Drop what the Trainer keeps from one training to the next, if it is of another model or of fewer weights."""
        if self.is_fsdp_enabled:
            return
        if self.accelerator.unwrap_model(self.model_wrapped, keep_torch_compile=False) is not self._plain_model():
            self.model_wrapped = self.model
        if self.optimizer is not None and not self._optimizer_given:
            held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
            if any(p.requires_grad and id(p) not in held for p in self.model.parameters()):
                self.optimizer = None

    def _name_labels(self) -> None:
        """Find which columns of a batch are labels; the Trainer looks anew at which of them the model takes."""
        self._signature_columns = None
        if self.args.label_names is not None:
            return
        targets = self.head.targets  # of some of which the Trainer does not know
        self.label_names = find_labels(type(base_of(self._plain_model()))) if targets == ("labels",) else list(targets)

    def _warn_of_unfrozen(self) -> None:
        """Warn of weights that became trainable since the training began."""
        new: list[str] = []
        if self.is_fsdp_enabled or self.posterior_config.target == "custom":
            return
        with contextlib.suppress(ValueError):  # none is trainable any more
            new = sorted(self._selected().keys() - set(self.posterior.names))
        if new:
            logger.warning_once(
                f"{len(new)} weights have become trainable, e.g. {new[0]}, and have no posterior: call train() again, "
                "which gives them one, and keeps that of the others."
            )

    def _follow_model(self) -> bool:
        self._renew(training=False)
        followed = super()._follow_model()
        if followed:
            self.prior.follow(self.posterior)
            if self.optimizer is not None:
                # Accelerate 1.15 finds the new weights by the memory of the old ones, and where FSDP's RAM-efficient
                # loading gave these none (in all processes but the first) it leaves most of them out.
                reoptimize(self.optimizer, self._optimized, self._plain_model())
        return followed

    # Likelihood and update

    def _resolved_likelihood(self) -> Likelihood:
        """Return the likelihood of the last training, or that which one would begin with now."""
        return self._fresh_likelihood() if self.likelihood is None else self.likelihood

    def _fresh_likelihood(self) -> Likelihood:
        """Return the likelihood of data and model as they are, with the observation noise that was learned so far."""
        config, head = self.posterior_config, self.head
        num_data = config.num_data
        if num_data is None:
            data: Any = self.train_dataset
            collator = self.data_collator
            length = len(data) if hasattr(data, "__len__") else None
            known = self._counted
            if known is None or known[0] is not data or known[1] is not collator or known[2:4] != (head, length):
                number = count_terms(head, data, self._rows_of_training_data)
                known = self._counted = data, collator, head, length, number
            num_data = known[4]
        likelihood, former = resolve_likelihood(head, config, num_data, self.posterior.num_weights), self.likelihood
        if former is not None and head == self._likelihood_head:
            likelihood.go_on_from(former)
        return likelihood

    def _rows_of_training_data(self, number: int) -> Iterator[dict[str, Any]]:
        """Yield batches of at most `number` rows in all, as the data collator makes them."""
        size = self.args.train_batch_size
        return training_batches(self, size, -(-number // size), whole=True)

    def _set_likelihood(self) -> None:
        self.likelihood = self._fresh_likelihood()
        self._likelihood_head = self.head

    def _prepare_update(self) -> None:
        """Make the update, once there are data and the weights are where they are trained."""
        self._follow_model()
        likelihood_weight = self._resolved_likelihood().weight
        settings = [getattr(self.args, name) for name in _UPDATE_ARGUMENTS]
        if self.update is not None and settings == self._update_settings:
            self.update.likelihood_weight = likelihood_weight
            return
        self._update_settings = settings
        parts = self.posterior, self.prior, likelihood_weight
        if self.args.objective != "score":
            self.update = ElboUpdate(*parts, stick_the_landing=self.args.objective == "elbo_stl")
            return
        schedule = ProximalSchedule(self.args.proximal_weight, self.args.proximal_growth)
        if self.posterior_config.family == "low_rank":
            self.update = LowRankUpdate(*parts, schedule)
        else:
            self.update = ClosedFormUpdate(*parts, schedule, self.args.inner_loop())

    # The optimizer of the means

    def _wrap_model(self, model: nn.Module, training: bool = True, *args: Any, **kwargs: Any) -> nn.Module:
        """Wrap as `Trainer` does; in training there is an optimizer by now, whoever has made it."""
        if training:
            self._prepare_optimizer()
        return super()._wrap_model(model, training, *args, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make `Trainer`'s optimizer, less groups without weights, whose settings a sharded checkpoint would lose."""
        optimizer = super().create_optimizer(model)
        if self.lr_scheduler is None:  # which goes by the groups as they are
            optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
        return optimizer

    def _prepare_optimizer(self) -> None:
        """Take weight decay off the Bayesian weights, whoever has made the optimizer."""
        optimizer = self.optimizer
        assert optimizer is not None
        names = {id(p): name for name, p in named_parameters(self._plain_model()).items()}
        bayesian = self.posterior.parameters()
        require_weights(optimizer, bayesian)
        spare(optimizer, bayesian.values(), scheduled=self.lr_scheduler is not None)
        self._optimized = [[names.get(id(p), "") for p in group["params"]] for group in optimizer.param_groups]

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return the names of weights that decay: none that is Bayesian, which the prior holds."""
        if self.args.weight_decay:
            logger.warning_once(
                f"weight_decay={self.args.weight_decay} is not applied to the Bayesian weights: the prior does its "
                "work there (PosteriorConfig(prior_std=...))."
            )
        bayesian = set(self.posterior.names)
        return [name for name in super().get_decay_parameter_names(model) if name not in bayesian]

    # Saving and loading

    def load_model(self, folder: str | os.PathLike[str]) -> None:
        """
        Load mean and posterior as `save_model` wrote them, for instance to evaluate a finished run.

        Raises:
            PosteriorCheckpointError: no posterior there, a damaged one, or one of another mean.
        """
        posterior, stored = load_posterior(folder, self.model)  # first: a damaged one leaves the model alone
        self._load_from_checkpoint(str(folder))
        self.posterior, self.posterior_config, self._base = posterior, stored.config, stored.base
        self._recipe = _recipe_of(stored.config)
        self._follow_model()
        self.prior = initial_prior(self.model, self.posterior, self.posterior_config)
        self.likelihood, self._likelihood_head = stored_likelihood(stored), self.head
        self.update = None
        self._evaluated_step = -1
        self._batch_norm_stale = self._noise_stale = False

    def _require_resumable(self, folder: str) -> None:
        before, self.likelihood = self.likelihood, None  # for data that are others than those of an earlier training
        try:
            super()._require_resumable(folder)
        except Exception:
            self.likelihood = before
            raise

    def _stored_posterior(self) -> StoredPosterior:
        likelihood = self._resolved_likelihood()
        return StoredPosterior(
            config=self.posterior_config,
            num_data=likelihood.num_data,
            temperature=likelihood.temperature,
            likelihood=likelihood.stored(),
            method={name: getattr(self.args, name) for name in _METHOD_ARGUMENTS} | {"steps": self.state.global_step},
            training=training_record(self),
        )

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.update is not None:
            noise = self._resolved_likelihood().noise
            save_state(output_dir, self.update, noise, self.args.should_save, self._run or 0)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            self._prepare_update()
            assert self.update is not None
            load_posterior_into(self.posterior, checkpoint, self.model)
            load_state(checkpoint, self.update, self._resolved_likelihood().noise)
            self._noise_stale = True  # that of the predictive is not part of the state
        super()._load_optimizer_and_scheduler(checkpoint)


def _recipe_of(config: PosteriorConfig) -> tuple[Any, ...]:
    """Return the fields of a configuration that a posterior and its prior are made of."""
    chosen = [config.target, config.exclude]
    names = [list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value for value in chosen]
    return config.prior_mean, config.prior_std, config.family, config.rank, config.init_std, *names
