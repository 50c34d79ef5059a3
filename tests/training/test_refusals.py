from types import SimpleNamespace

import pytest
import torch

from hf_scorevi import PosteriorConfig, ScoreVITrainer
from hf_scorevi.training.refusals import upcast
from tests.tiny_models import arguments, images, tiny_vit


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor is refused.*not the likelihood"),
        ({"batch_eval_metrics": True}, "batch_eval_metrics is not supported"),
        ({"objective": "magic"}, "Unknown objective 'magic'; choose one of score"),
        ({"update": "magic"}, "Unknown update 'magic'; choose one of closed_form, gradient"),
        ({"eval_num_samples": 0}, "eval_num_samples must be a whole number of at least 1, not 0"),
        ({"curvature_interval": 0}, "curvature_interval must be a whole number of at least 1"),
        ({"mc_samples": 1.5}, "mc_samples must be a whole number"),
        ({"mc_samples": True}, "mc_samples must be a whole number"),
        ({"batch_norm_batches": -1}, "batch_norm_batches must be a whole number of at least 0"),
        ({"proximal_weight": 0.0}, "proximal_weight must be a positive number"),
        ({"proximal_weight": float("inf")}, "proximal_weight must be a positive number"),
        ({"proximal_weight": 1e300}, "proximal_weight must be a positive number between"),
        ({"proximal_growth": float("nan")}, "proximal_growth must be a number that is not negative"),
        ({"proximal": "sideways"}, "Unknown proximal 'sideways'; choose one of forward, reverse"),
        ({"score_norm": "max"}, "Unknown score_norm 'max'; choose one of precision, none"),
        ({"inner_learning_rate": 0.0}, "inner_learning_rate must be a positive number"),
    ],
)
def test_arguments_that_cannot_work_are_refused_at_once(tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"optim": "lomo"}, "optim='lomo' steps inside backward"),
        ({"optim": "galore_adamw_layerwise"}, "optim='galore_adamw_layerwise' steps inside backward"),
        ({"bf16_full_eval": True}, "bf16_full_eval cast the weights"),
    ],
)
def test_set_ups_that_would_be_wrong_are_refused(tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        ScoreVITrainer(tiny_vit(), arguments(tmp_path, **kwargs), train_dataset=images())


@pytest.mark.parametrize(
    ("family", "kwargs", "message"),
    [
        ("low_rank", {"objective": "elbo"}, "low_rank posterior has an update of its own.*objective='elbo'"),
        ("low_rank", {"update": "gradient"}, "low_rank posterior has an update of its own.*update='gradient'"),
        ("full", {"update": "gradient", "score_norm": "none"}, "score_norm='none' is for isotropic and diagonal"),
    ],
)
def test_what_a_family_cannot_do_is_refused(tmp_path, family, kwargs, message):
    config = PosteriorConfig(family=family)
    with pytest.raises(ValueError, match=message):
        ScoreVITrainer(tiny_vit(), arguments(tmp_path, **kwargs), train_dataset=images(), posterior_config=config)


def test_deepspeed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ScoreVITrainer, "is_deepspeed_enabled", True, raising=False)
    monkeypatch.setattr(ScoreVITrainer, "create_accelerator_and_postprocess", _then_set("is_deepspeed_enabled"))
    with pytest.raises(ValueError, match="DeepSpeed steps the optimizer inside backward"):
        ScoreVITrainer(tiny_vit(), arguments(tmp_path), train_dataset=images())


def test_a_model_distributed_on_loading_is_refused(tmp_path, monkeypatch):
    model = tiny_vit()
    monkeypatch.setattr(type(model), "is_distributed_loading_by_transformers", True)
    with pytest.raises(ValueError, match=r"from_pretrained has distributed.*load it whole"):
        ScoreVITrainer(model, arguments(tmp_path), train_dataset=images())


def _then_set(attribute):
    original = ScoreVITrainer.create_accelerator_and_postprocess

    def wrapped(self):
        original(self)
        setattr(self, attribute, True)

    return wrapped


@pytest.mark.parametrize(
    ("family", "version", "message"),
    [
        ("isotropic", 1, "FSDP1 flattens weights.*fsdp_version: 2"),
        ("low_rank", 2, "a low_rank posterior cannot be.*family='isotropic'"),
        ("full", 2, "FSDP2 splits weights by rows"),
    ],
)
def test_what_fsdp_cannot_split_is_refused(tmp_path, monkeypatch, family, version, message):
    def create(self):
        original(self)
        self.is_fsdp_enabled = True
        self.accelerator.state.fsdp_plugin = SimpleNamespace(fsdp_version=version, state_dict_type="FULL_STATE_DICT")

    original = ScoreVITrainer.create_accelerator_and_postprocess
    monkeypatch.setattr(ScoreVITrainer, "create_accelerator_and_postprocess", create)
    with pytest.raises(ValueError, match=message):
        ScoreVITrainer(
            tiny_vit(), arguments(tmp_path), train_dataset=images(), posterior_config=PosteriorConfig(family=family)
        )


@pytest.mark.parametrize(("metric", "greater"), [("nll", False), ("eval_ece", False), ("accuracy", True)])
def test_the_best_model_has_the_least_error(tmp_path, metric, greater):
    args = arguments(tmp_path, metric_for_best_model=metric, load_best_model_at_end=True, save_strategy="epoch",
                     eval_strategy="epoch")  # fmt: skip
    assert args.greater_is_better is greater


def test_data_parallel_is_refused(tmp_path):
    args = arguments(tmp_path)
    args._n_gpu = 2
    with pytest.raises(ValueError, match=r"nn\.DataParallel over 2 GPUs is not supported"):
        ScoreVITrainer(tiny_vit(), args, train_dataset=images())


def test_quantised_weights_are_refused():
    model = tiny_vit()
    model.is_quantized = True
    with pytest.raises(ValueError, match="Quantised weights cannot be Bayesian"):
        upcast(model, dict(model.named_parameters()))


def test_upcast_leaves_float32_alone():
    model = tiny_vit()
    pointers = [p.data_ptr() for p in model.parameters()]
    upcast(model, dict(model.named_parameters()))
    assert [p.data_ptr() for p in model.parameters()] == pointers
    model.to(torch.float16)
    upcast(model, dict(model.named_parameters()))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
