"""Additions to ordinary data parallelism: averages of more than gradients, and FSDP2's gradients after each pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from ..posterior import named_parameters

__all__ = ["average_", "reoptimize", "require_gradient_sync", "reshard"]

_BUCKET_BYTES = 1 << 26


@torch.no_grad()
def average_(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over processes, in buckets of 64 MB. No process group: nothing to do."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    bucket: list[Tensor] = []
    for i, tensor in enumerate(tensors):
        bucket.append(tensor)
        full = sum(t.nbytes for t in bucket) >= _BUCKET_BYTES
        after = tensors[i + 1] if i + 1 < len(tensors) else None
        if full or after is None or after.dtype != tensor.dtype or after.device != tensor.device:
            flat = _flatten_dense_tensors(bucket)
            dist.all_reduce(flat)
            flat /= dist.get_world_size()
            torch._foreach_copy_(bucket, list(_unflatten_dense_tensors(flat, bucket)))
            bucket = []


def reoptimize(optimizer: torch.optim.Optimizer, names: Sequence[Sequence[str]], model: nn.Module) -> None:
    """Put the weights that now have these names in `model` into the optimizer's groups."""
    while hasattr(optimizer, "optimizer"):  # Accelerate's wrapper
        optimizer = optimizer.optimizer
    params = named_parameters(model)
    for group, members in zip(optimizer.param_groups, names, strict=True):
        group["params"] = [params[name] for name in members]


def reshard(model: nn.Module) -> None:
    """Drop the whole weights that FSDP2 keeps after a forward pass: they hide what is written into its shards."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def require_gradient_sync(model: nn.Module) -> None:
    """Let FSDP2 reduce this micro-batch's gradients at once, whatever `no_sync` around it says."""
    from torch.distributed.fsdp import FSDPModule

    next(module for module in model.modules() if isinstance(module, FSDPModule)).set_requires_gradient_sync(True)
