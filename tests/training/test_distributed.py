"""Two processes on one CPU, by DDP and by FSDP2, against one process."""

import json
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from hf_scorevi.training import saving
from hf_scorevi.training.distributed import average_
from tests.heads import make_head
from tests.processes import launch
from tests.tiny_models import arguments, images, tiny_resnet, tiny_vit


def make_trainer(folder: Path, model="vit", family="diagonal", wrapper="none", **kwargs) -> ScoreVITrainer:
    """Four steps over batches of 12 images in their order, whatever they are split into."""
    if wrapper.startswith("fsdp2"):
        kwargs["fsdp"] = True
        kwargs["fsdp_config"] = {
            "fsdp_version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "transformer_layer_cls_to_wrap": ["ViTLayer"],
            "state_dict_type": "SHARDED_STATE_DICT" if wrapper == "fsdp2_sharded" else "FULL_STATE_DICT",
            "cpu_ram_efficient_loading": False,
        }
    dropout = partial(tiny_vit, hidden_dropout_prob=0.1)
    train, test = images(48), images(16, seed=5)
    if model == "tokens":  # texts of unlike length, whose tokens weigh alike
        made, train = make_head("tokens", 48)
        _, test = make_head("tokens", 17, seed=1)
    else:
        made = {"vit": tiny_vit, "resnet": tiny_resnet, "dropout": dropout, "lora": tiny_vit}[model](seed=1)
    if model == "lora":
        made = get_peft_model(made, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"]))
    settings = dict(
        max_steps=4,
        curvature_interval=2,
        share_noise=True,
        optim="sgd",
        learning_rate=0.05,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=12,
    )
    trainer = ScoreVITrainer(
        made,
        arguments(folder, **settings | kwargs),
        train_dataset=train,
        eval_dataset=test,
        posterior_config=PosteriorConfig(family=family, init_std=0.05),
    )
    if model == "resnet":  # batch statistics do depend on how a batch is split
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train = lambda mode=True, module=module: module
                module.training = False
    return trainer


def state(trainer: ScoreVITrainer) -> dict[str, torch.Tensor]:
    mean = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    values = {f"mean.{name.removeprefix('module.')}": p.detach().clone().contiguous() for name, p in mean.items()}
    return values | {f"precision.{n}{s}": p.clone().contiguous() for n, s, p in trainer.posterior.whole_state()}


def main() -> None:
    folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    if settings["wrapper"].startswith("fsdp2"):
        from tests.fsdp2_on_cpu import allow

        allow()
    save, resume, death = (settings.pop(name, None) for name in ("save", "resume", "death"))
    trainer = make_trainer(folder, **settings)
    if death:
        die_at(death, trainer)
    trainer.train(resume_from_checkpoint=resume)
    metrics = trainer.evaluate()
    if save:
        trainer.save_model(str(folder / "saved"))
    values = state(trainer)
    values |= {f"figure.{name}": torch.tensor(metrics[f"eval_{name}"]) for name in ("nll", "ece", "mean_nll")}
    for log in (log for log in trainer.state.log_history if "kl" in log):
        values |= {f"log.{name}": torch.tensor(log[name]) for name in ("kl", "std_relative_mean", "share_at_prior")}
    if trainer.state.best_model_checkpoint:
        (folder / "best").write_text(trainer.state.best_model_checkpoint)
    save_file(values, folder / f"rank{trainer.args.process_index}.safetensors")


def die_at(moment: str, trainer: ScoreVITrainer) -> None:
    """kill -9 to this process in the fourth step: between the passes of a pair, or at a point of saving."""

    def before(function):
        def dying(*args, **kwargs):
            step = trainer.state.global_step
            if step == (3 if moment == "_pass" else 4):
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return dying

    if hasattr(trainer, moment):
        setattr(trainer, moment, before(getattr(trainer, moment)))
    else:
        setattr(saving, moment, before(getattr(saving, moment)))


def run(folder: Path, **settings) -> list[dict[str, torch.Tensor]]:
    """The state that a run in processes of its own ends with, one for each."""
    processes = 1 if settings["wrapper"] == "none" else 2
    folder.mkdir(exist_ok=True)
    result = launch(__file__, str(folder), json.dumps(settings), processes=processes)
    assert not any(result.codes), result.output[-3000:]
    return [load_file(folder / f"rank{rank}.safetensors") for rank in range(processes)]


def assert_equal(values: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> None:
    """Means to 1e-6, precisions to 1e-5 of themselves (of the largest number of a factor, which has zeros)."""
    for name, value in reference.items():
        if name.startswith("mean."):
            tolerance = {"rtol": 0, "atol": 1e-6}
        elif name.endswith(".factor"):
            tolerance = {"rtol": 0, "atol": 1e-5 * value.abs().max().item()}
        else:
            tolerance = {"rtol": 1e-5, "atol": 0}
        assert torch.allclose(values[name], value, **tolerance), name


def trained(folder: Path, **settings) -> ScoreVITrainer:
    trainer = make_trainer(folder, **settings)
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("vit", "diagonal"),
        ("tokens", "diagonal"),
        ("resnet", "isotropic"),
        ("vit", "low_rank"),
        ("vit", "block_diagonal"),
    ],
)
def test_ddp_equals_one_process_with_the_same_noise(tmp_path, model, family):
    ranks = run(tmp_path, wrapper="ddp", model=model, family=family, per_device_train_batch_size=6)
    assert all(torch.equal(value, ranks[1][name]) for name, value in ranks[0].items())
    one = trained(tmp_path, model=model, family=family)
    assert_equal(ranks[0], state(one))
    metrics = one.evaluate()
    for name in ("nll", "ece", "mean_nll"):
        assert ranks[0][f"figure.{name}"].item() == pytest.approx(metrics[f"eval_{name}"], rel=1e-4)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("diagonal", {}),
        ("isotropic", {}),
        ("diagonal", {"gradient_accumulation_steps": 2, "mc_samples": 2, "wrapper": "fsdp2_sharded"}),
        ("isotropic", {"objective": "elbo_stl"}),
        ("diagonal", {"model": "lora"}),
    ],
)
def test_fsdp2_equals_one_process_with_the_same_noise(tmp_path, family, settings):
    """Means, precisions, figures of log and evaluation; and what it saves is what one process would save."""
    common = {"family": family, "logging_strategy": "steps", "logging_steps": 4} | settings
    common = {"wrapper": "fsdp2"} | common
    micro_batch = 6 // common.get("gradient_accumulation_steps", 1)
    ranks = run(tmp_path, **common, per_device_train_batch_size=micro_batch, save=True)
    one = trained(tmp_path, **common | {"wrapper": "none", "gradient_accumulation_steps": 1})
    assert_equal(ranks[0], state(one))
    metrics, log = one.evaluate(), [log for log in one.state.log_history if "kl" in log][-1]
    for rank in ranks:
        for name in ("nll", "ece", "mean_nll"):
            assert rank[f"figure.{name}"].item() == pytest.approx(metrics[f"eval_{name}"], rel=1e-4)
        for name in ("kl", "std_relative_mean", "share_at_prior"):
            assert rank[f"log.{name}"].item() == pytest.approx(log[name], rel=1e-5)
    base_model = tiny_vit(seed=1) if settings.get("model") == "lora" else None
    saved = BayesianModel.from_pretrained(tmp_path / "saved", base_model=base_model)
    for name, precision in saved.posterior.precision.items():
        assert torch.equal(precision, ranks[0][f"precision.{name}"]), name


