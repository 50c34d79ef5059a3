"""`ScoreVITrainer`: the Hugging Face `Trainer` that learns a posterior instead of a point."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import DataCollator, EvalPrediction, TrainerCallback
from transformers.utils import logging
from transformers.utils.generic import find_labels

from ..batch_norm import frozen_running_statistics
from ..errors import InputError
from ..heads import Head, base_of
from ..hub import StoredPosterior, load_posterior
from ..inference import (
    ClosedFormUpdate,
    ElboUpdate,
    LowRankUpdate,
    PosteriorUpdate,
    ProximalSchedule,
    ScoreStatistic,
)
from ..posterior import (
    GaussianPrior,
    Posterior,
    PosteriorConfig,
    local,
    named_parameters,
    posterior_figures,
    select_parameters,
)
from ..random_state import RandomState
from ..twin import Kept
from .arguments import ScoreVITrainingArguments
from .checkpointing import load_posterior_into, load_state, save_state
from .distributed import average_, reoptimize, require_gradient_sync
from .figures import training_figures
from .likelihood import Likelihood, resolve_likelihood, stored_likelihood
from .mixed_precision import warn_if_rounded
from .non_finite import non_finite_error, non_finite_inputs, require_finite_weights
from .optimizers import require_weights, spare
from .own_loss import LossCheck, own_loss
from .posterior_trainer import PosteriorTrainer
from .prior import initial_prior
from .record import training_record
from .refusals import refuse_pruning, refuse_unsupported, upcast
from .window import Window

__all__ = ["ScoreVITrainer"]

logger = logging.get_logger(__name__)

# What an update is made of; the other settings it is given as it goes.
_UPDATE_ARGUMENTS = (
    "objective",
    "update",
    "proximal_weight",
    "proximal_growth",
    "proximal",
    "score_norm",
    "inner_steps",
    "inner_learning_rate",
)
# Recorded with a checkpoint: how its posterior was learned.
_METHOD_ARGUMENTS = (*_UPDATE_ARGUMENTS, "antithetic", "curvature_interval", "mc_samples", "seed")


class ScoreVITrainer(PosteriorTrainer):
    """
    A `Trainer` that places a Gaussian posterior over the model's weights and learns it by score matching with a
    proximal penalty (Kim, arXiv 2602.05873).

    The mean is moved by whatever `optim`, schedule and clipping the arguments choose; every `curvature_interval`-th
    step also moves the precisions. `evaluate()` and `predict()` give the posterior predictive: `predictions` are log
    probabilities averaged over `eval_num_samples` draws, metrics carry `accuracy`, `nll`, `ece`, `brier`, and
    `mean_…` of the mean's weights alone. Saving writes the mean as usual and the posterior beside it.

    Args:
        model, args, …: as for `Trainer`; `args` is a `ScoreVITrainingArguments`.
        posterior_config (`PosteriorConfig`, *optional*): the posterior; the defaults suit fine-tuning.

    Attributes:
        posterior: the live `Posterior`, whose mean is the model's weights.
        prior: the `GaussianPrior`.
        likelihood: what the loss stands for: number of data, temperature, scale.
    """

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: nn.Module | None = None,
        args: ScoreVITrainingArguments | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        *,
        posterior_config: PosteriorConfig | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if args is None:
            args = ScoreVITrainingArguments(output_dir="tmp_trainer")
        if not isinstance(args, ScoreVITrainingArguments):
            raise TypeError(f"args must be ScoreVITrainingArguments, not {type(args).__name__}.")
        super().__init__(
            model,
            args,
            data_collator,
            train_dataset,
            eval_dataset,
            compute_metrics=compute_metrics,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            **kwargs,
        )
        self.posterior_config = posterior_config or PosteriorConfig()
        refuse_unsupported(self)
        # Most heads accept **kwargs but ignore num_items_in_batch; the Trainer would then not divide by the number of
        # accumulation steps, and the likelihood would weigh that many times too much. Nor would it with a
        # compute_loss_func. So each loss here is a mean over its micro-batch, and is divided.
        self.model_accepts_loss_kwargs = False
        self.add_callback(_StepHook(self))
        self._optimizer_given = self.optimizer is not None
        self._build_posterior()
        self._name_labels()

    def _build_posterior(self) -> None:
        """Posterior, prior and update over the model as it stands."""
        params = self._selected()
        upcast(self.model, params, autocast=self.args.bf16 or self.args.fp16)
        self._posterior_model, self._base = self._plain_model(), None
        self._kept = Kept(self._posterior_model)
        self.posterior = Posterior.initialise(params, self.posterior_config)
        self.prior: GaussianPrior = initial_prior(self.model, self.posterior, self.posterior_config)
        self._shape = _shape_of(self.posterior_config)
        self.likelihood: Likelihood | None = None
        self._likelihood_head: Head | None = None
        self._own_loss: str | None = None
        self._loss_check: LossCheck | None = None
        self.update: PosteriorUpdate | None = None
        self._update_settings: list[Any] = []
        self._window: Window | None = None

    def _selected(self) -> dict[str, nn.Parameter]:
        """The weights that are to have a posterior, of the model as it stands."""
        config = self.posterior_config
        if config.target == "custom":  # of a checkpoint, which does not hold the callable, but what it chose
            names = set(self.posterior.names)
            return {name: p for name, p in self.model.named_parameters() if name in names}
        return select_parameters(self.model, config.target, config.exclude)

    def _renew(self, training: bool) -> None:
        """
        Posterior, prior and update over the model as it stands, where that is another than they were made of, or has
        other weights. Those that are still there keep what they have learned.

        Args:
            training: what is trainable decides. Otherwise weights that were frozen since keep their posterior.
        """
        plain, former, prior = self._plain_model(), self.posterior, self.prior
        same = plain is self._posterior_model
        if same and self.is_fsdp_enabled:  # whose weights `Posterior.follow` takes up
            return
        shape = _shape_of(self.posterior_config)
        shaped, same_prior = self._shape == shape, self._shape[:2] == shape[:2]
        present = self._selected() if training else dict(self.model.named_parameters())
        still = all(present.get(name) is p for name, p in former.parameters().items())
        if same and shaped and still and not (training and len(present) > len(former.names)):
            return
        likelihood, head = self.likelihood, self._likelihood_head
        self._build_posterior()
        kept = self.posterior.adopt(former) if shaped or likelihood is not None else set()
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
        """What the Trainer keeps from one training to the next, where it is of another model, or of fewer weights."""
        if self.is_fsdp_enabled:
            return
        if self.accelerator.unwrap_model(self.model_wrapped, keep_torch_compile=False) is not self._plain_model():
            self.model_wrapped = self.model
        if self.optimizer is not None and not self._optimizer_given:
            held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
            if any(p.requires_grad and id(p) not in held for p in self.model.parameters()):
                self.optimizer = None

    def _name_labels(self) -> None:
        """What of a batch are labels, and what of a data set the model takes, by the model as it stands."""
        self._signature_columns = None
        if self.args.label_names is not None:
            return
        head = self.head
        if head is not None and head.target != "labels":
            self.label_names = [head.target]  # of which the Trainer knows nothing
        else:
            self.label_names = find_labels(type(base_of(self._plain_model())))

    def _warn_of_unfrozen(self) -> None:
        """Of weights that became trainable since the training began."""
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

    def _prepare_update(self) -> None:
        """What moves the posterior, once there are data and the weights are where they are trained."""
        self._follow_model()
        weight, settings = self._resolved_likelihood().weight, [getattr(self.args, name) for name in _UPDATE_ARGUMENTS]
        if self.update is not None and settings == self._update_settings:
            self.update.likelihood_weight = weight
            return
        self._update_settings = settings
        parts = self.posterior, self.prior, weight
        if self.args.objective != "score":
            self.update = ElboUpdate(*parts, stick_the_landing=self.args.objective == "elbo_stl")
            return
        schedule = ProximalSchedule(self.args.proximal_weight, self.args.proximal_growth)
        if self.posterior_config.family == "low_rank":
            self.update = LowRankUpdate(*parts, schedule)
        else:
            self.update = ClosedFormUpdate(*parts, schedule, self.args.inner_loop())

    def _resolved_likelihood(self) -> Likelihood:
        """The scale of the data term: of the last training, or of what one would now begin with."""
        return self._fresh_likelihood() if self.likelihood is None else self.likelihood

    def _fresh_likelihood(self) -> Likelihood:
        """By the data and the model as they are. A noise that was learned of the same outputs is gone on with."""
        declared = self.args.loss_is_likelihood and own_loss(self, ScoreVITrainer.compute_loss) is not None
        found = resolve_likelihood(
            self.model, self.posterior_config, self.train_dataset, self.posterior.num_weights, declared
        )
        former = self.likelihood
        if former is not None and self.head == self._likelihood_head:
            found.go_on_from(former)
        return found

    def _set_likelihood(self) -> None:
        self.likelihood = self._fresh_likelihood()
        self._likelihood_head = self.head

    # Training

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
        self._renew(training=True)
        self._drop_stale()
        self._check_loss()
        self._set_likelihood()  # what cannot be a likelihood is refused before anything is prepared
        self._evaluated_step = -1
        if self.recalibration is not None:
            logger.warning("The recalibration is of other weights than training will leave, and is dropped.")
            self.recalibration = None
        try:
            output = super()._inner_training_loop(*args, **kwargs)
        finally:
            self.posterior.restore_()  # if an interrupt came at an unlucky moment
        require_finite_weights(self.model, self.state.global_step)
        self._refresh()
        return output

    def _wrap_model(self, model: nn.Module, training: bool = True, *args: Any, **kwargs: Any) -> nn.Module:
        """As `Trainer`'s, which comes to it in training when there is an optimizer, whoever has made it."""
        if training:
            self._prepare_optimizer()
        return super()._wrap_model(model, training, *args, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """As `Trainer`'s, less groups without weights, whose settings a sharded checkpoint would lose."""
        optimizer = super().create_optimizer(model)
        if self.lr_scheduler is None:  # which goes by the groups as they are
            optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
        return optimizer

    def _prepare_optimizer(self) -> None:
        """Bayesian weights don't decay, whoever has made the optimizer."""
        optimizer = self.optimizer
        assert optimizer is not None
        names = {id(p): name for name, p in named_parameters(self._plain_model()).items()}
        bayesian = self.posterior.parameters()
        require_weights(optimizer, bayesian)
        spare(optimizer, bayesian.values(), scheduled=self.lr_scheduler is not None)
        self._optimized = [[names.get(id(p), "") for p in group["params"]] for group in optimizer.param_groups]

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Weight decay is the prior's job on Bayesian weights: only the others decay."""
        if self.args.weight_decay:
            logger.warning_once(
                f"weight_decay={self.args.weight_decay} is not applied to the Bayesian weights: the prior does its "
                "work there (PosteriorConfig(prior_std=...))."
            )
        bayesian = set(self.posterior.names)
        return [name for name in super().get_decay_parameter_names(model) if name not in bayesian]

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """
        Forward and backward of one micro-batch under drawn weights; twice, at +ε and −ε, on a curvature step.

        Whatever happens, the model holds the mean afterwards. `.grad` ends as the gradient of the expected loss plus
        the prior's, ready for clipping and the optimizer.
        """
        window = self._window
        if window is None or window.complete:
            window = self._begin_window()
        self._batch_norm_stale = self._noise_stale = True
        # A loss of the user's own may divide by it: with the number of the whole window it would be divided twice.
        num_items_in_batch = None if self._own_loss is None else self._items_in(inputs)
        repeated = self.args.mc_samples > 1 or (window.statistic is not None and window.statistic.pairs)
        random_state = RandomState(self.args.device) if repeated else None  # reading it waits for the device
        losses: list[Tensor] = []

        def run(sync: bool) -> None:
            replay = random_state if losses else None
            losses.append(self._pass(model, inputs, num_items_in_batch, window, sync, replay))

        for sample in range(self.args.mc_samples):
            seed = window.noise_seed(sample)
            if window.statistic is None:
                with self._weights.drawn(self._posterior_model, self.posterior, seed):
                    run(sync=sample == self.args.mc_samples - 1)
                continue
            window.statistic.before(seed)
            with self._weights.drawn(self._posterior_model, self.posterior, seed) as draw:
                run(sync=False)
                if window.statistic.pairs:
                    window.statistic.between(seed)
                    draw.flip_()
                    run(sync=False)
            window.statistic.after(seed, window.gradient_scale / self.current_gradient_accumulation_steps)
        window.micro_batch += 1
        if self.accelerator.sync_gradients:
            self._finish_gradients(model, window, passes=len(losses))
            window.complete = True
        return torch.stack(losses).mean()

    def _begin_window(self) -> Window:
        assert self.update is not None
        step = self.state.global_step
        score = self.args.objective == "score"
        statistic = None
        if not score or step % self.args.curvature_interval == 0:
            statistic = ScoreStatistic(self.posterior, score or self.args.antithetic, self.update.known())
        self._window = Window(
            seed=self.args.seed,
            step=step,
            statistic=statistic,
            rank=None if self.args.share_noise else 0 if self.is_fsdp_enabled else self.args.process_index,
            gradient_scale=self.accelerator.scaler.get_scale() if self._scaled else 1.0,
        )
        return self._window

    def _pass(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None,
        window: Window,
        sync: bool,
        replay: RandomState | None,
    ) -> Tensor:
        """
        One forward and backward under the weights in place. A repeated one replays the random state of the first, and
        leaves no trace but its gradient.
        """
        with contextlib.ExitStack() as stack:
            if replay is not None:
                replay.restore()
                stack.enter_context(frozen_running_statistics(model))
            if self.is_fsdp_enabled:
                if window.statistic is not None:  # which reads the gradient after each pass
                    require_gradient_sync(model)
            elif not sync:
                stack.enter_context(self.accelerator.no_sync(model))
            target = None
            if self._loss_check is not None:
                target = inputs.get(self._loss_check.target)
                stack.enter_context(self._loss_check.watching(model))
            try:
                loss = super().training_step(model, inputs, num_items_in_batch)
            except ValueError as error:  # of a model, or of a distribution, that looks at its values
                if not non_finite_inputs(inputs):
                    raise
                raise non_finite_error(
                    "The model refused a batch", self.state.global_step, inputs, self.model
                ) from error
        if window.gradient_scale < 1 or not self._scaled:
            self._require_finite(loss, "training loss", inputs)
        if self._loss_check is not None:
            noise = None if self.likelihood is None else self.likelihood.noise
            if noise is None or noise.value is None or not noise.value.dim():  # or the residuals are weighted by it
                loss_check, loss_check.head = self._loss_check, self.head or self._loss_check.head
                loss_check.compare(loss * self.current_gradient_accumulation_steps, target)
        return loss

    def _items_in(self, inputs: Mapping[str, Any]) -> Tensor | None:
        """Labels of a micro-batch."""
        labels = inputs.get("shift_labels")
        if labels is None:
            labels = inputs.get("labels")
            if self._loss_shifts_labels and labels is not None:
                labels = labels[..., 1:]
        return (labels != -100).sum().to(self.args.device) if isinstance(labels, Tensor) else None

    def _check_loss(self) -> None:
        """Find out whether the loss is one of the user's own, and if so what is to be known of it."""
        if self.loss_is_scaled_for_ga is not False:
            raise InputError(
                f"loss_is_scaled_for_ga={self.loss_is_scaled_for_ga} does not go with ScoreVITrainer, which divides "
                "by the number of accumulated batches itself: let compute_loss give the mean over its micro-batch, of "
                "which num_items_in_batch is the number of labels here, and leave the attribute alone."
            )
        self._own_loss, self._loss_check = own_loss(self, ScoreVITrainer.compute_loss), None
        head = self.head
        if self._own_loss is None or self.args.loss_is_likelihood or head is None:
            return
        config = self.posterior_config
        self._loss_check = LossCheck(
            self._own_loss,
            head,
            counted=config.num_data is not None,
            declared=config.noise_variance != "auto",
            lenient=self._own_loss == type(base_of(self._plain_model())).__name__,
            half=self.args.bf16 or self.args.fp16,
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """
        As `Trainer`'s. In training a squared error is also what the noise variance is learned from; if the noise
        differs between steps or channels, the loss is the mean of squared residuals weighted by its inverse variance.
        """
        likelihood = self.likelihood
        if likelihood is None or not likelihood.learns_noise or not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        noise = likelihood.noise
        assert noise is not None
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        squares = loss.detach()
        if noise.granularity != "model":
            head = self.head
            assert head is not None
            predicted = head.predicted(outputs)
            squares = (predicted - head.observed(inputs[head.target]).reshape(predicted.shape)).square()
            weights = noise.weights(squares)
            if weights is not None:
                loss = (squares * weights).mean()
        noise.observe(squares)
        return (loss, outputs) if return_outputs else loss

    @property
    def _scaled(self) -> bool:
        """Whether a gradient scaler is at work: it skips a step that is not finite, and lowers its scale."""
        return self.accelerator.scaler is not None and self.accelerator.scaler.is_enabled()

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | None = None) -> Any:
        """As `Trainer`'s, which asks for it before each optimizer step; a gradient scaler judges for itself."""
        norm = super()._get_grad_norm(model, grad_norm)
        if not self._scaled:
            self._require_finite(torch.as_tensor(norm), "norm of the gradient")
        return norm

    def _require_finite(self, value: Tensor, name: str, inputs: Mapping[str, Any] | None = None) -> None:
        """`inputs`: of the pass."""
        if not torch.isfinite(value):
            raise non_finite_error(f"The {name} is {value.item()}", self.state.global_step, inputs, self.model)

    @torch.no_grad()
    def _finish_gradients(self, model: nn.Module, window: Window, passes: int) -> None:
        """Sums over passes become means, over processes too where ordinary synchronisation was off; add the prior."""
        grads = [local(p.grad) for p in model.parameters() if p.grad is not None]
        if passes > 1:
            torch._foreach_mul_(grads, 1 / passes)
        if window.statistic is not None and not self.is_fsdp_enabled:
            average_(grads)
        if self.head != self._likelihood_head:  # transformers decides some by the first batch
            self._set_likelihood()
        noise = self._resolved_likelihood().noise
        if window.statistic is not None and noise is not None:
            average_(noise.observed())
            noise.update()
        scale = window.gradient_scale / self._resolved_likelihood().weight
        for bucket in self.posterior.buckets:
            found = {i: grad for i in bucket if (grad := self.posterior.grad(i)) is not None}
            if found:
                params = [self.posterior.params[i] for i in found]
                self.prior.add_gradient_(list(found.values()), params, list(found), scale)

    def _after_optimizer_step(self) -> None:
        """On a step with a statistic that was not skipped, move the precisions."""
        window = self._window
        if window is None or window.statistic is None or self.accelerator.optimizer_step_was_skipped:
            return
        assert self.update is not None
        curvature = window.statistic.curvature(1 / (self.args.mc_samples * window.gradient_scale))
        window.statistic = None  # its memory is used up
        if not self.is_fsdp_enabled:  # which has averaged the gradients that the statistic is made of
            average_(curvature)
        self.update.likelihood_weight = self._resolved_likelihood().weight  # moves with a learned noise variance
        self.update.step(curvature, self._get_learning_rate())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds to each training log the figures that tell a healthy posterior (`training_figures`)."""
        if "loss" in logs and self.update is not None and self.likelihood is not None:
            figures = training_figures(logs["loss"], self.posterior, self.prior, self.likelihood, self.update)
            if not all(map(math.isfinite, figures.values())):
                require_finite_weights(self.model, self.state.global_step)
            warn_if_rounded(figures["std_relative_mean"], self.args)
            logs.update(figures)
        super().log(logs, start_time)

    # Saving and loading

    def load_model(self, folder: str | os.PathLike[str]) -> None:
        """
        Mean and posterior as `save_model` wrote them, for instance to evaluate a finished run.

        Raises:
            PosteriorCheckpointError: no posterior there, a damaged one, or one of another mean.
        """
        posterior, stored = load_posterior(folder, self.model)  # first: a damaged one leaves the model alone
        self._load_from_checkpoint(str(folder))
        self.posterior, self.posterior_config, self._base = posterior, stored.config, stored.base
        self._shape = _shape_of(stored.config)
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
            self._noise_stale = True  # the predictive's is not part of the state
        super()._load_optimizer_and_scheduler(checkpoint)


class _StepHook(TrainerCallback):
    """Tells the trainer of the moments that it has no method for."""

    def __init__(self, trainer: ScoreVITrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        trainer = self._trainer
        trainer._prepare_update()
        if trainer.args.bf16 or trainer.args.fp16:  # a pass over all weights
            warn_if_rounded(posterior_figures(trainer.posterior, trainer.prior)["std_relative_mean"], trainer.args)

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self._trainer._warn_of_unfrozen()

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._trainer._begin_window()

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self._trainer._after_optimizer_step()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        refuse_pruning(self._trainer.model)


def _shape_of(config: PosteriorConfig) -> tuple[Any, ...]:
    """What of a configuration a posterior and its prior are made of."""
    chosen = [config.target, config.exclude]
    names = [list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value for value in chosen]
    return config.prior_mean, config.prior_std, config.family, config.rank, config.init_std, *names
