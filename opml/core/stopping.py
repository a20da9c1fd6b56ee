"""SIGTERM: a job is asked to end. It ends between two steps, all its processes at the same one."""

import signal
import threading
from types import FrameType

from torch import distributed
from torch.distributed import PrefixStore

from opml.core import dist

EXIT_CODE = 143  # 128 + 15: what a shell reports of a process that SIGTERM ended; before there is anything to save it really does


class Stopped(Exception):
    """The job ended because it was asked to; what it had is saved."""


class Stopping:
    """Notices SIGTERM while it is entered, in the main thread; elsewhere Python has no signals, and it is never asked.

    Parameters
    ----------
    together : whether the processes share each step. One of them that is asked says so in the store where they met, before the step that
        all have to take part in: whoever has finished that step can read it there, and nobody can be past it.
    """

    def __init__(self, together: bool):
        self.asked, self.before = False, None
        self.shared = together and dist.world() > 1
        self.store = PrefixStore("opml/stop", distributed.distributed_c10d._get_default_store()) if self.shared else None

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGTERM, self.before)
        if self.asked and isinstance(error, RuntimeError) and dist.BROKEN.search(str(error)):
            raise Stopped from error  # another process that was asked, too, was faster to go

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def after_step(self, steps: int) -> bool:
        """Whether to end now, after so many steps; all processes get the same answer."""
        if self.store is None:
            return self.asked
        if self.asked:
            self.store.compare_set("after", "", str(steps + 1))
        return self.store.check(["after"]) and steps >= int(self.store.get("after"))

    def after_epoch(self) -> bool:
        """The same where all processes have just met anyway."""
        return self.asked if self.store is None else dist.total(float(self.asked))[0] > 0
