"""
What evaluating a language model costs in memory, against the stock Trainer, each in a process of its own. For Linux.

    python benchmarks/evaluation_memory.py                                  # 391 MiB of logits: half a minute
    python benchmarks/evaluation_memory.py --rows 8 --vocabulary 1000       # seconds

Prints the peak of resident memory beyond what was there before the evaluation.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program

TRAINERS = ("Trainer", "ScoreVITrainer")
LENGTH, BATCH, DRAWS = 128, 8, 4


def measure(which: str, rows: int, vocabulary: int) -> dict[str, Any]:
    """Return the growth in MiB and the loss that was found, of a causal language model of random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    from hf_scorevi import ScoreVITrainer, ScoreVITrainingArguments

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, max_position_embeddings=LENGTH, **sizes))  # type: ignore[arg-type]
    texts = torch.randint(2, vocabulary, (rows, LENGTH))
    data: Any = [{"input_ids": text, "labels": text} for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"output_dir": folder, "use_cpu": True, "report_to": "none", "disable_tqdm": True}
        settings["per_device_eval_batch_size"] = BATCH
        if which == "Trainer":
            trainer: Trainer = Trainer(model, TrainingArguments(**settings), eval_dataset=data)
        else:
            args = ScoreVITrainingArguments(**settings, eval_num_samples=DRAWS)
            trainer = ScoreVITrainer(model, args, train_dataset=data, eval_dataset=data)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
        before = _status("VmRSS")
        loss = trainer.evaluate()["eval_loss"]
        return {"growth_mib": round(_status("VmHWM") - before, 1), "loss": loss}


def _status(field: str) -> float:
    """Return a field of this process's status, in MiB."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found.group(1)) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32, help=f"texts of {LENGTH} tokens, in batches of {BATCH}")
    parser.add_argument("--vocabulary", type=int, default=25_000)
    parser.add_argument("--measure", choices=TRAINERS, help=argparse.SUPPRESS)  # what a process of its own does
    options = parser.parse_args()
    if options.measure:
        print("\n" + json.dumps(measure(options.measure, options.rows, options.vocabulary)))
        return
    logits = options.rows * LENGTH * options.vocabulary * 4 / 2**20
    print(f"{logits:,.0f} MiB of logits in all, {logits * BATCH / options.rows:,.0f} in a batch; {DRAWS} draws")
    for which in TRAINERS:
        size = ["--rows", str(options.rows), "--vocabulary", str(options.vocabulary)]
        process = subprocess.run(
            [sys.executable, __file__, *size, "--measure", which], stdout=subprocess.PIPE, text=True, check=True
        )
        found = json.loads(process.stdout.splitlines()[-1])
        print(f"{which}: {found['growth_mib']:,.1f} MiB more, loss {found['loss']:.4f}", flush=True)


if __name__ == "__main__":
    main()
