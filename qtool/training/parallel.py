"""Data parallel training: several processes, each with a share of every mini-batch.

``torchrun`` starts the processes and tells each its rank through the environment. Every process
holds the same weights and makes the same optimizer step from the gradient of the whole
mini-batch, so that the result differs from that of one process only by the order of float sums;
but batch statistics, class weights and pairs within a batch are those of each process's share.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

# This module keeps the group of the time of its import as a default argument (torch 2.13), and the
# first optimizer imports it. Imported now it keeps none; or else Gloo's threads outlive the group,
# and one that drops a tensor while Python ends aborts the process.
import torch.distributed.nn.functional
from numpy.typing import NDArray
from torch import nn

from qtool.errors import OutputError
from qtool.training.reproducible import choose_device

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""How long a process waits for the others: rank 0 prepares and calibrates meanwhile."""


@dataclass(frozen=True)
class Parallel:
    """The place of this process among those that train together.

    Attributes:
        rank: number of this process, from 0; 0 writes the files.
        processes: how many there are.
    """

    rank: int = 0
    processes: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the rows of a mini-batch that are this process's."""
        return rows[self.rank :: self.processes]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces each gradient by its sum over the processes; one message for all of them."""
        if self.processes == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        parts = [
            torch.zeros_like(p).view(-1) if p.grad is None else p.grad.reshape(-1) for p in trained
        ]
        joined = torch.cat(parts)
        with _others_answer():
            dist.all_reduce(joined)
        pieces = torch.split(joined, [parameter.numel() for parameter in trained])
        for parameter, piece in zip(trained, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)

    def gather(self, items: list[T]) -> list[T]:
        """Returns the items of all processes: item i of rank r is number i * processes + r."""
        if self.processes == 1:
            return items
        found: list[list[T]] = [[] for _ in range(self.processes)]
        with _others_answer():
            dist.all_gather_object(found, items)
        longest = max(len(part) for part in found)
        return [part[i] for i in range(longest) for part in found if i < len(part)]

    def share_weights(self, module: nn.Module) -> None:
        """Gives every process the parameters and buffers of rank 0."""
        self._share(module.state_dict().values())

    def share_buffers(self, module: nn.Module) -> None:
        """Gives every process the buffers of rank 0: running statistics are of its rows only."""
        self._share(module.buffers())

    def send(self, job: Any) -> None:
        """Gives every other process, which waits in ``receive``, the same job."""
        if self.processes > 1:
            with _others_answer():
                dist.broadcast_object_list([job], src=0)

    def receive(self) -> Any:
        """Returns the next job that rank 0 sends."""
        box = [None]
        with _others_answer():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def _share(self, tensors: Iterable[torch.Tensor]) -> None:
        if self.processes > 1:
            for tensor in tensors:
                with _others_answer():
                    dist.broadcast(tensor, src=0)


ALONE = Parallel()
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Place:
    """Where a training runs.

    Attributes:
        threads: CPU threads; the result depends on it.
        device: CPU or GPU.
        parallel: this process among those that train together.
    """

    threads: int = 1
    device: torch.device = CPU
    parallel: Parallel = ALONE


HERE = Place()
"""One process, one thread, no GPU."""


def place(device: str, cores: int) -> Place:
    """Returns where this process trains.

    Args:
        device: ``auto`` (a GPU when there is one), ``cpu`` or ``cuda``.
        cores: of this machine; its processes share them.

    Raises:
        ConfigError: cuda is wanted and there is none.
    """
    threads = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    return Place(threads, choose_device(device, local), current())


@contextmanager
def joined() -> Iterator[Parallel]:
    """Joins the processes that torchrun started; alone, there is nothing to join."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1 or dist.is_initialized():
        yield current()
        return
    # Gloo carries the Python objects, NCCL the gradients on GPUs.
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE
    )
    try:
        yield current()
    finally:
        dist.destroy_process_group()


@contextmanager
def _others_answer() -> Iterator[None]:
    """Says that another process ended, which torch reports as a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition(". ")[0]
        raise OutputError(
            "torchrun",
            f"a process does not get on with the others ({reason})",
            "all processes at work",
            "The one that ended first says why. Run again: training goes on from its checkpoint.",
        ) from error


def current() -> Parallel:
    """Returns the place of this process, alone if it has not joined others."""
    if not dist.is_available() or not dist.is_initialized():
        return Parallel()
    return Parallel(dist.get_rank(), dist.get_world_size())
