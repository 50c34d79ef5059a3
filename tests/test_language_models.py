"""A causal language model with an adapter: its scale, its perplexity, and texts under a draw."""

import math

import pytest
import torch
from peft import LoraConfig, get_peft_model

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from tests.heads import Rows, make_head
from tests.tiny_models import arguments

LORA = {"task_type": "CAUSAL_LM", "r": 2, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    base, data = make_head("language", 12)
    base.save_pretrained(folder / "base")
    trained = get_peft_model(type(base).from_pretrained(folder / "base"), LoraConfig(**LORA))
    trainer = ScoreVITrainer(
        trained, arguments(folder / "run", max_steps=8, learning_rate=1e-2, eval_num_samples=4),
        train_dataset=data, eval_dataset=data, posterior_config=PosteriorConfig(init_std=0.5),
    )  # fmt: skip
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_model()
    return trainer, metrics, BayesianModel.from_pretrained(folder / "run"), data


def test_its_tokens_are_counted_and_its_perplexity_is_the_predictive_s(run):
    trainer, metrics, model, data = run
    assert trainer.likelihood.num_data == sum(int((row["labels"][1:] != -100).sum()) for row in data.rows)
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(metrics["eval_loss"]), rel=1e-6)
    batch = {k: torch.stack([row[k] for row in data.rows]) for k in data.rows[0]}
    labels = batch.pop("labels")
    out = model.predict(**batch, num_samples=4, seed=trainer.args.seed)
    given = labels[:, 1:] != -100
    nll = -out.log_probs[:, :-1][given].gather(1, labels[:, 1:][given].unsqueeze(1)).mean().item()
    assert nll == pytest.approx(metrics["eval_nll"], rel=1e-4)
    assert model.task == "tokens" and (out.mutual_information >= 0).all() and out.mutual_information.max() > 1e-4


def test_it_generates_under_a_draw(run):
    _, _, model, data = run
    prompt = {k: v[None, :3] for k, v in data.rows[0].items() if k != "labels"}
    how = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    texts = []
    for seed in (0, 1, 0):
        with model.sample(seed) as drawn:
            texts.append(drawn.generate(**prompt, **how))
            logits = drawn(**prompt).logits
        if seed == 0:
            first = logits
    assert texts[0].shape == (1, 9) and torch.equal(texts[0], texts[2]) and torch.equal(logits, first)
    with model.sample(1) as drawn:
        assert not torch.equal(drawn(**prompt).logits, first)


def test_texts_of_unlike_length_are_one_evaluation(run):
    """Padding is no term."""
    trainer, _, _, data = run
    short = Rows([{k: v[:6] for k, v in row.items()} for row in data.rows[1:]])
    longer = Rows([{k: torch.cat([v, v.new_full((4,), -100 if k == "labels" else 0)]) for k, v in row.items()}
                   for row in short.rows])  # fmt: skip
    assert trainer.evaluate(short)["eval_nll"] == pytest.approx(trainer.evaluate(longer)["eval_nll"], rel=1e-5)
