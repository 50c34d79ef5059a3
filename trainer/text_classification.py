"""
Bayesian fine-tuning of a classifier of texts, or of a model that predicts numbers from them, and ordinary fine-tuning
(`--baseline adamw`) to compare it with.

    python trainer/text_classification.py trainer/recipes/bert_base.yaml --output_dir outputs/sst2
    python trainer/text_classification.py --help
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoModelForSequenceClassification

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a program it knows no folder but its own

from trainer import _classification, _model, _text_data

DESCRIPTION = """\
Fine-tune a model of texts, or of pairs of texts, of the Hub and learn a Gaussian posterior over its weights, by
score-matching variational inference. Evaluation reports accuracy, NLL, ECE and Brier score of the posterior predictive
and of the mean's weights, and draws reliability.png; where labels are numbers it reports MSE, MAE, NLL and CRPS. The
output folder holds the mean, which plain transformers loads, the tokenizer and the posterior.

RECIPE.yaml (or .json) holds the same settings by name; flags override it. A switch that is on by default is turned off
with --no_ before its name."""

EXAMPLES = """\
examples:
  a recipe, one of its settings changed
    %(prog)s trainer/recipes/bert_base.yaml --learning_rate 3e-5
  your own texts, in the columns text and label; a tenth is held out if --validation_file is not given
    %(prog)s --train_file reviews.csv --output_dir outputs/reviews
  pairs of texts; numbers
    %(prog)s --dataset_name nyu-mll/glue --dataset_config_name mrpc --text_column_name sentence1 \\
        --text_pair_column_name sentence2
    %(prog)s --dataset_name nyu-mll/glue --dataset_config_name stsb --text_column_name sentence1 \\
        --text_pair_column_name sentence2
  a posterior over a LoRA adapter and the new head only
    %(prog)s --train_file reviews.csv --lora_r 8
  the same data and settings without a posterior
    %(prog)s trainer/recipes/bert_base.yaml --baseline adamw --output_dir outputs/adamw
  continue after an interruption; evaluate what was saved
    %(prog)s trainer/recipes/bert_base.yaml --resume_from_checkpoint True
    %(prog)s trainer/recipes/bert_base.yaml --model_name_or_path outputs/sst2_bert_base --do_eval
"""


@dataclass
class TrainingArguments(_classification.TrainingArguments):
    """Those of every classifier, with the defaults of this program."""

    output_dir: str = field(
        default="outputs/text_classification", metadata={"help": "Folder for checkpoints, results and the model."}
    )


PROGRAM = _classification.Program(
    inputs="texts",
    arguments=(_model.TextModelArguments, _text_data.DataArguments, TrainingArguments),
    auto=AutoModelForSequenceClassification,
    load_part=_model.load_tokenizer,
    model_inputs=_text_data.with_model_inputs,
    task="text-classification",
    tags=(),
)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """The program; `argv` defaults to the command line. Returns the evaluation's metrics."""
    return _classification.main(PROGRAM, argv, DESCRIPTION, EXAMPLES)


if __name__ == "__main__":
    main()
