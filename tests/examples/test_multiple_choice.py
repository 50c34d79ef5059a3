"""The example on multiple choice, with a tiny Llama of random weights and questions made here."""

import json

import datasets
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from examples import multiple_choice_by_answer_tokens as example
from hf_scorevi import BayesianModel

WORDS = ["[PAD]", "[UNK]", *"ABCD", "Answer", ":", ".", "which", "is", "it", "?", "a", "b", "c", "d"]


@pytest.fixture
def flags(tmp_path, monkeypatch):
    """A short run on questions of different lengths whose answer is B three times out of four."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    torch.manual_seed(0)
    sizes = dict(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, initializer_range=0.3
    )
    LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), **sizes)).save_pretrained(tmp_path / "llama")
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="[PAD]", unk_token="[UNK]")
    words.save_pretrained(tmp_path / "llama")
    (tmp_path / "questions").mkdir()
    for part, count in (("train", 32), ("test", 10)):
        rows = [
            {
                "question": "which " * (1 + i % 3) + "is it ?",
                "choices": {"text": list("abcd"), "label": list("1234")},
                "answerKey": "1" if i % 4 == 0 else "2",
            }
            for i in range(count)
        ]
        odd = {"question": "which ?", "choices": {"text": ["a"], "label": ["1"]}, "answerKey": "1"}
        lines = [json.dumps(row) for row in [*rows, odd]]  # one that has fewer choices, and is left out
        (tmp_path / "questions" / f"{part}.jsonl").write_text("\n".join(lines))
    folders = ["--model", str(tmp_path / "llama"), "--dataset", str(tmp_path / "questions"), "--config", "default"]
    return [*folders, "--output_dir", str(tmp_path / "out"), "--learning_rate", "0.02", "--num_samples", "3"]


def test_letters_are_learned_and_averaged_over_draws(flags, tmp_path, capsys):
    figures = example.main([*flags, "--epochs", "20"])
    assert figures["predictive"]["accuracy"] == pytest.approx(0.7)  # B, of the ten
    assert figures["predictive"]["nll"] < 0.9  # of log 4 = 1.39 for a guess
    shown = capsys.readouterr().out.splitlines()[-1].split()
    assert shown == ["predictive", *(f"{figures['predictive'][name]:.4f}" for name in example.FIGURES)]

    model = BayesianModel.from_pretrained(tmp_path / "out")
    assert model.stored.num_data == 32  # one term of the likelihood for each question
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "llama")
    rows = [json.loads(line) for line in (tmp_path / "questions" / "test.jsonl").read_text().splitlines()[:10]]
    letters = [WORDS.index(letter) for letter in "ABCD"]
    nll = {"mean": 0.0, "predictive": 0.0}
    for row in rows:  # one at a time, without padding
        text = row["question"] + "".join(f"\n{name}. {own}" for name, own in zip("ABCD", "abcd", strict=True))
        inputs = tokenizer(text + "\nAnswer:", return_tensors="pt")
        with torch.no_grad():
            mean = model.model(**inputs).logits[0, -1, letters].softmax(-1)
            draws = []
            for seed in range(3):
                with model.sample(seed) as drawn:
                    draws.append(drawn(**inputs).logits[0, -1, letters].softmax(-1))
        answer = "1234".index(row["answerKey"])
        nll["mean"] -= mean[answer].log().item() / 10
        nll["predictive"] -= torch.stack(draws).mean(0)[answer].log().item() / 10
    for row, value in nll.items():
        assert figures[row]["nll"] == pytest.approx(value, abs=1e-4)
    assert figures["mean"]["nll"] != pytest.approx(figures["predictive"]["nll"], abs=1e-6)


def test_the_answer_alone_has_a_label():
    class Words:
        def __call__(self, text):
            return {"input_ids": [len(word) for word in text.split()]}

    choices = {"text": list("abcd"), "label": list("ABCD")}
    row = {"question_stem": "which is it ?", "choices": choices, "answerKey": "C"}
    found = example.encode(row, Words(), [50, 51, 52, 53])
    assert found["input_ids"] == [5, 2, 2, 1, *[2, 1] * 4, 7, 52]
    assert found["labels"] == [-100] * 13 + [52] and found["class"] == 2
