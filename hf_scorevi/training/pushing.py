"""`PushingTrainer`: a `Trainer` that pushes whole Bayesian checkpoints, and outlives a Hub that fails."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import Trainer
from transformers.trainer_utils import HubStrategy, SaveStrategy
from transformers.utils import logging
from transformers.utils.hub import PushInProgress

from ..errors import PushError
from ..hub import (
    POSTERIOR_CONFIG_NAME,
    TRAINING_STATE,
    CardMetadata,
    NoAnswerError,
    Part,
    asking,
    push_checkpoint,
    push_error,
    reason_of,
    write_card,
)
from .arguments import ScoreVITrainingArguments

__all__ = ["PushingTrainer"]

logger = logging.get_logger(__name__)


class PushingTrainer(Trainer):
    """
    Pushes mean, posterior, card and figures in one commit, within training as `hub_strategy` says.

    A push that fails within training, or from `save_model`, is a warning with the command to make up for it; one that
    is asked for by `push_to_hub` is a `PushError`.
    """

    args: ScoreVITrainingArguments
    push_in_progress: PushInProgress | None  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.push_in_progress = None
        self._api = HfApi()  # whose pushes in the background wait for one another
        self._pushes: dict[str, Future[CommitInfo]] = {}
        self._silent_at = -math.inf  # when a push was given up last because of a Hub that did not answer
        self._card_metadata = CardMetadata()
        super().__init__(*args, **kwargs)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository as `Trainer` does; a Hub that cannot be reached is tried again at the first push."""
        try:
            with asking():
                super().init_hf_repo(token, private)
        except Exception as error:  # an answer that is no Hub's makes its client raise whatever Python does
            refused = isinstance(error, HfHubHTTPError) and error.response.status_code in (400, 401, 403, 404)
            if refused or isinstance(error, HFValidationError):
                raise  # no token, no right to that repository, or no name of one: better known before training
            logger.warning(
                f"The Hub cannot be reached now: {reason_of(error)} Training goes on, and pushes will try again."
            )

    @property
    def _repo_id(self) -> str:
        return self.hub_model_id or self.args.hub_model_id or self._folder.absolute().name

    @property
    def _folder(self) -> Path:
        return Path(self.args.output_dir or ".")

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """
        Write the card of the checkpoint in `output_dir` (`hf_scorevi.hub.make_card`): `README.md` and its pictures.

        Takes what `Trainer.create_model_card` takes. Arguments replace what the card has, and reach the Hub by the
        pushes that follow, until `push_to_hub` has been called. Data of an evaluation without a name are called
        `dataset`, or else `dataset_tags`. Before anything is saved there is a warning and no card.
        """
        given = {
            "language": language,
            "license": license,
            "tags": _listed(tags),
            "name": model_name,
            "base_model": finetuned_from,
            "pipeline_tag": next(iter(_listed(tasks)), None),
            "datasets": _listed(dataset_tags),
        }
        self._card_metadata = CardMetadata(**(vars(self._card_metadata) | {k: v for k, v in given.items() if v}))  # type: ignore[arg-type]
        self._name_data(next(iter([*_listed(dataset), *_listed(dataset_tags)]), None))
        if self.is_world_process_zero() and not (self._folder / POSTERIOR_CONFIG_NAME).is_file():
            logger.warning(f"{self._folder} holds no posterior, so no card is written: train and save_model() first.")
        elif self.is_world_process_zero():
            write_card(self._folder, repo_id=self.hub_model_id or self.args.hub_model_id, metadata=self._card_metadata)

    def _name_data(self, name: str | None) -> None:
        """Name the data of the last evaluation, if they have no name themselves."""

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> CommitInfo:
        """
        Save mean and posterior, write the card, and push `output_dir` to `args.hub_model_id` in one commit.

        Args:
            commit_message: default: "End of training".
            blocking: wait for the push; otherwise a `Future` of the commit comes back.
            token: default: `args.hub_token`, or that of `hf auth login`.
            revision: branch; default: `args.hub_revision`, or `main`.
            private: of a repository that is made; default: `args.hub_private_repo`.
            kwargs: for `create_model_card`.

        Returns:
            The commit; the last one there was if nothing has changed.

        Raises:
            PushError: the Hub refused or broke off. The checkpoint is whole in `output_dir`.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        token = token or self.args.hub_token
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None  # type: ignore[return-value]
        self._finish_current_push()
        try:
            self.create_model_card(**kwargs)
            if self.hub_model_id is None:
                self.init_hf_repo(token=token, private=private)
        except (OSError, ValueError) as error:
            raise push_error(error, self._folder, self._repo_id) from error
        pushed = self._push(self._folder, commit_message or "End of training", token, revision, blocking=blocking)
        if blocking:  # the card has it now, and people may change it there
            self._card_metadata = CardMetadata(name=self._card_metadata.name)
        return pushed

    def _push(
        self,
        folder: Path,
        message: str,
        token: str | None,
        revision: str | None = None,
        blocking: bool = True,
        **kwargs: Any,
    ) -> Any:
        settings: dict[str, Any] = {
            "private": self.args.hub_private_repo,
            "revision": revision or self.args.hub_revision,
            "token": token,
            "commit_message": message,
            "metadata": self._card_metadata,
            **kwargs,
        }
        if blocking:
            return push_checkpoint(folder, self._repo_id, **settings)
        return self._api.run_as_future(self._push_in_turn, time.monotonic(), folder, self._repo_id, settings)

    def _push_in_turn(self, since: float, folder: Path, repo_id: str, settings: dict[str, Any]) -> CommitInfo:
        """Push, as was asked for at `since`. A Hub that was silent meanwhile is not tried again."""
        if self._silent_at > since:
            error = NoAnswerError("The Hub has just left another push without an answer.")
            raise push_error(error, folder, repo_id) from error
        try:
            return push_checkpoint(folder, repo_id, **settings)
        except PushError as error:
            if any(isinstance(cause, NoAnswerError) for cause in _causes(error)):
                self._silent_at = time.monotonic()
            raise

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push a checkpoint of this run in the background, from its own folder: later ones cannot get in its way."""
        strategy = self.args.hub_strategy
        if not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        if self.push_in_progress is not None and not self.push_in_progress.is_done():
            if not self.args.hub_always_push:
                return
        else:
            self._finish_current_push()
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        folder = Path(checkpoint_folder)
        parts = []
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            parts.append(Part(folder, "last-checkpoint" if strategy == HubStrategy.CHECKPOINT else folder.name))
        step = f"step {self.state.global_step}"
        if self.args.save_strategy != SaveStrategy.STEPS:
            step = f"epoch {int(self.state.epoch or 0)}"
        # Only the model's own files, besides `parts`: folders hold the states of sharded optimizers.
        ignore = (*TRAINING_STATE, *(path.name for path in folder.iterdir() if path.is_dir()))
        message = f"Training in progress, {step}"
        job = self._push(folder, message, self.args.hub_token, blocking=False, ignore=ignore, parts=parts)
        self._pushes[str(folder)] = job
        self.push_in_progress = PushInProgress(list(self._pushes.values()))  # type: ignore[arg-type]

    @property
    def _folders_being_pushed(self) -> set[str]:
        return {folder for folder, job in self._pushes.items() if not job.done()}

    def _await_push(self, folder: str) -> None:
        """Wait for the push of a folder that is about to be replaced, if there is one."""
        if (job := self._pushes.get(folder)) is not None:
            job.exception()

    def _finish_current_push(self) -> None:
        """Wait for pushes that are under way, and warn of those that failed."""
        super()._finish_current_push()
        for job in self._pushes.values():
            if error := job.exception():
                logger.warning(str(error))
        self._pushes = {}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as `Trainer` does, and with `args.push_to_hub` push; if that fails there is a warning."""
        super().save_model(output_dir, _internal_call=True)
        self._push_saved(_internal_call)

    def _push_saved(self, _internal_call: bool) -> None:
        if not self.args.push_to_hub or _internal_call:
            return
        try:
            self.push_to_hub(commit_message="Model save")
        except PushError as error:
            logger.warning(str(error))

    @contextmanager
    def _token_hidden(self) -> Iterator[None]:
        """Hide the token of the arguments inside the `with`: `Trainer` pickles them beside every model it saves."""
        token, self.args.hub_token = self.args.hub_token, None
        try:
            yield
        finally:
            self.args.hub_token = token


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _listed(value: str | list[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)
