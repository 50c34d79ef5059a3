"""Weights that FSDP2 splits over processes: the rows of each that a process holds, and sums over the whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

if dist.is_available():
    from torch.distributed.tensor import DTensor, Shard

__all__ = ["Shards", "local", "named_parameters"]


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds, sharing its memory: all of it, unless it is a DTensor."""
    return tensor.to_local() if dist.is_available() and isinstance(tensor, DTensor) else tensor


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights by name, less what torch.compile and FSDP's activation checkpointing put into the names."""
    parts = "_checkpoint_wrapped_module.", "_orig_mod."
    return {name.replace(parts[0], "").replace(parts[1], ""): p for name, p in model.named_parameters()}


class Shards:
    """
    The parts of `params` that this process holds: all of a plain tensor, some rows (dimension 0) of a DTensor.

    Without DTensors everything here is the identity. Otherwise `mean`, `total`, `every` and `whole` are collective:
    every process must call them, in the same order.

    Attributes:
        sizes: elements of each whole weight.
        held: how many of them this process holds.

    Args:
        params: the weights, plain tensors or DTensors sharded along dimension 0 over one process group.

    Raises:
        ValueError: a DTensor is split in another way (tensor parallelism).
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        self.sizes = [p.numel() for p in params]
        self.held = [local(p).numel() for p in params]
        self.shapes = [p.shape for p in params]
        self._lengths = [local(p).shape[0] if p.dim() else 1 for p in params]
        distributed = [p for p in params if dist.is_available() and isinstance(p, DTensor)]
        self._group = _common_group(distributed)
        self._split = [local(p) is not p for p in params]
        if self._group is not None:
            self._rank, self._world = dist.get_rank(self._group), dist.get_world_size(self._group)
            self._device = torch.device(distributed[0].device_mesh.device_type)
            share = torch.tensor(self.held, dtype=torch.float64) / torch.tensor(self.sizes, dtype=torch.float64)
            self._share = torch.where(torch.tensor(self._split), share, 1 / self._world)
            self._once = torch.where(torch.tensor(self._split), 1.0, 1 / self._world)

    @property
    def split(self) -> bool:
        """Whether any weight is distributed."""
        return self._group is not None

    def _sum(self, values: Tensor) -> Tensor:
        values = values.to(self._device)
        dist.all_reduce(values, group=self._group)
        return values.cpu()

    def mean(self, values: Tensor) -> Tensor:
        """Return means over each weight from the means over the parts, (tensors,) float64 on the CPU."""
        if self._group is None:
            return values
        return self._sum(torch.where(self._share > 0, self._share * values, 0.0))

    def total(self, values: Tensor) -> Tensor:
        """Return sums over each weight from the sums over the parts, (tensors,) float64 on the CPU."""
        return values if self._group is None else self._sum(values * self._once)

    def every(self, condition: bool) -> bool:
        """Return whether the condition holds in every process."""
        return condition if self._group is None else bool(self._sum(torch.tensor(float(not condition))) == 0)

    def part(self, i: int, whole: Tensor) -> Tensor:
        """Return this process's rows of a tensor of the i-th weight's shape, as a view; of a scalar, itself."""
        if self._group is None or not self._split[i] or not whole.dim():
            return whole
        start = min(self._rank * -(-self.shapes[i][0] // self._world), self.shapes[i][0])
        return whole.narrow(0, start, self._lengths[i])

    def whole(self, i: int, part: Tensor) -> Tensor:
        """Return the whole of which `part` is the part, gathered on the CPU, where it takes no room from training."""
        if self._group is None or not self._split[i] or not part.dim():
            return part
        rows = -(-self.shapes[i][0] // self._world)
        padded = part.new_zeros(rows, *part.shape[1:]).to(self._device)
        padded[: part.shape[0]] = part
        gathered = padded.new_empty(rows * self._world, *part.shape[1:])
        dist.all_gather_into_tensor(gathered, padded, group=self._group)
        return gathered[: self.shapes[i][0]].cpu()

    def share_(self, tensor: Tensor) -> Tensor:
        """Set every process's tensor to the first one's, in place, and return it."""
        if self._group is not None:
            moved = tensor.to(self._device)
            dist.broadcast(moved, 0)
            tensor.copy_(moved)
        return tensor


def _common_group(params: Sequence[DTensor]) -> dist.ProcessGroup | None:
    """Return the processes that `params` are split over, `None` if they are not."""
    group = None
    for p in params:
        sharded = [i for i, placement in enumerate(p.placements) if not placement.is_replicate()]
        if len(sharded) != 1 or p.placements[sharded[0]] != Shard(0):
            raise ValueError(
                f"A Bayesian weight of shape {tuple(p.shape)} is distributed as {p.placements}; only FSDP2's sharding "
                "along dimension 0 is supported. Use FSDP2 or DDP without tensor parallelism."
            )
        group = p.device_mesh.get_group(sharded[0])
    return group
