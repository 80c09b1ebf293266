"""One process or many: `torchrun` starts them, this joins them.

Started by hand, a run is one process, and nothing here does anything.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tagmask.errors import InputError

__all__ = ["Ranks", "averaged", "in_step", "joined", "ranks_here", "wait_for_all"]


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Rank on this machine, which picks the GPU."""

    @property
    def first(self) -> bool:
        """This one writes and talks."""
        return self.rank == 0

    def share_of(self, batch: int) -> int:
        """Pictures of a batch that each process takes.

        Raises:
            InputError: they cannot be dealt out evenly.

        Example:
            >>> Ranks(rank=1, world=4).share_of(16)
            4
        """
        if batch % self.world:
            raise InputError(
                f"data.batch is {batch}, which {self.world} processes cannot share evenly; "
                f"give a multiple of {self.world}"
            )
        return batch // self.world


def ranks_here() -> Ranks:
    """What `torchrun` says of this process; one of one where it says nothing."""
    given = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if not all(value.isdecimal() for value in given.values()):
        return Ranks()
    return Ranks(int(given["RANK"]), int(given["WORLD_SIZE"]), int(given["LOCAL_RANK"]))


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the other processes, if there are any, until the block ends."""
    ranks = ranks_here()
    if ranks.world == 1 or distributed.is_initialized():
        yield ranks
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()


def in_step(module: nn.Module, ranks: Ranks, device: torch.device, *, idle: bool = False) -> nn.Module:
    """A module whose gradients are the mean over all processes.

    Args:
        module: what is called once a step.
        ranks: how many there are.
        device: where it is.
        idle: some parameters that take gradients may get none, as where a loss is switched off. Looking for
            them takes time in every step.
    """
    if ranks.world == 1:
        return module
    places = [device] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=places, find_unused_parameters=idle)


def averaged(values: Mapping[str, Tensor], ranks: Ranks) -> dict[str, float]:
    """Numbers as means over all processes, brought to the CPU together."""
    stacked = torch.stack([value.detach().float().reshape(()) for value in values.values()])
    if ranks.world > 1:
        distributed.all_reduce(stacked)
        stacked /= ranks.world
    return dict(zip(values, stacked.tolist(), strict=True))


def wait_for_all(ranks: Ranks) -> None:
    """Go on when every process is here."""
    if ranks.world > 1:
        distributed.barrier()
