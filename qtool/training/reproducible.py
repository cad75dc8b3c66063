"""Same seed, same bytes: torch's process-wide settings for the time of one training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from qtool.errors import ConfigError


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Fixes the thread count, refuses nondeterministic kernels, and restores all that it changes.

    The number of threads decides the order of float sums, hence the bytes of the result.
    """
    previous_threads = torch.get_num_threads()
    previous_mode = torch.are_deterministic_algorithms_enabled()
    # cuBLAS is deterministic only with a workspace of its own.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(previous_mode)
            torch.set_num_threads(previous_threads)


def seed_step(seed: int, epoch: int, step: int, rank: int) -> None:
    """Seeds what one step draws (dropout, noise), so that it depends on nothing before it."""
    (number,) = np.random.SeedSequence((seed, epoch, step, rank)).generate_state(1, np.uint64)
    torch.manual_seed(int(number))


def choose_device(wanted: str, rank: int = 0) -> torch.device:
    """Returns the device to train on.

    Args:
        wanted: ``auto`` (a GPU when there is one), ``cpu`` or ``cuda``.
        rank: of this process on its machine; each takes a GPU of its own.

    Raises:
        ConfigError: cuda is wanted and there is none.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("device", "cuda, which this machine has not", "auto or cpu")
    return torch.device("cuda", rank % torch.cuda.device_count())
