"""
Answer multiple-choice questions with a language model that has a posterior over a LoRA adapter.

It is trained on the letter of the right answer alone, and predicts by the probabilities of A, B, C and D as the next
token: under the mean's weights, and averaged over draws of the posterior. Printed are accuracy, NLL and ECE.

    python examples/multiple_choice_by_answer_tokens.py                # Llama-3.2-1B on ARC-Challenge, one GPU
    python examples/multiple_choice_by_answer_tokens.py --dataset allenai/openbookqa --config main
    python examples/multiple_choice_by_answer_tokens.py --dataset questions --config default  # train.jsonl, test.jsonl

A row has `question` (or `question_stem`), `choices` ({"text": [...], "label": [...]}) and `answerKey`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForTokenClassification, set_seed

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer, ScoreVITrainingArguments
from hf_scorevi.metrics import classification_metrics

LETTERS = "ABCD"
FIGURES = ("accuracy", "nll", "ece")


def encode(row: dict[str, Any], tokenizer: Any, answers: list[int]) -> dict[str, Any]:
    """The question with its choices, and the answer: the only token with a label, since others have -100."""
    choices = "".join(f"\n{letter}. {text}" for letter, text in zip(LETTERS, row["choices"]["text"], strict=True))
    prompt = tokenizer(f"{row.get('question') or row['question_stem']}{choices}\nAnswer:")["input_ids"]
    number = row["choices"]["label"].index(row["answerKey"])
    answer = [answers[number]]
    return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer, "class": number}


@torch.no_grad()
def probabilities(model: nn.Module, batches: list[dict[str, Tensor]], answers: list[int]) -> Tensor:
    """Of the letters as the token after each prompt, compared with each other alone, (questions, letters)."""
    logits = [model(**batch, logits_to_keep=1).logits[:, -1, answers] for batch in batches]
    return torch.cat(logits).double().softmax(-1).cpu()


def prompt_batches(data: Any, tokenizer: Any, batch_size: int, device: torch.device) -> list[dict[str, Tensor]]:
    """The questions without their answers, which end together: padded at the left."""
    rows = [{"input_ids": ids[:-1]} for ids in data["input_ids"]]
    batches = []
    for start in range(0, len(rows), batch_size):
        batch = tokenizer.pad(rows[start : start + batch_size], padding_side="left", return_tensors="pt").to(device)
        batches.append({**batch, "position_ids": (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)})
    return batches


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """Train and evaluate; the figures of the mean and of the predictive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="meta-llama/Llama-3.2-1B", help="on the Hub, or a folder")
    parser.add_argument("--dataset", default="allenai/ai2_arc", help="on the Hub, or a folder")
    parser.add_argument("--config", default="ARC-Challenge", help="of the dataset")
    parser.add_argument("--output_dir", default="outputs/multiple_choice", help="for the adapter and its posterior")
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--num_samples", type=int, default=10, help="draws of the predictive")
    options = parser.parse_args(argv)

    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="right")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    answers = [tokenizer(f" {letter}", add_special_tokens=False)["input_ids"][-1] for letter in LETTERS]
    data = load_dataset(options.dataset, options.config).filter(lambda row: len(row["choices"]["text"]) == 4)
    how = {"fn_kwargs": {"tokenizer": tokenizer, "answers": answers}, "remove_columns": data["train"].column_names}
    train, test = (data[part].map(encode, **how) for part in ("train", "test"))

    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    args = ScoreVITrainingArguments(
        options.output_dir,
        learning_rate=options.learning_rate,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        bf16=torch.cuda.is_available(),
        save_strategy="no",
        report_to="none",
    )
    trainer = ScoreVITrainer(
        model=get_peft_model(AutoModelForCausalLM.from_pretrained(options.model), lora),
        args=args,
        data_collator=DataCollatorForTokenClassification(tokenizer),  # pads labels too, with -100
        train_dataset=train.remove_columns("class"),
        posterior_config=PosteriorConfig(family="isotropic"),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()

    model = BayesianModel.from_pretrained(options.output_dir).to(args.device)
    batches = prompt_batches(test, tokenizer, options.batch_size, args.device)
    draws = []
    for seed in range(options.num_samples):
        with model.sample(seed) as drawn:
            draws.append(probabilities(drawn, batches, answers))
    found = {"mean": probabilities(model.model, batches, answers), "predictive": torch.stack(draws).mean(0)}
    figures = {row: classification_metrics(probs.numpy(), test["class"]) for row, probs in found.items()}
    print(" " * 12 + "".join(f"{name:>10}" for name in FIGURES))
    for row, own in figures.items():
        print(f"{row:<12}" + "".join(f"{own[name]:>10.4f}" for name in FIGURES))
    return figures


if __name__ == "__main__":
    main()
