"""Where records come from: tensors that smdebug saved, lines that our recorder wrote, files of SageMaker's profiler.

Each source is read again and again while its folder grows: ``update()`` reads only what is new, and never waits.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from functools import partial
from pathlib import Path

import numpy as np

from opml.core.records import GLOBAL, MODES, Phase, Record, Summary, System

END_OF_JOB = "training_job_end.ts"  # smdebug, or SageMaker in its place, writes it when nothing more will come
RECORD_FILE = "record.jsonl"
PARTS = ("loading", "forward", "backward", "optimizer")  # of a step
STEP, ORIGIN, NODE = "Step:ModeKeys.", "start_time_since_epoch_in_micros", re.compile(r"-(algo-\d+)_")  # in smdebug's traces
REDUCTION = re.compile(r"smdebug/reductions/(?P<what>\w+)/(?P<name>.+)$")


class SmdebugSource:
    """The folder into which smdebug's hook saves tensors (facts of its layout: index, events, collections)."""

    def __init__(self, folder: str | Path, record: Record | None = None):
        self.folder, self.record = Path(folder), record or Record()
        self._read: set[str] = set()

    def update(self) -> Record:
        """Add what was saved since the last call; values are read from the event files when a rule asks for them."""
        ended = (self.folder / END_OF_JOB).exists()  # asked first: what was written before it is then seen below
        self._collections()
        for file in sorted(self.folder.glob("index/*/*.json"), key=lambda file: file.name):
            if file.name not in self._read and self._index(file):
                self._read.add(file.name)
        self.record.finished, self.record.now = ended, time.time()
        return self.record

    def _collections(self) -> None:
        for file in sorted(self.folder.glob("collections/*/*_collections.json")):
            for name, collection in _json(file).get("collections", {}).items():
                for member in collection.get("tensor_names", []):
                    self.record.collect(name, member)

    def _index(self, file: Path) -> bool:
        """Read one step's index; False where it or its event file is not complete yet."""
        content = _json(file)
        events = self.folder / content.get("meta", {}).get("event_file_name", "missing")
        if not content or not events.is_file():
            return False
        step = int(file.name.split("_")[0])
        mode, mode_step = content["meta"]["mode"], int(content["meta"]["mode_step"])
        self.record.times.setdefault(step, file.stat().st_mtime)
        reduced: dict[str, dict[str, float]] = {}
        for entry in content.get("tensor_payload", []):
            read = partial(_read_tensor, events, int(entry["start_idx"]), int(entry["length"]))
            name, what = _reduction(entry["tensorname"])
            if what:
                reduced.setdefault(name, {})[what] = float(read().reshape(()))
            elif not self.record.has(name, step):  # the first worker's counts
                self.record.add(name, mode, step, read, mode_step)
        for name, values in reduced.items():
            if not self.record.has(name, step):
                self.record.add(name, mode, step, _summary(values), mode_step)
        return True


def read_smdebug(folder: str | Path) -> Record:
    """All that smdebug saved in ``folder``; an empty record if nothing was."""
    return SmdebugSource(folder).update()


def _json(file: Path) -> dict:
    """The content of a file that another process may be writing at this moment; empty if it is not whole."""
    try:
        return json.loads(file.read_text())
    except ValueError:
        return {}


def _read_tensor(events: Path, start: int, length: int) -> np.ndarray:
    os.environ.setdefault("SMDEBUG_LOG_LEVEL", "warning")  # its first import otherwise prints a line to standard output
    from smdebug.core.tfrecord.tensor_reader import TensorReader

    with events.open("rb") as file:
        file.seek(start)
        return next(iter(TensorReader(file.read(length)).read_tensors()))[2]


def _reduction(name: str) -> tuple[str, str | None]:
    """smdebug's name of a reduction, ``smdebug/reductions/abs_mean/NAME``, taken apart; any other name as it is."""
    found = REDUCTION.search(name)
    return (found["name"], found["what"]) if found else (name, None)


def _summary(values: dict[str, float]) -> Summary:
    """What smdebug reduced a tensor to, where the job saved no raw tensors; a variance becomes a standard deviation."""
    if "variance" in values:
        values.setdefault("std", math.sqrt(values["variance"]))
    return Summary(**{what: value for what, value in values.items() if what in ("mean", "std", "min", "max", "abs_mean", "l2")})