def test_each_process_draws_its_own_noise_and_all_agree_on_the_result(tmp_path):
    ranks = run(tmp_path, wrapper="ddp", share_noise=False, per_device_train_batch_size=6)
    assert all(torch.equal(value, ranks[1][name]) for name, value in ranks[0].items())
    shared = state(trained(tmp_path))
    assert not torch.allclose(
        ranks[0]["precision.classifier.weight"], shared["precision.classifier.weight"], rtol=1e-5
    )


def test_each_micro_batch_draws_its_own_noise_unless_it_is_shared(tmp_path):
    one = state(trained(tmp_path, share_noise=False, per_device_train_batch_size=6, gradient_accumulation_steps=2))
    shared = state(trained(tmp_path, per_device_train_batch_size=6, gradient_accumulation_steps=2))
    assert not torch.allclose(one["precision.classifier.weight"], shared["precision.classifier.weight"], rtol=1e-5)


SAVING = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 1, "share_noise": False}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What a run ends with that nobody killed, by wrapper."""
    known: dict[str, list[dict[str, torch.Tensor]]] = {}

    def get(wrapper: str, **settings) -> list[dict[str, torch.Tensor]]:
        if wrapper not in known:
            known[wrapper] = run(tmp_path_factory.mktemp(wrapper), wrapper=wrapper, **settings)
        return known[wrapper]

    return get


@pytest.mark.parametrize(
    ("wrapper", "moment", "left"),
    [
        ("none", "_pass", "checkpoint-2"),
        ("none", "save_posterior", "checkpoint-2"),
        ("none", "publish", "checkpoint-2"),
        ("none", "rotate", "checkpoint-4"),
        ("ddp", "_save_scaler", "checkpoint-2"),
        ("fsdp2", "_pass", "checkpoint-2"),
        ("fsdp2_sharded", "publish", "checkpoint-2"),
    ],
)
def test_a_killed_run_resumes_bit_for_bit(tmp_path, uninterrupted, wrapper, moment, left):
    """Mean, posterior, averages, data order, dropout and noise go on as if nothing had been."""
    settings = SAVING | {"model": "dropout", "train_sampling_strategy": "random", "optim": "adamw_torch"}
    settings |= {"per_device_train_batch_size": 6 if wrapper == "none" else 3}
    dying = json.dumps(settings | {"wrapper": wrapper, "death": moment})
    ended = launch(__file__, str(tmp_path), dying, processes=1 if wrapper == "none" else 2)
    # The other process may find its peer gone before it comes to its own end.
    assert -signal.SIGKILL in ended.codes and 0 not in ended.codes, ended.output[-3000:]
    checkpoints = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert checkpoints[-1] == left
    for name in checkpoints:  # each is complete: the posterior belongs to the mean
        BayesianModel.from_pretrained(tmp_path / name)
    resumed = run(tmp_path, wrapper=wrapper, resume=True, **settings)
    for rank, values in enumerate(uninterrupted(wrapper, **settings)):
        assert values.keys() == resumed[rank].keys()
        assert all(torch.equal(value, resumed[rank][name]) for name, value in values.items())
    assert [path.name for path in tmp_path.glob("*checkpoint-*")] == ["checkpoint-6"]


@pytest.mark.parametrize(("before", "after"), [("none", "ddp"), ("ddp", "none")])
def test_another_number_of_processes_goes_on_where_it_was(tmp_path, before, after):
    """With batches of the same size, and one draw for all, as if there had been as many from the beginning."""
    sizes = {"none": 12, "ddp": 6}
    settings = {"save_strategy": "steps", "save_steps": 2}
    whole = state(trained(tmp_path / "whole"))
    run(tmp_path, wrapper=before, per_device_train_batch_size=sizes[before], **settings)
    shutil.rmtree(tmp_path / "checkpoint-4")
    (resumed, *_) = run(tmp_path, wrapper=after, per_device_train_batch_size=sizes[after], resume=True, **settings)
    assert_equal(resumed, whole)


@pytest.mark.parametrize(("before", "after"), [("none", "fsdp2"), ("fsdp2", "fsdp2_sharded")])
def test_another_form_of_the_optimizer_is_refused(tmp_path, before, after):
    size = {"per_device_train_batch_size": 12 if before == "none" else 6}
    run(tmp_path, wrapper=before, save_strategy="steps", save_steps=2, **size)
    resumed = {"wrapper": after, "resume": True, "per_device_train_batch_size": 6}
    result = launch(__file__, str(tmp_path), json.dumps(resumed), processes=2)
    assert any(result.codes)
    assert "PosteriorCheckpointError: The optimizer of" in result.output


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp2", "fsdp2_sharded"])
def test_the_best_model_comes_back_whole(tmp_path, wrapper):
    """Mean and posterior of the best step, which is not the last, as its checkpoint has them."""
    best = {"load_best_model_at_end": True, "metric_for_best_model": "nll", "greater_is_better": True}
    steps = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
    ranks = run(tmp_path, wrapper=wrapper, learning_rate=0.5, per_device_train_batch_size=6, **best, **steps)
    checkpoint = Path((tmp_path / "best").read_text())
    assert checkpoint.name == "checkpoint-2"  # the worst, since the NLL falls
    saved = BayesianModel.from_pretrained(checkpoint)
    for name, p in saved.model.named_parameters():
        assert torch.equal(ranks[0][f"mean.{name}"], p)
    for values in ranks:
        for name, precision in saved.posterior.precision.items():
            assert torch.equal(values[f"precision.{name}"], precision)


def test_averaging_is_nothing_in_one_process():
    tensors = [torch.ones(3), torch.zeros(())]
    average_(tensors)
    assert torch.equal(tensors[0], torch.ones(3))


if __name__ == "__main__":
    main()
