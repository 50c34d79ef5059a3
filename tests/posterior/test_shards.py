"""Weights in parts; `tests/training/test_distributed.py` has two processes."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from hf_scorevi.posterior import PosteriorConfig
from hf_scorevi.posterior.posterior import Posterior
from hf_scorevi.posterior.shards import Shards, local, named_parameters


@pytest.fixture
def mesh():
    """One process that is a group of its own."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_plain_tensors_are_their_own_parts():
    x, shards = torch.arange(6.0).view(3, 2), Shards([torch.zeros(3, 2), torch.zeros(())])
    assert local(x) is x
    assert (shards.sizes, shards.held, shards.split) == ([6, 1], [6, 1], False)
    assert shards.part(0, x) is x and shards.whole(0, x) is x and shards.share_(x) is x
    values = torch.tensor([1.0, 2.0])
    assert shards.mean(values) is values and shards.total(values) is values
    assert shards.every(True) and not shards.every(False)


def test_distributed_tensors(mesh):
    x = torch.arange(6.0).view(3, 2)
    split = distribute_tensor(x.clone(), mesh, [Shard(0)])
    shards = Shards([split, torch.zeros(5)])  # the second is whole in every process
    assert (shards.sizes, shards.held, shards.split) == ([6, 5], [6, 5], True)
    assert torch.equal(shards.whole(0, shards.part(0, x)), x)
    values = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert torch.equal(shards.mean(values), values) and torch.equal(shards.total(values), values)
    assert shards.every(True) and not shards.every(False)
    assert local(split).data_ptr() == split.to_local().data_ptr()


@pytest.mark.parametrize("placement", [Shard(1), Replicate()])
def test_other_ways_to_distribute_are_refused(mesh, placement):
    with pytest.raises(ValueError, match="only FSDP2's sharding along dimension 0"):
        Shards([distribute_tensor(torch.zeros(4, 4), mesh, [placement])])


def test_a_posterior_follows_its_weights(mesh):
    """Into distributed ones of the same names, whatever wrappers have put into these."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    q = Posterior.initialise(named_parameters(model), PosteriorConfig(family="diagonal", init_std=0.1))
    assert not q.follow(model)
    kept = [value.clone() for *_, value in q.state()]
    noise = [e.clone() for e in q.bucket_noise(3, 0)]
    wrapped = nn.ModuleDict({"_orig_mod": model})
    for layer in model:
        for name, p in list(layer.named_parameters()):
            setattr(layer, name, nn.Parameter(distribute_tensor(p.detach(), mesh, [Shard(0)])))
    assert q.follow(wrapped) and not q.follow(wrapped)
    assert all(torch.equal(a, b) for a, (*_, b) in zip(kept, q.state(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(noise, q.bucket_noise(3, 0), strict=True))
    changes = []
    q.after_change = lambda: changes.append(local(model[0].weight).clone())
    mean = local(model[0].weight).clone()
    with q.sampled(1) as draw:
        draw.flip_()
    assert len(changes) == 3 and not torch.equal(changes[0], mean) and torch.equal(changes[2], mean)
    assert torch.allclose(changes[0] + changes[1], 2 * mean, atol=1e-6)


def test_a_draw_of_a_draw_is_refused():
    model = nn.Linear(4, 3)
    q = Posterior.initialise(named_parameters(model), PosteriorConfig())
    with q.sampled(1), pytest.raises(RuntimeError, match="are a draw already"), q.sampled(2):
        pass
    with q.sampled(2):
        pass
