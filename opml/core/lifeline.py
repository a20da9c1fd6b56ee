"""How the processes of a job notice that one of them is gone: each beats, each listens, and who fails says why before it goes.

A process that computes alone (features, or its part of a step) would find out only when it next needs the others, and then wait.
"""

import os
import sys
import threading
import time

from torch.distributed import Store

from opml.core.config import report_failure

BEAT = 1.0  # seconds between two signs of life
SILENCE = 15.0  # seconds without one, after which a process counts as gone: far above what a busy machine delays
HEARD = 5.0  # seconds that a failing process stays, so that the others can read its last words


class Lifeline:
    """One process's sign of life, and its ear for the others'; a thread of its own.

    Parameters
    ----------
    store : the job's store of keys and values, where the processes met.
    """

    def __init__(self, store: Store, rank: int, world: int):
        self.store, self.rank, self.world = store, rank, world
        self.over, self.why = threading.Event(), None
        self.main_waits, self.judged = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._listen, name="lifeline", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Listen no more: the processes part as intended."""
        self.over.set()
        self.thread.join()

    def say(self, why: str) -> None:
        """Tell the others why this process ends, and stay until they have heard it."""
        self.stop()
        try:
            self.store.set(f"opml/why/{self.rank}", why)
            self.store.add("opml/failed", 1)
            deadline = time.monotonic() + HEARD
            while self._silent() and time.monotonic() < deadline:
                time.sleep(BEAT / 10)
        except RuntimeError:
            return  # the store is gone with its process: nobody is left who could hear, and this process says it in its own log

    def _silent(self) -> bool:
        """Whether a process neither heard of the failure nor failed itself."""
        return self.store.add("opml/heard", 0) + self.store.add("opml/failed", 0) < self.world

    def reason(self) -> str:
        """Why a connection broke: waits until the listener has found out."""
        self.main_waits.set()
        self.judged.wait(SILENCE + 2 * BEAT)
        return self.why or "a connection between the processes of this job broke, though all of them are there"

    def _listen(self) -> None:
        beats, changed = [0] * self.world, [time.monotonic()] * self.world
        while not self.over.wait(BEAT) and not self.why:
            try:
                self._beat(beats, changed)
            except RuntimeError as error:
                self.why = f"process 0 of {self.world} is gone, and with it the place where they meet ({str(error).splitlines()[0]})"
        if self.why and not self.over.is_set():
            self._end()

    def _beat(self, beats: list[int], changed: list[float]) -> None:
        self.store.add(f"opml/beat/{self.rank}", 1)
        if self.store.add("opml/failed", 0):
            self.why = self._words()
            self.store.add("opml/heard", 1)
            return
        for other in range(self.world):
            count, now = self.store.add(f"opml/beat/{other}", 0), time.monotonic()
            if count != beats[other]:
                beats[other], changed[other] = count, now
            elif now - changed[other] > SILENCE:
                self.why = f"process {other} of {self.world} is gone: no sign of life for {SILENCE:.0f} s (killed, or out of memory?)"

    def _words(self) -> str:
        said = [rank for rank in range(self.world) if self.store.check([f"opml/why/{rank}"])]
        return f"process {said[0]} of {self.world} failed: {self.store.get(f'opml/why/{said[0]}').decode()}"

    def _end(self) -> None:
        """The main thread may be in the middle of anything: unless it is asking why, this ends the process."""
        self.judged.set()
        if not self.main_waits.is_set():
            sentence = f"{self.why}; this process ends, too"
            report_failure(sentence)
            print(f"error: {sentence}", file=sys.stderr, flush=True)
            os._exit(1)
