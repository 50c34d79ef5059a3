"""`SavingTrainer`: a `Trainer` that saves and loads a model's posterior with it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import logging

from ..hub import (
    POSTERIOR_CONFIG_NAME,
    BaseRecord,
    StoredPosterior,
    check_adapter,
    file_keys,
    load_base_weights,
    load_weights,
    require_finite,
    save_posterior,
    saved_aside,
    whole_tensors,
    write_evaluations,
)
from ..posterior import summarise
from .checkpoint_folders import (
    checkpoint_name,
    last_checkpoint,
    next_run,
    publish,
    recover,
    rotate,
    workspace,
    workspace_name,
)
from .checkpointing import load_posterior_into, record_callbacks
from .evaluating import EvaluatingTrainer
from .likelihood import stored_likelihood
from .non_finite import require_finite_weights
from .resuming import holds_best, require_same_inference, require_state

__all__ = ["SavingTrainer"]

logger = logging.get_logger(__name__)


class SavingTrainer(EvaluatingTrainer):
    """
    Save and load mean and posterior together, with the last evaluation (`calibration.json`, the card) as long as the
    weights are those that it was made with. How the posterior is learned is left to subclasses.
    """

    _base: BaseRecord | None = None  # of an adapter, as it was at the last save

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._begin_run()
        super().__init__(*args, **kwargs)

    @abstractmethod
    def _stored_posterior(self) -> StoredPosterior:
        """Return what is recorded with the posterior: how it was learned."""

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """
        Train as `Trainer` does; first, what a killed run has left half done in `output_dir` is put right.

        Args:
            resume_from_checkpoint: a checkpoint, or `True` for the last of the run that wrote into `output_dir` last.

        Raises:
            PosteriorCheckpointError: the checkpoint cannot be resumed from, or is of a run that infers something else
                (docs/scaling.md has what may change). The model is as it was.
        """
        self._begin_run()
        run_dir = Path(self.args.output_dir or ".")
        if self.args.should_save:
            recover(run_dir)
        self.accelerator.wait_for_everyone()
        if resume_from_checkpoint is True:
            resume_from_checkpoint = self._agreed(last_checkpoint(run_dir)) or True  # which Trainer has an error for
        if isinstance(resume_from_checkpoint, str | Path):
            self._require_resumable(resume_from_checkpoint := str(resume_from_checkpoint))
        return super().train(resume_from_checkpoint, trial, *args, **kwargs)

    def _begin_run(self) -> None:
        self._run: int | None = None  # its number among those that have written into its folder, once it writes
        self._written: set[Path] = set()  # its checkpoints

    def _agreed(self, value: Any) -> Any:
        """Return what the first process has, in all of them."""
        return broadcast_object_list([value])[0]

    def _require_resumable(self, folder: str) -> None:
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        require_state(folder, None if plugin is None else plugin.state_dict_type.name)
        current = self._stored_posterior()
        keys = file_keys(self._plain_model(), self.posterior.names)
        training, seed = require_same_inference(folder, current, [keys[name] for name in self.posterior.names])
        if seed not in (None, self.args.seed):
            logger.warning(
                f"{folder} was written with seed={seed}, and is resumed with seed={self.args.seed}: noise and order "
                "of the data are others from here on, so the result is as good, but not the uninterrupted run's."
            )
        before, now = training.get("batch_size"), current.training["batch_size"]
        if self.args.max_steps <= 0 and before not in (None, now):
            logger.warning(
                f"{folder} was written with {before} examples a step, and is resumed with {now}. A resumed run counts "
                f"steps, not examples: those done are taken for epochs at {now} a step. Give max_steps to say how "
                "many there shall be."
            )

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int, checkpoint: Any, trial: Any
    ) -> tuple[int, int]:
        """Return where to begin as `Trainer` does, which would train a step even where the run had ended."""
        position = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, checkpoint, trial
        )
        if checkpoint is None:
            return position
        stored = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        self.state.best_model_checkpoint = self._agreed(self._find_best(Path(checkpoint), stored))
        stopped_early = (
            self.args.restore_callback_states_from_checkpoint
            and self.control.should_training_stop
            and stored.global_step < stored.max_steps
        )
        return (num_train_epochs, 0) if self.state.global_step >= max_steps or stopped_early else position

    def _find_best(self, checkpoint: Path, stored: TrainerState) -> str | None:
        """Return the best checkpoint so far, beside the one that is resumed, wherever its folder was before."""
        places = [checkpoint.with_name(checkpoint_name(stored.best_global_step))] if stored.best_global_step else []
        places += [Path(stored.best_model_checkpoint)] if stored.best_model_checkpoint else []
        return next((str(folder) for folder in places if holds_best(folder, stored)), None)

    def _name_data(self, name: str | None) -> None:
        if name is not None and self.evaluation is not None and "/" not in self.evaluation.dataset:
            self.evaluation.dataset = name
            if (self._folder / POSTERIOR_CONFIG_NAME).is_file() and self.is_world_process_zero():
                self._write_evaluation(self._folder)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """
        Save as `Trainer` does, with the posterior. Mean and posterior are whole files even of a sharded checkpoint.

        Raises:
            NonFiniteLossError: the mean has weights that are NaN or infinite, and nobody could load it.
        """
        with self._weights.mean(self.posterior):
            require_finite_weights(self._plain_model(), self.state.global_step)
            self._refresh()
            plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
            if plugin is None or "FULL_STATE_DICT" in str(plugin.state_dict_type):
                super().save_model(output_dir, _internal_call)
                return
            self._save(output_dir, self.accelerator.get_state_dict(self.model))
            self._push_saved(_internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        output_dir = output_dir or self.args.output_dir or "."
        state, summary = self.posterior.whole_state(), summarise(self.posterior)  # by all processes
        model = self._plain_model()
        if not isinstance(model, PreTrainedModel) and not hasattr(model, "peft_config"):
            state_dict = whole_tensors(model.state_dict() if state_dict is None else state_dict)
        with (
            self._token_hidden(),
            saved_aside(output_dir) if self.args.should_save else nullcontext(output_dir) as aside,
        ):
            super()._save(str(aside), state_dict)
        if self.args.should_save:
            stored = self._stored_posterior()
            stored.base = self._base
            save_posterior(output_dir, model, self.posterior, stored, state, summary, weights=state_dict)
            self._base = stored.base
            self._write_evaluation(output_dir)

    def _write_evaluation(self, folder: str | Path) -> None:
        """Write what was measured of these weights, if anything was."""
        current = self._evaluated_step == self.state.global_step
        write_evaluations(folder, list(self.evaluations.values()) if current else [])

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save as `Trainer` does, but aside, and rename: a checkpoint is complete or absent, whenever the run dies."""
        if self.hp_search_backend is None and trial is None:
            self.store_flos()
        run_dir, step = Path(self._get_output_dir(trial=trial)), self.state.global_step
        final = run_dir / checkpoint_name(step)
        with self._workspace(run_dir) as place:
            aside = place / final.name
            if self._run is None and self.args.should_save:
                self._run = next_run(run_dir)
            self.accelerator.wait_for_everyone()
            self.save_model(str(aside), _internal_call=True)
            best = run_dir / checkpoint_name(self.state.best_global_step or 0)
            if best == final or best in self._written:  # not one of that name of an earlier run
                self.state.best_model_checkpoint = str(best)
            if not self.args.save_only_model:
                self._save_optimizer_and_scheduler(str(aside))
                self._save_scaler(str(aside))
                self._save_rng_state(str(aside))
            if self.args.should_save:
                record_callbacks(self.state, [*self.callback_handler.callbacks, self.control])
                self.state.save_to_json(str(aside / TRAINER_STATE_NAME))
            self.accelerator.wait_for_everyone()  # all have written their part
            self._written.add(final)
            if self.args.should_save:
                self._await_push(str(final))
                publish(aside, final)
            self.accelerator.wait_for_everyone()
            if self.args.push_to_hub:
                self._push_from_checkpoint(str(final))
            if self.args.should_save:
                keep = {str(final), self.state.best_model_checkpoint} | self._folders_being_pushed
                rotate(run_dir, self.args.save_total_limit, keep, place)

    def _workspace(self, run_dir: Path) -> AbstractContextManager[Path]:
        """Return the folder in which all processes write a checkpoint before it gets its name."""
        name = self._agreed(workspace_name(self.state.global_step))
        return workspace(run_dir, name) if self.args.should_save else nullcontext(run_dir / name)

    def _finalize_training(self, trial: Any, *args: Any) -> Any:
        best, run_dir = self.state.best_model_checkpoint, Path(self._get_output_dir(trial))
        if self.args.load_best_model_at_end and self.state.best_global_step and not best:
            logger.warning(
                f"No checkpoint of step {self.state.best_global_step}, the best of this run, was saved; the model "
                "keeps the weights and the posterior of the last step. Save as often as you evaluate."
            )
        elif self.args.load_best_model_at_end and best and not self._agreed(holds_best(best, self.state)):
            logger.warning(
                f"{best}, the best of this run, was replaced or deleted by another; the model keeps the weights and "
                "the posterior of the last step. Give each run an output_dir of its own."
            )
            self.state.best_model_checkpoint = None
        elif self.args.save_total_limit == 1 and best:
            # The Trainer deletes all others now, but lets them keep their names until it has done so.
            with self._workspace(run_dir) as place:
                if self.args.should_save:
                    rotate(run_dir, 1, {best}, place)
        return super()._finalize_training(trial, *args)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self._load_mean(
            resume_from_checkpoint,
            lambda: super(SavingTrainer, self)._load_from_checkpoint(resume_from_checkpoint, model),
        )

    def _load_best_model(self) -> None:
        checkpoint = self.state.best_model_checkpoint
        assert checkpoint is not None
        self._load_mean(checkpoint, super()._load_best_model)
        if self.state.best_global_step != self._evaluated_step:
            self._evaluated_step = -1  # the last evaluation was of other weights
        # The best mean with the last posterior would be no posterior of anything; nor with the last observation noise.
        stored = load_posterior_into(self.posterior, checkpoint, self.model)
        self.likelihood = stored_likelihood(stored) or self.likelihood

    def _load_mean(self, folder: str, by_trainer: Callable[[], None]) -> None:
        """
        Load the mean in `folder`, and nothing but what fits the model. The stock Trainer reads the keys of weights as
        they are: where transformers renames these on saving (ViT) it matches none of them, and warns.
        """
        model = self._plain_model()
        adapted = hasattr(model, "peft_config")
        if adapted and not self.is_fsdp_enabled:
            check_adapter(model, folder)
        if adapted or self.is_fsdp_enabled:
            by_trainer()
        else:
            load_weights(model, folder)
        if adapted:
            load_base_weights(model, folder)
        require_finite(model, folder)
