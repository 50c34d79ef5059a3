"""Two processes on one CPU against one process."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_scorevi import PosteriorConfig, ScoreVITrainer
from hf_scorevi.training.distributed import average_
from tests.models import arguments, images, tiny_resnet, tiny_vit


def run(folder: Path, model: str, family: str, share_noise: bool, **kwargs) -> ScoreVITrainer:
    """Four steps over batches of 12 images in their order, whatever they are split into."""
    trainer = ScoreVITrainer(
        {"vit": tiny_vit, "resnet": tiny_resnet}[model](seed=1),
        arguments(
            folder,
            max_steps=4,
            curvature_interval=2,
            share_noise=share_noise,
            optim="sgd",
            learning_rate=0.05,
            train_sampling_strategy="sequential",
            **kwargs,
        ),
        train_dataset=images(48),
        posterior_config=PosteriorConfig(family=family, init_std=0.05),
    )
    if model == "resnet":  # batch statistics do depend on how a batch is split
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train = lambda mode=True, module=module: module
                module.training = False
    trainer.train()
    return trainer


def state(trainer: ScoreVITrainer) -> dict[str, torch.Tensor]:
    values = {f"mean.{name}": p.detach().clone().contiguous() for name, p in trainer.model.named_parameters()}
    return values | {f"precision.{name}": p.clone() for name, p in trainer.posterior.precision.items()}


def main() -> None:
    folder, model, family, share_noise = sys.argv[1:]
    trainer = run(Path(folder), model, family, share_noise == "True", per_device_train_batch_size=6)
    save_file(state(trainer), Path(folder) / f"rank{trainer.args.process_index}.safetensors")


def two_processes(folder: Path, *args: str) -> list[dict[str, torch.Tensor]]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__]
    root = Path(__file__).parents[2]
    result = subprocess.run([*command, str(folder), *args], cwd=root, capture_output=True, text=True, timeout=240,
                            env={**__import__("os").environ, "PYTHONPATH": str(root)})  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return [load_file(folder / f"rank{rank}.safetensors") for rank in (0, 1)]


@pytest.mark.parametrize(
    ("model", "family"), [("vit", "diagonal"), ("resnet", "isotropic"), ("vit", "low_rank"), ("vit", "block_diagonal")]
)
def test_two_processes_equal_one_with_the_same_noise(tmp_path, model, family):
    ranks = two_processes(tmp_path, model, family, "True")
    assert all(torch.equal(value, ranks[1][name]) for name, value in ranks[0].items())
    one = state(run(tmp_path, model, family, True, per_device_train_batch_size=12))
    for name, value in one.items():
        tolerance = {"rtol": 0, "atol": 1e-6} if name.startswith("mean") else {"rtol": 1e-5, "atol": 0}
        assert torch.allclose(ranks[0][name], value, **tolerance), name


def test_each_process_draws_its_own_noise_and_all_agree_on_the_result(tmp_path):
    ranks = two_processes(tmp_path, "vit", "diagonal", "False")
    assert all(torch.equal(value, ranks[1][name]) for name, value in ranks[0].items())
    shared = state(run(tmp_path, "vit", "diagonal", True, per_device_train_batch_size=12))
    assert not torch.allclose(
        ranks[0]["precision.classifier.weight"], shared["precision.classifier.weight"], rtol=1e-5
    )


def test_averaging_is_nothing_in_one_process():
    tensors = [torch.ones(3), torch.zeros(())]
    average_(tensors)
    assert torch.equal(tensors[0], torch.ones(3))


if __name__ == "__main__":
    main()
