"""Fills a record from the profiler's files: samples of the system, and smdebug's times of steps. It may be read while it grows."""

import json
import re
from pathlib import Path

from opml.core.records import GLOBAL, MODES, Phase, Record, System

STEP = "Step:ModeKeys."
MICROSECONDS = 1e6


class ProfilerSource:
    """The folder that is ``profiler-output`` in S3: ``system/incremental/...`` and ``framework/pevents/...``."""

    def __init__(self, folder: str | Path, record: Record):
        self.folder, self.record = Path(folder), record
        self._offsets: dict[Path, int] = {}
        self._traces: set[Path] = set()

    def update(self) -> Record:
        """Add what was written since the last call."""
        for path in sorted(self.folder.glob("system/incremental/*/*.json")):
            for line in self._new_lines(path):
                self.record.system.append(_sample(json.loads(line)))
        for path in sorted(self.folder.glob("framework/pevents/*/*_pythontimeline.json")):
            if path not in self._traces:  # smdebug gives a file its name when it is whole
                self._traces.add(path)
                self.record.phases.extend(steps(path.read_text(), path.name))
        return self.record

    def _new_lines(self, path: Path) -> list[bytes]:
        with path.open("rb") as file:
            file.seek(self._offsets.get(path, 0))
            whole, end, _ = file.read().rpartition(b"\n")
        self._offsets[path] = self._offsets.get(path, 0) + len(whole) + len(end)
        return whole.splitlines()


def _sample(event: dict) -> System:
    """One line: parts keep their number (cpu0), other things are their type; a thing without a dimension has its name as one."""
    part = event["Name"] if event["Type"] in ("cpu", "gpu") else event["Type"]
    dimension = event["Dimension"] if event["Type"] in ("cpu", "gpu") else event["Name"]
    return System(event["Timestamp"], event["NodeId"], part, dimension, event["Value"])


def steps(text: str, name: str) -> list[Phase]:
    """The steps in one of smdebug's Chrome traces, named ``..._<pid>-<node>_pythontimeline.json``; with torch 2 they end with forward."""
    node = re.search(r"-(algo-\d+)_", name)
    events = [json.loads(line.rstrip(",")) for line in text.splitlines() if line.startswith("{")]
    origins = [event["args"]["start_time_since_epoch_in_micros"] for event in events if "start_time_since" in str(event.get("args"))]
    found = []
    for event in events:
        mode = event["name"].removeprefix(STEP)
        if event["name"].startswith(STEP) and event["ph"] == "X" and origins:
            start, seconds = (origins[0] + event["ts"]) / MICROSECONDS, event["dur"] / MICROSECONDS
            number = int(event["args"]["step_num"])
            found.append(Phase(number, mode if mode in MODES else GLOBAL, "step", start, seconds, node[1] if node else "algo-1"))
    return found