class RecorderSource:
    """The folder into which :mod:`opml.core.recorder` writes its lines."""

    def __init__(self, folder: str | Path, record: Record | None = None):
        self.file, self.record = Path(folder) / RECORD_FILE, record or Record()
        self._offset = 0

    def update(self) -> Record:
        """Add the whole lines that were written since the last call."""
        if self.file.exists():
            with self.file.open("rb") as file:
                file.seek(self._offset)
                whole = file.read().rpartition(b"\n")
            for line in whole[0].splitlines():
                take_line(self.record, json.loads(line))
            self._offset += len(whole[0]) + len(whole[1])
        self.record.now = time.time()
        return self.record


def read_recorder(folder: str | Path) -> Record:
    """All that our recorder wrote into ``folder``; an empty record if there is nothing."""
    return RecorderSource(folder).update()


def take_line(record: Record, line: dict) -> None:
    """Put one line of the recorder into a record."""
    for step, mode, mode_step, value in line.get("losses", ()):
        record.add(line["name"], mode, step, Summary(mean=value, abs_mean=abs(value), size=1, **_counts(value)), mode_step)
    for name, figures in line.get("tensors", {}).items():
        active = figures.get("active")
        record.add(name, line["mode"], line["step"], Summary(**{**figures, "active": active and tuple(active)}), line["mode_step"])
    instance = record.facts.get("instance", "algo-1")
    for step, mode, start, *parts, whole in line.get("steps", ()):
        record.times[step] = start + whole
        record.phases.append(Phase(step, mode, "step", start, whole, instance))
        for phase, lasted in zip(PARTS, parts, strict=True):
            if lasted is not None:
                record.phases.append(Phase(step, mode, phase, start, lasted, instance))
                start += lasted
    for timestamp, kind, dimension, value in line.get("system", ()):
        record.system.append(System(timestamp, instance, kind, dimension, value))
    record.facts.update(line.get("facts", {}))
    record.finished = record.finished or line.get("finished", False)


def _counts(value: float) -> dict[str, int]:
    return {"nan": int(math.isnan(value)), "inf": int(math.isinf(value)), "zeros": int(value == 0)}


class ProfilerSource:
    """The folder of SageMaker's profiler: samples of the system, and step times that smdebug's framework profiler wrote.

    A step's time is that of smdebug: on PyTorch 2 it ends with the forward pass. smdebug numbers it within its mode; it gets its global
    step from ``record`` where a tensor was saved at it, and else keeps that number.
    """

    def __init__(self, folder: str | Path, record: Record | None = None):
        self.folder, self.record = Path(folder), record or Record()
        self._offsets: dict[Path, int] = {}
        self._traces: set[Path] = set()

    def update(self) -> Record:
        """Add the samples and the traces that came since the last call."""
        for file in sorted(self.folder.glob("system/incremental/*/*.json")):
            self._samples(file)
        for file in sorted(self.folder.glob("framework/pevents/*/*_pythontimeline.json")):
            if file not in self._traces and (trace := _json(file)):
                self._traces.add(file)
                self.record.phases.extend(_steps(trace, file.name, self.record.places()))
        self.record.now = time.time()
        return self.record

    def _samples(self, file: Path) -> None:
        with file.open("rb") as opened:
            opened.seek(self._offsets.get(file, 0))
            whole, end, _ = opened.read().rpartition(b"\n")
        self._offsets[file] = self._offsets.get(file, 0) + len(whole) + len(end)
        for line in whole.splitlines():
            one = json.loads(line)
            kind, what = (one["Name"], one["Dimension"]) if one["Type"] in ("cpu", "gpu") else (one["Type"], one["Name"])
            self.record.system.append(System(one["Timestamp"], one["NodeId"], kind, what, one["Value"]))


def read_profiler(folder: str | Path, record: Record | None = None) -> Record:
    """All that SageMaker's profiler wrote into ``folder``, put into ``record`` (None: a new one)."""
    return ProfilerSource(folder, record).update()


def _steps(trace: list[dict], name: str, places: dict[tuple[str, int], int]) -> list[Phase]:
    """The steps in one of smdebug's Chrome traces, named ``..._<pid>-<node>_pythontimeline.json``; ``places`` are known global steps."""
    node = NODE.search(name)
    origin = next((each["args"][ORIGIN] for each in trace if ORIGIN in each.get("args", {})), 0)
    found = []
    for event in trace:
        mode = event.get("name", "").removeprefix(STEP)
        if event.get("ph") == "X" and mode != event["name"]:
            number, start, seconds = int(event["args"]["step_num"]), (origin + event["ts"]) / 1e6, event["dur"] / 1e6
            mode = mode if mode in MODES else GLOBAL
            found.append(Phase(places.get((mode, number), number), mode, "step", start, seconds, node[1] if node else "algo-1"))
    return found
