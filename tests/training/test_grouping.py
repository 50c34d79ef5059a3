import pytest
import torch
from accelerate import Accelerator
from accelerate.state import GradientState
from torch.utils.data import DataLoader, IterableDataset

from hf_scorevi import ScoreVITrainer
from hf_scorevi.posterior import Posterior
from hf_scorevi.training.grouping import GroupedBatches
from tests.tiny_models import arguments, images, tiny_resnet, tiny_vit


class Numbers(IterableDataset):
    def __iter__(self):
        yield from range(11)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("data", [range(11), range(12), Numbers()])
def test_batches_come_as_they_were_and_only_the_last_is_said_to_be_it(size, data):
    plain = DataLoader(data, batch_size=3)
    expected = [batch.tolist() for batch in plain]
    loader = Accelerator(cpu=True).prepare(plain)
    for batches in (GroupedBatches(plain, size), GroupedBatches(loader, size)):
        for _ in range(2):  # a loader is used again
            seen, last = [], []
            for batch in batches:
                assert len(batches.group) <= size and any(own is batch for own in batches.group)
                seen.append(batch.tolist())
                last.append(GradientState().end_of_dataloader)
            assert seen == expected
            if batches._loader is loader:
                assert last == [False] * (len(expected) - 1) + [True]
            # Other tests of this process may have left loaders of theirs unfinished.
            assert GradientState().active_dataloader is not loader and batches.group == []
    assert batches.dataset is data


def test_an_empty_loader_yields_nothing():
    assert list(GroupedBatches(DataLoader([], batch_size=2), 3)) == []


def evaluated(tmp_path, monkeypatch, build, batches: int):
    monkeypatch.setattr("hf_scorevi.training.evaluation.GROUP_BATCHES", batches)
    data = images(23)
    args = arguments(tmp_path, max_steps=2, eval_num_samples=3, per_device_eval_batch_size=4)
    trainer = ScoreVITrainer(build(), args, train_dataset=data)
    trainer.train()
    seeds, draw_ = [], Posterior.draw_
    monkeypatch.setattr(
        Posterior, "draw_", lambda own, weights, seed, scale: seeds.append(seed) or draw_(own, weights, seed, scale)
    )
    metrics = trainer.evaluate(data)
    output = trainer.predict(data, return_logits=True)
    monkeypatch.setattr(Posterior, "draw_", draw_)
    timings = ("runtime", "per_second")
    return {k: v for k, v in metrics.items() if not k.endswith(timings)}, output, seeds


@pytest.mark.parametrize("build", [tiny_vit, tiny_resnet])
def test_figures_do_not_depend_on_groups_but_the_number_of_draws_made_does(tmp_path, monkeypatch, build):
    alone, one, many_seeds = evaluated(tmp_path / "1", monkeypatch, build, 1)
    grouped, other, few_seeds = evaluated(tmp_path / "2", monkeypatch, build, 2)
    assert alone == grouped
    assert (one.predictions == other.predictions).all() and (one.label_ids == other.label_ids).all()
    for name, value in vars(one.predictive).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(other.predictive, name))
    # 23 examples in batches of 4: six batches, or three pairs of them; evaluated, then predicted.
    assert len(many_seeds) == 2 * 6 * 3 and len(few_seeds) == 2 * 3 * 3
    assert set(many_seeds) == set(few_seeds)


def test_a_group_holds_no_more_bytes_than_it_may():
    rows = torch.zeros(20, 100)  # 400 bytes each
    loader = DataLoader([{"x": row, "more": [row[:1]]} for row in rows], batch_size=2)
    for most, size in ((404 * 6, 3), (404 * 4 + 1, 2), (404 * 2, 1), (1, 1), (10**9, 9)):
        batches = GroupedBatches(loader, 9, most)
        sizes = [len(batches.group) for _ in batches]
        assert max(sizes) == size and len(sizes) == 10
    growing = DataLoader([torch.zeros(1 + 99 * (i > 3)) for i in range(8)], batch_size=1)
    batches = GroupedBatches(growing, 8, 1000)
    assert max(sum(batch.nbytes for batch in batches.group) for _ in batches) <= 1000 + 400
    # Where another process holds more, this one groups as that does.
    batches = GroupedBatches(loader, 9, 404 * 6, lambda own: own + 1)
    assert max(len(batches.group) for _ in batches) == 2


def groups_of(trainer, data, monkeypatch) -> list[int]:
    """The number of batches that share each making of the draws, in an evaluation."""
    made, take_draws = [], ScoreVITrainer._drawn_models

    def counted(own, number, model=None):
        made.append(len(own._evaluation_run._done))
        return take_draws(own, number, model)

    monkeypatch.setattr(ScoreVITrainer, "_drawn_models", counted)
    trainer.evaluate(data)
    return made


def test_an_evaluation_holds_large_inputs_batch_by_batch(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_scorevi.training.evaluation.GROUP_BYTES", 2 * (8 * 8 * 4 + 8))
    data = images(9)
    trainer = ScoreVITrainer(tiny_vit(), arguments(tmp_path, per_device_eval_batch_size=1), train_dataset=data)
    assert groups_of(trainer, data, monkeypatch) == [2, 2, 2, 2, 1]


def test_an_evaluation_holds_few_large_tables(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_scorevi.training.evaluation.TABLE_BYTES", 3 * 3 * 4)  # of three classes
    data = images(8)
    trainer = ScoreVITrainer(tiny_vit(), arguments(tmp_path, per_device_eval_batch_size=1), train_dataset=data)
    assert groups_of(trainer, data, monkeypatch) == [3, 3, 2]
