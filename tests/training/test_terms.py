"""The likelihood's scale for heads of every kind: how many terms there are, and that all of them weigh alike."""

import datasets
import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset
from transformers import BertTokenizer, DataCollatorForLanguageModeling, TrainerCallback, default_data_collator

from hf_scorevi import PosteriorConfig, ScoreVITrainer
from hf_scorevi.time_series import windows_for
from tests.forecasters import tiny_patchtst
from tests.heads import HEADS, Rows, make_head, negative_log_likelihood
from tests.tiny_models import arguments

PLAIN = {"temperature": 1.0, "prior_std": 1e6, "init_std": 1e-6}


def trainer_for(folder, model, data, **settings) -> ScoreVITrainer:
    return ScoreVITrainer(
        model, arguments(folder, **settings), train_dataset=data, posterior_config=PosteriorConfig(**PLAIN)
    )


@pytest.mark.parametrize("name", HEADS)
def test_the_weight_times_the_mean_loss_is_minus_the_log_likelihood(tmp_path, name):
    model, data = make_head(name)
    likelihood = trainer_for(tmp_path, model, data)._resolved_likelihood()
    with torch.no_grad():
        loss = model.eval()(**default_data_collator(data.rows)).loss.item()
    assert likelihood.weight * loss == pytest.approx(negative_log_likelihood(name, model, data), rel=1e-5)


class Gradients(TrainerCallback):
    """Keeps the gradient before each optimizer step."""

    def __init__(self, model) -> None:
        self.model, self.found = model, []

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.found.append(torch.cat([p.grad.flatten().clone() for p in self.model.parameters() if p.grad is not None]))


def gradient(folder, name, size, rows=8, spoil=None) -> torch.Tensor:
    """Of the first step over all rows, in micro-batches of so many."""
    model, data = make_head(name, rows)
    if spoil is not None:
        spoil(data)
    settings = {"max_steps": 1, "max_grad_norm": 0.0, "train_sampling_strategy": "sequential"}
    settings |= {"per_device_train_batch_size": size, "gradient_accumulation_steps": -(-rows // size)}
    trainer = trainer_for(folder, model, data, share_noise=True, **settings)
    trainer._begin_window = lambda begin=trainer._begin_window: plain_window(trainer, begin)
    kept = Gradients(model)
    trainer.add_callback(kept)
    trainer.train()
    return kept.found[0]


def plain_window(trainer, begin):
    """Without pairs, whose gradient is that of other weights."""
    window = begin()
    window.statistic = None
    return window


@pytest.mark.parametrize("name", HEADS)
def test_accumulated_micro_batches_of_unlike_rows_are_one_batch(tmp_path, name):
    whole = gradient(tmp_path, name, 8)
    for size in (1, 3):  # of 8 rows the last of three batches has two
        parts = gradient(tmp_path, name, size)
        assert ((parts - whole).norm() / whole.norm()).item() < 2e-6


def test_a_micro_batch_without_a_single_label_adds_nothing(tmp_path):
    def spoil(data):
        data.rows[3]["labels"].fill_(-100)

    for name in ("tokens", "language", "pixels"):
        spoil_all = spoil if name != "pixels" else lambda data: data.rows[3]["labels"].fill_(255)
        whole, parts = (gradient(tmp_path, name, size, spoil=spoil_all) for size in (8, 1))
        assert parts.isfinite().all()
        assert ((parts - whole).norm() / whole.norm()).item() < 2e-6


def test_the_logged_loss_is_the_mean_over_terms(tmp_path):
    model, data = make_head("tokens")
    settings = {"max_steps": 1, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    trainer = trainer_for(tmp_path, model, data, **settings)
    expected = negative_log_likelihood("tokens", model, data) / trainer._resolved_likelihood().num_data
    assert trainer.train().training_loss == pytest.approx(expected, rel=1e-4)


def test_labels_that_the_collator_makes_are_counted_as_it_leaves_them(tmp_path):
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(97, 122))]))
    tokenizer = BertTokenizer(str(vocabulary))
    texts = [" ".join("abcdefgh"[: 3 + i % 5]) for i in range(20)]
    data = datasets.Dataset.from_dict({"input_ids": tokenizer(texts)["input_ids"]})
    model = HEADS["language"].model()
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    trainer = ScoreVITrainer(model, arguments(tmp_path), collator, data, processing_class=tokenizer)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    assert trainer._resolved_likelihood().num_data == sum(len(ids) - 1 for ids in data["input_ids"])
    after = torch.get_rng_state(), np.random.get_state()[1].tolist()
    assert torch.equal(before[0], after[0]) and before[1] == after[1]
    masked = DataCollatorForLanguageModeling(tokenizer, mlm=True, mlm_probability=0.5)
    number = ScoreVITrainer(HEADS["masked language"].model(), arguments(tmp_path), masked, data,
                            processing_class=tokenizer)._resolved_likelihood().num_data  # fmt: skip
    words = sum(len(ids) - 2 for ids in data["input_ids"])
    assert abs(number - words / 2) < 5 * (words / 4) ** 0.5


