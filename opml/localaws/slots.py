"""How many instances of training jobs run on this machine at one time."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from opml.localaws.settings import settings


class Slots:
    """The instances that this machine runs at one time; a job takes all of its own at once, in turn."""

    def __init__(self):
        self._free: int | None = None
        self._turn = threading.Condition()

    @contextlib.contextmanager
    def take(self, count: int, given_up: Callable[[], bool]) -> Iterator[None]:
        """Wait for ``count`` slots (at most as many as there are), or until the job is given up."""
        count = min(count, settings.max_parallel_instances)
        with self._turn:
            if self._free is None:
                self._free = settings.max_parallel_instances
            while self._free < count and not given_up():
                self._turn.wait(0.2)
            self._free -= count
        try:
            yield
        finally:
            with self._turn:
                self._free += count
                self._turn.notify_all()


SLOTS = Slots()
