"""Rows of a tokenizer or feature extractor become batches as the Trainer makes them."""

import datasets
import pytest
import torch
from transformers import BertTokenizer, Wav2Vec2FeatureExtractor

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from hf_scorevi.evaluation import evaluate
from hf_scorevi.padding import Collator
from tests.heads import HEADS
from tests.tiny_models import arguments


@pytest.fixture
def tokenizer(tmp_path):
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(97, 122))])
    )
    return BertTokenizer(str(tmp_path / "vocab.txt"))


def texts(tokenizer, by_token: bool) -> datasets.Dataset:
    rows = []
    for i in range(9):
        row = dict(tokenizer(" ".join("abcdefgh"[: 1 + i % 5])))
        labels = [-100, *[j % 3 for j in range(len(row["input_ids"]) - 2)], -100]
        rows.append(row | {"text": f"number {i}", "labels": labels if by_token else i % 3})
    return datasets.Dataset.from_list(rows)


@pytest.mark.parametrize("name", ["classes", "tokens"])
def test_texts_of_unlike_length_are_padded_for_prediction_and_evaluation(tmp_path, tokenizer, name):
    data = texts(tokenizer, by_token=name == "tokens")
    torch.manual_seed(0)
    trainer = ScoreVITrainer(
        HEADS[name].model(), arguments(tmp_path, eval_num_samples=3, per_device_eval_batch_size=4),
        Collator(tokenizer, by_token=name == "tokens"), data, data, posterior_config=PosteriorConfig(init_std=0.2),
    )  # fmt: skip
    expected = trainer.evaluate()
    trainer.save_model()
    model = BayesianModel.from_pretrained(tmp_path)
    seed = trainer.args.seed
    found = evaluate(model, data, processing_class=tokenizer, num_samples=3, seed=seed, batch_size=4, use_cpu=True)
    assert found.metrics["predictive"]["nll"] == pytest.approx(expected["eval_nll"], rel=1e-5)
    together = model.predict_dataset(data, processing_class=tokenizer, batch_size=4, num_samples=3, seed=seed)
    for i in (0, 4):
        inputs = {k: torch.tensor([data[i][k]]) for k in ("input_ids", "attention_mask", "token_type_ids")}
        alone = model.predict(**inputs, num_samples=3, seed=seed).probs[0]
        row = together.probs[i][: len(alone)] if name == "tokens" else together.probs[i]
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=1e-4)


def test_recordings_are_padded():
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    rows = [dict(extractor([0.1] * n, sampling_rate=16000)) | {"path": "a.wav", "labels": 1} for n in (5, 8)]
    rows = [row | {"input_values": row["input_values"][0], "attention_mask": row["attention_mask"][0]} for row in rows]
    batch = Collator(extractor, ("input_values", "attention_mask", "labels"))(rows)
    assert batch["input_values"].shape == (2, 8) and batch["attention_mask"].sum(1).tolist() == [5, 8]
    assert batch["labels"].tolist() == [1, 1] and "path" not in batch


def test_what_is_no_row_is_an_error():
    with pytest.raises(TypeError, match="A row is a tuple, not a dictionary"):
        Collator()([(1, 2)])
