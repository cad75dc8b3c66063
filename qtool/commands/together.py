"""Training by several processes: ``torchrun … -m qtool train-qat CONFIG``.

The first process does the whole command; the others wait, and join it when it trains.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from qtool.commands.context import Context
from qtool.training.parallel import joined

T = TypeVar("T")


def together(context: Context, lead: Callable[[Context], T]) -> T | None:
    """Returns what ``lead`` returns in the first process, None in the others.

    An error ends its process, and torchrun ends the others.
    """
    with joined() as parallel:
        if parallel.first:
            result = lead(context)
            parallel.send(None)
            return result
        while (job := parallel.receive()) is not None:
            if job.stage == "fp32":
                from qtool.commands.train_fp32 import follow
            elif job.stage == "pruned":
                from qtool.commands.prune import follow
            else:
                from qtool.commands.train_qat import follow
            follow(context, job)
    return None
