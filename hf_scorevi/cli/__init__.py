"""`hf-scorevi`: push a checkpoint, write its card, evaluate it, recalibrate it, predict with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

from .calibrate import add_calibrate
from .evaluate import add_evaluate
from .predict import add_predict
from .push import add_card, add_push

__all__ = ["main"]

_EXAMPLES = """\
examples:
  hf-scorevi push outputs/pets me/vit-pets-bayesian --private
  hf-scorevi card outputs/pets --license apache-2.0
  hf-scorevi evaluate me/vit-pets-bayesian --dataset timm/oxford-iiit-pet --split test
  hf-scorevi evaluate outputs/pets --dataset photos --num-samples 64 --json figures.json --update-card
  hf-scorevi evaluate outputs/pets --compare outputs/other --dataset photos --plots pictures
  hf-scorevi evaluate me/bert-sst2-bayesian --dataset nyu-mll/glue --config sst2 --split validation
  hf-scorevi calibrate outputs/pets --dataset held-out-photos
  hf-scorevi predict outputs/pets photos --output predictions.csv
  hf-scorevi predict outputs/koopa load.csv --output forecast.jsonl

`hf-scorevi COMMAND --help` has the options of each. Where they ask for a token, the default is the one that
`hf auth login` has stored or HF_TOKEN holds.
"""
_DESCRIPTION = """\
A Bayesian checkpoint is a folder that ScoreVITrainer or BayesianModel.save_pretrained wrote: a model's weights, and a
posterior over them. This pushes it to the Hugging Face Hub, writes its model card, measures its calibration, mends it,
and predicts with it: classes of images, texts and recordings, numbers from texts, and forecasts of series.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return the exit status; `argv` defaults to the command line."""
    parser = argparse.ArgumentParser(
        prog="hf-scorevi",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for add in (add_push, add_card, add_evaluate, add_calibrate, add_predict):
        add(commands)
    options = parser.parse_args(argv)
    try:
        options.run(options)
    except (OSError, ValueError, ImportError, httpx.HTTPError) as error:
        _say(str(error) or type(error).__name__)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        from transformers.utils import logging

        logging.get_logger(__name__).debug("Where it was:", exc_info=True)
        _say(
            f"{type(error).__name__}: {error}. Nobody has foreseen this: please report it to hf_scorevi, with what "
            "TRANSFORMERS_VERBOSITY=debug shows."
        )
        return 1
    return 0


def _say(problem: str) -> None:
    """Print an error on one line."""
    print(f"error: {' '.join(problem.split())}", file=sys.stderr)
