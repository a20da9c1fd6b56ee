"""A statistical profile function, in Python: slower than the C extension of this name, and otherwise the same."""

import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any


def setstatprofile(target: Callable[[FrameType, str, Any], None] | None, interval: float = 0.001) -> None:
    """Call ``target(frame, event, argument)`` at calls and returns of this thread, at most once each ``interval`` seconds; None ends it."""
    if target is None:
        sys.setprofile(None)
        return
    last = time.perf_counter()

    def sometimes(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal last
        if time.perf_counter() - last >= interval:
            last = time.perf_counter()
            target(frame, event, argument)

    sys.setprofile(sometimes)
