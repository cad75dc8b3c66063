"""Same seed, same bytes: torch's process-wide settings for the time of one training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """Seeds torch, fixes the thread count and refuses nondeterministic kernels; restores all three.

    The number of threads decides the order of float sums, hence the bytes of the result.
    """
    previous_threads = torch.get_num_threads()
    previous_mode = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(previous_mode)
            torch.set_num_threads(previous_threads)