def test_terms_are_counted_once(tmp_path, monkeypatch):
    model, data = make_head("tokens")
    read = []
    monkeypatch.setattr(Rows, "__getitem__", lambda rows, i: read.append(i) or rows.rows[i])
    trainer = trainer_for(tmp_path, model, data, max_steps=1, per_device_train_batch_size=2)
    trainer._resolved_likelihood()
    trainer._resolved_likelihood()
    assert read == list(range(8))


def test_other_data_are_counted_anew(tmp_path):
    model, data = make_head("tokens")
    trainer = trainer_for(tmp_path, model, data)
    before = trainer._resolved_likelihood().num_data
    data.rows.append(data.rows[0])
    after = trainer._resolved_likelihood().num_data
    assert after - before == (data.rows[0]["labels"] != -100).sum()
    trainer.train_dataset = Rows(data.rows[:2])
    assert trainer._resolved_likelihood().num_data == sum(int((r["labels"] != -100).sum()) for r in data.rows[:2])


def test_of_many_rows_some_are_counted_spread_over_the_data(tmp_path, monkeypatch):
    from hf_scorevi.training import likelihood

    monkeypatch.setattr(likelihood, "_COUNTED_ROWS", 16)
    model, data = make_head("tokens", 40)
    terms = [int((row["labels"] != -100).sum()) for row in data.rows]
    trainer = trainer_for(tmp_path, model, data)
    assert trainer._resolved_likelihood().num_data == round(sum(terms[i * 40 // 16] for i in range(16)) * 40 / 16)


def test_a_stream_of_tokens_asks_for_their_number(tmp_path):
    model, data = make_head("tokens")
    stream = datasets.Dataset.from_list([{k: v.tolist() for k, v in row.items()} for row in data.rows])
    trainer = ScoreVITrainer(model, arguments(tmp_path, max_steps=2), train_dataset=stream.to_iterable_dataset())
    with pytest.raises(ValueError, match=r"num_data=\.\.\.\), the number of examples, times that of labels in each"):
        trainer.train()


def test_data_without_a_label_are_refused(tmp_path):
    model, data = make_head("tokens")
    for row in data.rows:
        row["labels"].fill_(-100)
    with pytest.raises(ValueError, match="All 'labels' of train_dataset are ignored"):
        trainer_for(tmp_path, model, data).train()


def test_windows_that_overlap_are_told_of(tmp_path, caplog):
    series = torch.randn(60, 1)
    model = tiny_patchtst(1, prediction_length=6)
    context = model.config.context_length
    for stride, told in ((1, 6), (2, 3), (6, 0)):
        starts = range(0, 60 - context - 6, stride)
        rows = [{"past_values": series[i : i + context], "future_values": series[i + context : i + context + 6]}
                for i in starts]  # fmt: skip
        caplog.clear()
        trainer = ScoreVITrainer(model, arguments(tmp_path), train_dataset=Rows(rows))
        trainer._resolved_likelihood()
        messages = [record.getMessage() for record in caplog.records if "overlap" in record.getMessage()]
        assert len(messages) == bool(told)
        if told:
            assert f"count {told} times" in messages[0]
            assert f"num_data={(len(rows) - 1) * stride + 6}" in messages[0]


def test_windows_of_several_series_add_up(tmp_path):
    model = tiny_patchtst(1, prediction_length=6)
    parts = [windows_for(model.config, torch.randn(length, 1)) for length in (60, 80)]
    numbers = [ScoreVITrainer(model, arguments(tmp_path), train_dataset=data)._resolved_likelihood().num_data
               for data in (*parts, ConcatDataset(parts))]  # fmt: skip
    assert numbers[2] == numbers[0] + numbers[1]
