"""Ctrl-C that is not lost.

Python drops an exception that is raised while it finalizes an object. A training makes and drops
thousands of objects a second, so that the KeyboardInterrupt of a signal can be one of those.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Yields a function that raises KeyboardInterrupt if one was lost since.

    Outside of the main thread, which alone receives signals, that function does nothing.
    """
    received = False
    previous = signal.getsignal(signal.SIGINT)

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = True
        if callable(previous):
            previous(number, frame)

    def check() -> None:
        if received:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield check
        return
    signal.signal(signal.SIGINT, remember)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, previous)
