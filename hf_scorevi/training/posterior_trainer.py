"""`PosteriorTrainer`: a `Trainer` that saves and loads a model's posterior with it."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..hub import POSTERIOR_CONFIG_NAME, StoredPosterior, save_posterior, write_evaluations
from ..posterior import summarise
from .checkpointing import INCOMPLETE, load_posterior_into, load_weights, publish, record_callbacks, rotate
from .evaluating_trainer import EvaluatingTrainer
from .likelihood import stored_likelihood

__all__ = ["PosteriorTrainer"]


class PosteriorTrainer(EvaluatingTrainer):
    """
    Saves and loads mean and posterior together, with the last evaluation (`calibration.json`, the card) as long as the
    weights are those that it was made with. How the posterior is learned is its subclass's business
    (`ScoreVITrainer`).
    """

    @abstractmethod
    def _stored_posterior(self) -> StoredPosterior:
        """What is recorded with the posterior: how it was learned."""

    def _name_data(self, name: str | None) -> None:
        if name is not None and self.evaluation is not None and "/" not in self.evaluation.dataset:
            self.evaluation.dataset = name
            if (self._folder / POSTERIOR_CONFIG_NAME).is_file() and self.is_world_process_zero():
                self._write_evaluation(self._folder)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As `Trainer`'s, with the posterior. Mean and posterior are whole files even of a sharded checkpoint."""
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
        with self._token_hidden():
            super()._save(output_dir, state_dict)
        if self.args.should_save:
            save_posterior(output_dir, self._plain_model(), self.posterior, self._stored_posterior(), state, summary)
            self._write_evaluation(output_dir)

    def _write_evaluation(self, folder: str | Path) -> None:
        """What was measured of these weights, if anything was."""
        current = self.evaluation is not None and self._evaluated_step == self.state.global_step
        write_evaluations(folder, [self.evaluation] if current and self.evaluation is not None else [])

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """As `Trainer`'s, but written aside and renamed: a checkpoint is complete or absent, whenever the run dies."""
        if self.hp_search_backend is None and trial is None:
            self.store_flos()
        run_dir, best = Path(self._get_output_dir(trial=trial)), self.state.best_global_step
        final = run_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        aside = final.with_name(INCOMPLETE + final.name)
        if self.args.should_save:
            for left in run_dir.glob(f"{INCOMPLETE}{PREFIX_CHECKPOINT_DIR}-*"):  # by a run that was killed
                shutil.rmtree(left, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.save_model(str(aside), _internal_call=True)
        best_folder = run_dir / f"{PREFIX_CHECKPOINT_DIR}-{best}"
        if best and (best_folder == final or best_folder.exists()):
            self.state.best_model_checkpoint = str(best_folder)
        if not self.args.save_only_model:
            self._save_optimizer_and_scheduler(str(aside))
            self._save_scaler(str(aside))
            self._save_rng_state(str(aside))
        if self.args.should_save:
            record_callbacks(self.state, [*self.callback_handler.callbacks, self.control])
            self.state.save_to_json(str(aside / TRAINER_STATE_NAME))
        self.accelerator.wait_for_everyone()  # all have written their part
        if self.args.should_save:
            publish(aside, final)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(final))
        if self.args.should_save:
            keep = {str(final), self.state.best_model_checkpoint} | self._folders_being_pushed
            rotate(run_dir, self.args.save_total_limit, keep)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled or not load_weights(model or self.model, resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        checkpoint = self.state.best_model_checkpoint
        assert checkpoint is not None
        if self.is_fsdp_enabled or not load_weights(self.model, checkpoint):
            super()._load_best_model()
        # The best mean with the last posterior would be no posterior of anything; nor with the last noise.
        stored = load_posterior_into(self.posterior, checkpoint, self.model)
        self.likelihood = stored_likelihood(stored) or self.likelihood
