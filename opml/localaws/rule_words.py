"""How a process that evaluates rules speaks with the server: words on its standard output, the end of the job on its standard input."""

import json
import os
import sys
import threading

NO_DATA = (
    "ClientError: No debugging data was saved by the training job. Check that the debugger hook was configured correctly before starting"
    " the training job. Exiting."
)


class Words:
    """Takes standard output for itself; what the rules print goes to standard error, which becomes their log."""

    def __init__(self):
        self._file = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def status(self, rule: int, status: str, details: str) -> None:
        """Say a rule's status, by its place in the task."""
        self._say({"rule": rule, "status": status, "details": details})

    def log(self, rule: int, line: str) -> None:
        """Say a line of a rule's log."""
        self._say({"rule": rule, "log": line})

    def _say(self, word: dict) -> None:
        with self._lock:
            self._file.write(json.dumps(word) + "\n")


def watch_for_the_end() -> threading.Event:
    """An event that is set when the training job saves no more."""
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended
