"""The learned noise of a forecaster in two processes is that of both their residuals."""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from hf_scorevi import PosteriorConfig, ScoreVITrainer
from hf_scorevi.time_series import windows_for
from tests.forecasters import processor_of, series, tiny_koopa
from tests.processes import launch
from tests.tiny_models import arguments


def trained(folder: Path, batch_size: int) -> dict[str, torch.Tensor]:
    """Four steps over batches of 8 windows in their order, whatever they are split into; what was learned."""
    model, frame = tiny_koopa(dropout=0.0), series()
    trainer = ScoreVITrainer(
        model,
        arguments(
            folder,
            max_steps=4,
            curvature_interval=2,
            share_noise=True,
            optim="sgd",
            train_sampling_strategy="sequential",
            per_device_train_batch_size=batch_size,
        ),
        train_dataset=windows_for(model.config, processor_of(frame).standardize(frame)),
        posterior_config=PosteriorConfig(init_std=0.1),
    )
    trainer.train()
    likelihood = trainer.likelihood
    found = {"noise": likelihood.noise.value, "weight": torch.tensor(likelihood.weight)}
    predictive = likelihood.predictive_noise
    found |= {"factor": predictive.variance, "floor": predictive.floor}
    return found | trainer.posterior.precision


def test_it_is_the_mean_over_both_processes(tmp_path):
    result = launch(__file__, str(tmp_path), processes=2)
    assert not any(result.codes), result.output[-3000:]
    ranks = [load_file(tmp_path / f"rank{rank}.safetensors") for rank in (0, 1)]
    assert all(torch.equal(value, ranks[1][name]) for name, value in ranks[0].items())
    one = trained(tmp_path / "one", 8)
    for name, value in one.items():
        torch.testing.assert_close(ranks[0][name], value, rtol=1e-4, atol=0)


def main() -> None:
    folder = Path(sys.argv[1])
    found = trained(folder, 4)
    rank = torch.distributed.get_rank()
    save_file(
        {name: value.detach().contiguous().clone() for name, value in found.items()},
        folder / f"rank{rank}.safetensors",
    )


if __name__ == "__main__":
    main()
