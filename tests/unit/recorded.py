"""Synthetic records with known answers."""

import numpy as np

from opml.core.records import EVAL, TRAIN, Phase, Record, Summary, System

LOSS, GRADIENT = "CrossEntropyLoss_output_0", "gradient/ResNet_fc.weight"


def losses(*rows, finished=True):
    """A record of losses; rows are (mode, value), at global steps 0, 1, 2 ..., or (mode, value, step)."""
    record, counts = Record(finished=finished), {}
    for number, (mode, value, *step) in enumerate(rows):
        counts[mode] = counts.get(mode, -1) + 1
        record.add(LOSS, mode, step[0] if step else number, np.array(value), step[0] if step else counts[mode])
    return record


def train(*values):
    """Rows of training losses."""
    return [(TRAIN, value) for value in values]


def valid(*values):
    """Rows of validation losses."""
    return [(EVAL, value) for value in values]


def tensors(name, *values, mode=TRAIN, finished=True):
    """A record of one tensor at steps 0, 1, 2 ...; values are arrays, numbers or summaries."""
    record = Record(finished=finished)
    for step, value in enumerate(values):
        record.add(name, mode, step, value if isinstance(value, Summary) else np.asarray(value))
    return record


def system(*points, every=0.5, instance="algo-1", finished=True):
    """A record of a machine: each point is a dictionary {(kind, dimension): value}, ``every`` seconds apart, and a step each."""
    record = Record(finished=finished)
    for number, point in enumerate(points):
        time = 1000 + number * every
        record.system += [System(time, instance, kind, dimension, value) for (kind, dimension), value in point.items()]
        record.phases.append(Phase(number, TRAIN, "step", time, every, instance))
    return record


def durations(*seconds, mode=TRAIN):
    """A record of steps of these durations, one after the other."""
    record, time = Record(finished=True), 0.0
    for step, lasted in enumerate(seconds):
        record.phases.append(Phase(step, mode, "step", time, lasted))
        time += lasted
    return record
