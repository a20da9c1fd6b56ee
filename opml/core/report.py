"""The profiler's report: one self-contained HTML page, and the JSON files that SageMaker's ProfilerReport leaves.

The page needs no network and no script; it is thinned out to the width of a screen, so that 10,000 steps make some 100 kB.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from opml.core import svg
from opml.core.files import write_text
from opml.core.records import EVAL, TRAIN, Phase, Record
from opml.core.report_style import STYLE
from opml.core.rules import ISSUES, NO_ISSUES, NOT_APPLICABLE, PROFILER_RULES, RULES, Verdict
from opml.core.rules_system import CPU, GPU, GPU_MEMORY

PARTS = {"loading": 2, "forward": 1, "backward": 3, "optimizer": 4}  # and their colours
OUTLIER = 3  # standard deviations above the mean, as in StepOutlier


def write_report(record: Record, verdicts: Iterable[Verdict], path: str | Path, *, title: str, price_per_hour: float | None = None) -> Path:
    """Write the page; it is there as a whole, or the one before it stays.

    Parameters
    ----------
    price_per_hour : of one instance, USD; None: the page shows the idle share without its cost. All of the job's instances are paid for,
        also those of which nothing was sampled: they are taken to be idle as much as the others.
    """
    verdicts = list(verdicts)
    sections = [
        ("Findings", "What the rules say, with AWS's names; fired ones first.", _findings(verdicts)),
        ("Loss", "Mean loss of each batch in training, and of each pass of validation.", _losses(record)),
        ("Use of the machine", "How busy each core and device was; darker is busier.", _system(record)),
        ("Time of a step", f"Steps of training; outliers lasted over {OUTLIER} standard deviations longer than the mean.", _steps(record)),
        ("Where the time goes", "Phases of all steps, without what lies between them.", _phases(record)),
        ("What idling costs", "The busiest kind of device sets the share that is used.", _idle(record, price_per_hour)),
    ]
    body = "".join(f"<section><h2>{escape(name)}</h2><p>{escape(says)}</p>{content}</section>" for name, says, content in sections)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    icon = '<link rel="icon" href="data:,">'  # else a browser asks the server for one
    page = f"<!doctype html><html lang=en><head>{head}{icon}<style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
    write_text(Path(path), f"{page}{_tiles(record, verdicts)}{body}</main></body></html>")
    return Path(path)


def rule_reports(record: Record, verdicts: Iterable[Verdict], parameters: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """The content of ``profiler-reports/<Rule>.json`` for each profiler rule, with AWS's keys.

    Parameters
    ----------
    parameters : those that ProfilerReport was given, ``<rule>_<parameter>``; AWS's defaults stand for the others.
    """
    said = {verdict.rule: verdict for verdict in verdicts}
    points = len({sample.timestamp for sample in record.system})
    reports = {}
    for rule in PROFILER_RULES:
        verdict = said.get(rule) or Verdict(rule, NOT_APPLICABLE, details="it was not evaluated")
        fired = int(verdict.status == ISSUES)
        used = {name: (parameters or {}).get(f"{rule}_{name}", default) for name, default in RULES[rule].defaults.items()}
        reports[rule] = {
            "RuleTriggered": fired,
            "Violations": fired,
            "Details": verdict.figures,
            "Datapoints": points if verdict.status != NOT_APPLICABLE else 0,
            "RuleParameters": "\n".join(f"{name}:{value}" for name, value in used.items() if value not in (None, "None")),
            "Status": verdict.status,  # this line and the next are ours
            "Reason": verdict.why or verdict.details,
        }
    return reports


def _of(record: Record, phase: str, mode: str | None = None) -> list[Phase]:
    return [each for each in record.phases if each.phase == phase and mode in (None, each.mode)]


def _span(record: Record) -> tuple[float, float]:
    """When the record begins and ends, s since 1970."""
    times = [sample.timestamp for sample in record.system] + [t for p in _of(record, "step") for t in (p.start, p.start + p.seconds)]
    return (min(times), max(times)) if times else (0.0, 0.0)


def _tiles(record: Record, verdicts: list[Verdict]) -> str:
    begun, ended = _span(record)
    steps = [phase.seconds for phase in _of(record, "step", TRAIN)]
    fired = [verdict.rule for verdict in verdicts if verdict.status == ISSUES]
    used = _used(record)
    tiles = [
        ("findings", str(len(fired)), ", ".join(fired) or "no rule fired", "bad" if fired else "good"),
        ("recorded time", _duration(ended - begun), f"{len(steps)} steps of training", ""),
        ("a step, median", f"{1000 * np.median(steps):.1f} ms" if steps else "-", "of training", ""),
        *((f"{name}, mean", f"{value:.0f} %", "busy", "") for name, value in used.items()),
    ]
    cells = (
        f'<div class="tile {kind}"><b>{escape(big)}</b><span>{escape(name)}</span><i>{escape(small)}</i></div>'
        for name, big, small, kind in tiles
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"


def _used(record: Record) -> dict[str, float]:
    """Mean use of the cores and of the GPUs, percent."""
    values = {"CPU": [s.value for s in record.system if s.dimension == CPU], "GPU": [s.value for s in record.system if s.dimension == GPU]}
    return {name: float(np.mean(each)) for name, each in values.items() if each}


def _findings(verdicts: list[Verdict]) -> str:
    order = [ISSUES, NO_ISSUES, NOT_APPLICABLE]
    ranked = sorted(verdicts, key=lambda v: (order.index(v.status) if v.status in order else 3, v.rule))
    rows = "".join(_row(verdict) for verdict in ranked if verdict.status != NOT_APPLICABLE)
    silent = "".join(_row(verdict) for verdict in ranked if verdict.status == NOT_APPLICABLE)
    head = "<thead><tr><th>rule</th><th>status</th><th>step</th><th>why, and what to do</th></tr></thead>"
    table = f"<table>{head}{rows}</table>" if rows else '<p class="none">no rule had anything to look at</p>'
    count = sum(verdict.status == NOT_APPLICABLE for verdict in verdicts)
    more = f"<details><summary>{count} rules are not applicable here</summary><table>{head}{silent}</table></details>"
    return table + (more if count else "")


def _row(verdict: Verdict) -> str:
    fired = verdict.status == ISSUES
    text = escape(verdict.why or verdict.details) + (f'<div class="do">{escape(RULES[verdict.rule].suggestion)}</div>' if fired else "")
    step = "" if verdict.step is None else verdict.step
    return (
        f'<tr class="{"fired" if fired else "quiet"}"><td>{verdict.rule}</td><td>{verdict.status}</td><td>{step}</td><td>{text}</td></tr>'
    )


def _losses(record: Record) -> str:
    drawn = []
    for name in record.names(collection="losses")[:2]:
        train, valid = record.points(name, TRAIN), record.points(name, EVAL)
        drawn.append(svg.Line("training", [p.step for p in train], [p.value for p in train], 1))
        passes: dict[int, list[float]] = defaultdict(list)
        marks = sorted(p.step for p in train)
        for place, point in zip(np.searchsorted(marks, [p.step for p in valid]), valid, strict=True):
            passes[int(place)].append(point.value)
        ends = [marks[place - 1] if place else 0 for place in passes]
        drawn.append(svg.Line("validation", ends, [float(np.mean(values)) for values in passes.values()], 2, dots=len(passes) < 60))
    return svg.lines(drawn, "step", "loss")


def _system(record: Record) -> str:
    begun, _ = _span(record)
    groups: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    instances = {sample.instance for sample in record.system}
    for sample in sorted(record.system):
        if sample.dimension in (CPU, GPU, GPU_MEMORY, "MemoryUsedPercent"):
            what = {GPU_MEMORY: f"{sample.kind} memory"}.get(sample.dimension, sample.kind)
            name = what if len(instances) == 1 else f"{sample.instance} {what}"
            groups[name][0].append(sample.timestamp - begun)
            groups[name][1].append(sample.value)
    ordered = sorted(groups.items(), key=lambda item: (len(item[0]), item[0]))
    return svg.heat([(name, *values) for name, values in ordered], "seconds since the start")


def _steps(record: Record) -> str:
    steps = _of(record, "step", TRAIN)
    if not steps:
        return '<p class="none">no times of steps were recorded</p>'
    times = np.array([1000 * phase.seconds for phase in steps])
    limit = times.mean() + OUTLIER * times.std()
    slow = sorted((phase for phase, lasted in zip(steps, times, strict=True) if lasted > limit), key=lambda p: -p.seconds)
    worst = ", ".join(f"step {phase.step} ({1000 * phase.seconds:.0f} ms)" for phase in slow[:5])
    said = f"{len(slow)} of {len(steps)} steps are outliers" + (f"; the slowest: {worst}" if slow else "")
    chart = svg.lines([svg.Line("step", [phase.step for phase in steps], times, 1)], "step", "ms", 200)
    return svg.histogram(times, limit, "ms") + chart + f"<p>{said}.</p>"


def _phases(record: Record) -> str:
    rows = []
    for mode, name in ((TRAIN, "training"), (EVAL, "validation")):
        parts = {part: sum(phase.seconds for phase in _of(record, part, mode)) for part in PARTS}
        if any(parts.values()):
            rows.append((name, {part: seconds for part, seconds in parts.items() if seconds}))
    return svg.stacked(rows, PARTS, "s") if rows else '<p class="none">no times of phases were recorded</p>'


def _idle(record: Record, price_per_hour: float | None) -> str:
    used = _used(record)
    if not used:
        return '<p class="none">no samples of the system were recorded</p>'
    begun, ended = _span(record)
    device = "GPU" if "GPU" in used else "CPU"  # what one pays for
    idle, hours = 1 - used[device] / 100, (ended - begun) / 3600
    sampled = len({sample.instance for sample in record.system})
    instances = max(sampled, record.facts.get("instances", 1))
    said = f"The {device} was idle for {100 * idle:.0f} % of {_duration(ended - begun)}"
    if not price_per_hour:
        return f"<p>{said}. Set --price_per_hour to see what that costs.</p>"
    whole = price_per_hour * hours * instances
    many = f"; {instances} instances, of which {sampled} {'was' if sampled == 1 else 'were'} sampled" if instances > 1 else ""
    return f"<p>{said}: {idle * whole:.4f} of {whole:.4f} USD, at {price_per_hour:.4f} USD an hour and instance{many}.</p>"
