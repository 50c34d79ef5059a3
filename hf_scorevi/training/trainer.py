"""`ScoreVITrainer`: the Hugging Face `Trainer` that learns a posterior instead of a point."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import DataCollator, TrainerCallback
from transformers.utils import logging

from ..batch_norm import frozen_running_statistics
from ..errors import InputError
from ..heads import Head, base_of
from ..inference import ScoreStatistic
from ..posterior import PosteriorConfig, local, posterior_figures
from ..random_state import RandomState
from .arguments import ScoreVITrainingArguments
from .distributed import average_, require_gradient_sync
from .figures import training_figures, warn_if_rounded
from .non_finite import non_finite_error, non_finite_inputs, require_finite_weights
from .own_loss import LossCheck, own_loss
from .refusals import refuse_pruning
from .renewing import RenewingTrainer
from .window import Window

__all__ = ["ScoreVITrainer"]

logger = logging.get_logger(__name__)


class ScoreVITrainer(RenewingTrainer):
    """
    Train as `Trainer` does, and learn a Gaussian posterior over the model's weights, by score matching with a proximal
    penalty (Kim, arXiv 2602.05873).

    The mean is moved by whatever `optim`, schedule and clipping the arguments choose; every `curvature_interval`-th
    step also moves the precisions. `evaluate()` and `predict()` are of the posterior predictive, averaged over
    `eval_num_samples` draws of the weights; `metrics` has `accuracy`, `nll`, `ece` and `brier` of it, and `mean_…` of
    the mean's weights alone. `save_model()` writes the mean as usual and the posterior beside it.

    `PredictionOutput.predictions` are log-probabilities for classes, tokens, pixels and spans (two arrays), logits of
    the averaged probabilities for several labels an example, and means over draws in the target's units for numbers
    and forecasts. `predict()` also returns `.predictive`: probabilities and uncertainties, or means and variances.

    Args:
        model, args, …: as for `Trainer`; `args` is a `ScoreVITrainingArguments`.
        posterior_config (`PosteriorConfig`, *optional*): the posterior; the defaults suit fine-tuning.

    Attributes:
        posterior: the live `Posterior`, whose mean is the model's weights.
        prior: the `GaussianPrior`.
        likelihood: what the loss stands for: number of terms, temperature, noise variance. `None` before training.

    Raises:
        ValueError: under this set-up the posterior would be wrong, or nothing is trainable.

    Example:

    ```python
    import torch
    from transformers import ViTConfig, ViTForImageClassification
    from hf_scorevi import PosteriorConfig, ScoreVITrainer, ScoreVITrainingArguments

    config = ViTConfig(image_size=8, patch_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    rows = [{"pixel_values": torch.randn(3, 8, 8), "labels": i % 2} for i in range(32)]
    trainer = ScoreVITrainer(
        ViTForImageClassification(config),
        ScoreVITrainingArguments("out", max_steps=20, report_to="none"),
        train_dataset=rows,
        eval_dataset=rows,
        posterior_config=PosteriorConfig(family="diagonal"),
    )
    trainer.train()
    print(trainer.evaluate()["eval_nll"])
    print(trainer.predict(rows).predictive.probs.shape)  # (32, 2)
    ```
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
        **kwargs: Any,
    ) -> None:
        if args is None:
            args = ScoreVITrainingArguments(output_dir="tmp_trainer")
        if not isinstance(args, ScoreVITrainingArguments):
            raise TypeError(f"args must be ScoreVITrainingArguments, not {type(args).__name__}.")
        super().__init__(
            model, args, data_collator, train_dataset, eval_dataset, posterior_config=posterior_config, **kwargs
        )
        # Most heads accept **kwargs but ignore num_items_in_batch; the Trainer would then not divide by the number of
        # accumulation steps, and the likelihood would weigh that many times too much. Nor would it with a
        # compute_loss_func. So each loss here is a mean over its micro-batch, and is divided.
        self.model_accepts_loss_kwargs = False
        self._shares: list[Tensor] | None = None  # of the micro-batches that were fetched last
        self.add_callback(_StepHook(self))

    def _build_posterior(self) -> None:
        super()._build_posterior()
        self._own_loss: str | None = None
        self._loss_check: LossCheck | None = None
        self._window: Window | None = None

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

    # The loss, as a likelihood

    def _check_loss(self) -> None:
        """Find out whether the loss is one of the user's own, to be compared with the head's likelihood."""
        if self.loss_is_scaled_for_ga is not False:
            raise InputError(
                f"loss_is_scaled_for_ga={self.loss_is_scaled_for_ga} does not go with ScoreVITrainer, which divides "
                "by the number of accumulated batches itself: let compute_loss give the mean over its micro-batch, of "
                "which num_items_in_batch is the number of labels here, and leave the attribute alone."
            )
        self._own_loss, self._loss_check = own_loss(self, ScoreVITrainer.compute_loss), None
        if self._own_loss is not None and self.args.loss_is_likelihood:
            return
        config = self.posterior_config
        self._loss_check = LossCheck(
            self._own_loss,
            self.head,
            counted=config.num_data is not None,
            declared=config.noise_variance != "auto",
            lenient=self._own_loss == type(base_of(self._plain_model())).__name__,
            half=self.args.bf16 or self.args.fp16 or any(p.element_size() < 4 for p in self.model.parameters()),
        )

    def _find_head(self, model: nn.Module) -> Head:
        """Return the head of the model; of a loss that the user declares to be a likelihood, nothing else is known."""
        declared = self.args.loss_is_likelihood and own_loss(self, ScoreVITrainer.compute_loss) is not None
        try:
            head = super()._find_head(model)
        except ValueError:
            if not declared:
                raise
            return Head(is_assumed=True)
        if declared and head.likelihood == "gaussian":
            return replace(head, task="classes", likelihood="categorical", is_assumed=True)
        return head

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """
        Return the loss (and outputs) as `Trainer` does. In training the observation noise is learned from a squared
        error; if its variance differs between steps or channels, the loss is the mean of squared residuals weighted by
        the inverse variance.
        """
        likelihood = self.likelihood
        if likelihood is None or not likelihood.learns_noise or not model.training:
            result: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            share = None if self._window is None else self._window.share
            if not model.training or share is None or not self.head.counts_labels:
                return result
            loss = result[0] if return_outputs else result
            loss = loss.where(share > 0, 0)  # a mean over no terms is NaN
            return (loss, result[1]) if return_outputs else loss
        noise = likelihood.noise
        assert noise is not None
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        squares = loss.detach()
        if noise.granularity != "model":
            head = self.head
            predicted = head.predicted(outputs)
            squares = (predicted - head.observed(inputs[head.target]).reshape(predicted.shape)).square()
            weights = noise.weights(squares)
            if weights is not None:
                loss = (squares * weights).mean()
        noise.observe(squares)
        return (loss, outputs) if return_outputs else loss

    def _items_in(self, inputs: Mapping[str, Any]) -> Tensor | None:
        """Return the number of labels of a micro-batch."""
        labels = inputs.get("shift_labels")
        if labels is None:
            labels = inputs.get("labels")
            if self._loss_shifts_labels and labels is not None:
                labels = labels[..., 1:]
        return (labels != -100).sum().to(self.args.device) if isinstance(labels, Tensor) else None

    # A step, from its batches to the gradient and the precisions

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """Fetch as `Trainer` does, and count the terms of each micro-batch: all terms of a step weigh alike."""
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._shares = None
        if len(samples) == 1 and self.args.world_size == 1 and not self.head.counts_labels:
            return samples, items  # whose share is one
        terms = [self.head.count(inputs) for inputs in samples]
        if terms and all(count is not None for count in terms):
            counts = torch.stack([count.to(device) for count in terms]).double()  # type: ignore[union-attr]
            mean = self.accelerator.gather(counts).mean() if self.args.world_size > 1 else counts.mean()
            self._shares = list(counts / mean.clamp_min(torch.finfo(torch.float64).tiny))
        return samples, items

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
            shares=self._shares,
        )
        return self._window

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """
        Run forward and backward of one micro-batch under drawn weights, twice, at +ε and −ε, on a curvature step, and
        return the mean loss.

        Whatever happens, the model holds the mean afterwards. `.grad` ends as the gradient of the expected loss plus
        the prior's, ready for clipping and the optimizer.
        """
        window = self._window
        if window is None or window.complete:
            window = self._begin_window()
        self._batch_norm_stale = self._noise_stale = True
        statistic, samples = window.statistic, self.args.mc_samples
        repeated = samples > 1 or (statistic is not None and statistic.pairs)
        random_state = RandomState(self.args.device) if repeated else None  # reading it waits for the device
        losses: list[Tensor] = []

        def run(sync: bool) -> None:
            replay = random_state if losses else None
            losses.append(self._pass(model, inputs, window, sync, replay))

        for sample in range(samples):
            seed = window.noise_seed(sample)
            if statistic is not None:
                statistic.before(seed)
            with self._weights.drawn(self._posterior_model, self.posterior, seed) as draw:
                run(sync=statistic is None and sample == samples - 1)
                if statistic is not None and statistic.pairs:
                    statistic.between(seed)
                    draw.flip_()
                    run(sync=False)
            if statistic is not None:
                per_batch = window.gradient_scale / self.current_gradient_accumulation_steps
                statistic.after(seed, per_batch * window.loss_factor())
        window.micro_batch += 1
        if self.accelerator.sync_gradients:
            self._finish_gradients(model, window, passes=len(losses))
            window.complete = True
        return torch.stack(losses).mean()

    def _pass(
        self, model: nn.Module, inputs: dict[str, Any], window: Window, sync: bool, replay: RandomState | None
    ) -> Tensor:
        """
        Run forward and backward under the weights in place, and return the loss. With the random state of an earlier
        pass to `replay`, nothing is left but the gradient.
        """
        # A loss of the user's own may divide by it: with the number of the whole window it would be divided twice.
        items = None if self._own_loss is None else self._items_in(inputs)
        with contextlib.ExitStack() as stack:
            if replay is not None:
                replay.restore()
                stack.enter_context(frozen_running_statistics(model))
            if self.is_fsdp_enabled:
                if window.statistic is not None:  # which reads the gradient after each pass
                    require_gradient_sync(model)
            elif not sync:
                stack.enter_context(self.accelerator.no_sync(model))
            before = dict(inputs)  # from which a loss may take the labels
            if self._loss_check is not None:
                stack.enter_context(self._loss_check.watching(model))
            steps = self.current_gradient_accumulation_steps
            stack.callback(setattr, self, "current_gradient_accumulation_steps", steps)
            if window.share is not None:  # the loss, a mean over terms, is divided by it
                self.current_gradient_accumulation_steps = steps / window.share.float()  # type: ignore[assignment]
            try:
                loss = super().training_step(model, inputs, items)
            except ValueError as error:  # of a model, or of a distribution, that looks at its values
                if not non_finite_inputs(inputs):
                    raise
                step = self.state.global_step
                raise non_finite_error("The model refused a batch", step, inputs, self.model) from error
        if window.gradient_scale < 1 or not self._scaled:
            self._require_finite(loss, "training loss", inputs)
        if self._loss_check is not None:
            noise = None if self.likelihood is None else self.likelihood.noise
            factor = window.loss_factor()
            if factor and (noise is None or noise.value is None or not noise.value.dim()):  # or it weighs residuals
                self._loss_check.head = self.head
                self._loss_check.compare(loss * self.current_gradient_accumulation_steps / factor, before)
                if self._loss_check.is_done:
                    self._loss_check = None
        return loss

    def _require_finite(self, value: Tensor, name: str, inputs: Mapping[str, Any] | None = None) -> None:
        """Raise `NonFiniteLossError`, which looks for the cause in the `inputs` of the pass, if there are any."""
        if not torch.isfinite(value):
            raise non_finite_error(f"The {name} is {value.item()}", self.state.global_step, inputs, self.model)

    @property
    def _scaled(self) -> bool:
        """Return whether a gradient scaler is at work: it skips a step that is not finite, and lowers its scale."""
        return self.accelerator.scaler is not None and self.accelerator.scaler.is_enabled()

    @torch.no_grad()
    def _finish_gradients(self, model: nn.Module, window: Window, passes: int) -> None:
        """Average over passes, and over processes where ordinary synchronisation was off; add the prior's gradient."""
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
            grads_of = {i: grad for i in bucket if (grad := self.posterior.grad(i)) is not None}
            if grads_of:
                params = [self.posterior.params[i] for i in grads_of]
                self.prior.add_gradient_(list(grads_of.values()), params, list(grads_of), scale)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | None = None) -> Any:
        """Return the norm before an optimizer step, if it is finite; a gradient scaler would see to that itself."""
        norm = super()._get_grad_norm(model, grad_norm)
        if not self._scaled:
            self._require_finite(torch.as_tensor(norm), "norm of the gradient")
        return norm

    def _after_optimizer_step(self) -> None:
        """Move the precisions, after a curvature step that was not skipped."""
        window = self._window
        if window is None or window.statistic is None or self.accelerator.optimizer_step_was_skipped:
            return
        assert self.update is not None
        curvature = window.statistic.curvature(1 / (self.args.mc_samples * window.gradient_scale))
        window.statistic = None  # frees its memory
        if not self.is_fsdp_enabled:  # which has averaged the gradients that the statistic is made of
            average_(curvature)
        self.update.likelihood_weight = self._resolved_likelihood().weight  # moves with a learned noise variance
        self.update.step(curvature, self._get_learning_rate())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as `Trainer` does, with the figures that show a healthy posterior (`training_figures`)."""
        if "loss" in logs and self.update is not None and self.likelihood is not None:
            figures = training_figures(logs["loss"], self.posterior, self.prior, self.likelihood, self.update)
            if not all(map(math.isfinite, figures.values())):
                require_finite_weights(self.model, self.state.global_step)
            warn_if_rounded(figures["std_relative_mean"], self.args)
            logs.update(figures)
        super().log(logs, start_time)


class _StepHook(TrainerCallback):
    """Calls the trainer at the moments that it has no method for."""

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
