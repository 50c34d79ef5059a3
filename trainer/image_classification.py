"""
Bayesian fine-tuning of an image classifier, and ordinary fine-tuning (`--baseline adamw`) to compare it with.

    python trainer/image_classification.py trainer/recipes/vit_b16.yaml --output_dir outputs/pets
    python trainer/image_classification.py --help
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoModelForImageClassification

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a program it knows no folder but its own

from trainer import _classification, _data, _model

DESCRIPTION = """\
Fine-tune an image classifier of the Hub and learn a Gaussian posterior over its weights, by score-matching variational
inference. Evaluation reports accuracy, NLL, ECE and Brier score of the posterior predictive and of the mean's weights,
and draws reliability.png. The output folder holds the mean, which plain transformers loads, and the posterior.

RECIPE.yaml (or .json) holds the same settings by name; flags override it. A switch that is on by default is turned off
with --no_ before its name."""

EXAMPLES = """\
examples:
  a recipe, one of its settings changed
    %(prog)s trainer/recipes/vit_b16.yaml --learning_rate 1e-4
  your own images, a subfolder a class; a tenth is held out if --validation_dir is not given
    %(prog)s --model_name_or_path microsoft/resnet-50 --train_dir photos --output_dir outputs/photos
  a posterior over a LoRA adapter and the new head only
    %(prog)s --model_name_or_path google/vit-base-patch16-224-in21k --train_dir photos --lora_r 8
  the same data and settings without a posterior
    %(prog)s trainer/recipes/vit_b16.yaml --baseline adamw --output_dir outputs/adamw
  continue after an interruption; evaluate what was saved
    %(prog)s trainer/recipes/vit_b16.yaml --resume_from_checkpoint True
    %(prog)s trainer/recipes/vit_b16.yaml --model_name_or_path outputs/pets_vit_b16 --do_eval
  several processes: one per GPU, or on one CPU
    accelerate launch trainer/image_classification.py trainer/recipes/vit_b16.yaml
    torchrun --standalone --nproc_per_node 2 trainer/image_classification.py trainer/recipes/vit_b16.yaml --use_cpu
"""


@dataclass
class TrainingArguments(_classification.TrainingArguments):
    """Those of every classifier, with the defaults of this program."""

    output_dir: str = field(
        default="outputs/image_classification", metadata={"help": "Folder for checkpoints, results and the model."}
    )


PROGRAM = _classification.Program(
    inputs="images",
    arguments=(_model.ImageModelArguments, _data.DataArguments, TrainingArguments),
    auto=AutoModelForImageClassification,
    load_part=_model.load_processor,
    model_inputs=_data.with_model_inputs,
    task="image-classification",
    tags=("vision",),
)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """The program; `argv` defaults to the command line. Returns the evaluation's metrics."""
    return _classification.main(PROGRAM, argv, DESCRIPTION, EXAMPLES)


if __name__ == "__main__":
    main()
