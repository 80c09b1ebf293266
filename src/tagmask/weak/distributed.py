"""Distributed training: join the processes that `torchrun` started and average over them.

Without `torchrun` a run is a single process and these functions do nothing.
"""

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tagmask.errors import InputError

__all__ = ["Ranks", "averaged", "data_parallel", "process_group", "ranks_here", "summed", "wait_for_all"]


@dataclass(frozen=True)
class Ranks:
    """Rank of this process and number of processes."""

    rank: int = 0
    world: int = 1
    """Number of processes."""
    local: int = 0
    """Rank on this machine, which selects the GPU."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports progress."""
        return self.rank == 0

    def share_of(self, batch: int) -> int:
        """Images of a batch per process.

        Raises:
            InputError: the batch size is not divisible by the number of processes.

        Example:
            >>> Ranks(rank=1, world=4).share_of(16)
            4
        """
        if batch % self.world:
            raise InputError(
                f"data.batch is {batch}, which is not divisible by {self.world} processes. "
                f"Give a multiple of {self.world}."
            )
        return batch // self.world


def ranks_here() -> Ranks:
    """Ranks from the environment variables of `torchrun`; a single process without them."""
    given = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if not all(value.isdecimal() for value in given.values()):
        return Ranks()
    return Ranks(int(given["RANK"]), int(given["WORLD_SIZE"]), int(given["LOCAL_RANK"]))


@contextmanager
def process_group(device: torch.device) -> Iterator[Ranks]:
    """Join the process group, if there are several processes, until the block ends.

    Afterwards nothing holds the group, so that its threads have ended: one that is still there when the
    interpreter ends can abort the process.
    """
    ranks = ranks_here()
    if ranks.world == 1 or distributed.is_initialized():
        yield ranks
        return
    # DistributedDataParallel imports this module, whose defaults keep the group that exists by then.
    import_module("torch.distributed.nn.functional")
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()
        gc.collect()  # DistributedDataParallel is in reference cycles


def data_parallel(
    module: nn.Module, ranks: Ranks, device: torch.device, *, unused: bool = False
) -> nn.Module:
    """Wrap a module so that its gradients are averaged over all processes.

    Args:
        module: called once per step.
        ranks: of this run.
        device: the module's device.
        unused: some trainable parameters may get no gradient, as when a loss term is disabled. Finding them
            takes time in every step.
    """
    if ranks.world == 1:
        return module
    device_ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=device_ids, find_unused_parameters=unused)


def averaged(values: Mapping[str, Tensor], ranks: Ranks) -> dict[str, float]:
    """Average scalars over all processes, in one transfer to the CPU."""
    stacked = torch.stack([value.detach().float().reshape(()) for value in values.values()])
    if ranks.world > 1:
        distributed.all_reduce(stacked)
        stacked /= ranks.world
    return dict(zip(values, stacked.tolist(), strict=True))


def summed(counts: Int64[np.ndarray, "_ _"], ranks: Ranks, device: torch.device) -> Int64[np.ndarray, "_ _"]:
    """Add up the counts of all processes."""
    if ranks.world == 1:
        return counts
    total = torch.from_numpy(counts).to(device)
    distributed.all_reduce(total)
    whole: Int64[np.ndarray, "_ _"] = total.cpu().numpy()
    return whole


def wait_for_all(ranks: Ranks) -> None:
    """Block until every process has reached this point."""
    if ranks.world > 1:
        distributed.barrier()
