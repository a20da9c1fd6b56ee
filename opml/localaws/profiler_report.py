"""ProfilerReport: all profiler rules at once, and the files that AWS's rule leaves: a page, a notebook, one JSON file a rule."""

import dataclasses
import json
from pathlib import Path

from opml.core.records import Record
from opml.core.rules import ISSUES, NO_ISSUES, NOT_APPLICABLE, PROFILER_RULES, Verdict, evaluate

RULE = "ProfilerReport"


def judge(record: Record, task: dict) -> Verdict:
    """The engine's verdict of the report; when the job has ended, its files are written below ``task["output"]``.

    Its details name what had nothing to look at: AWS's report keeps that to itself.
    """
    if not record.finished:
        return Verdict(RULE, "InProgress")
    verdict = evaluate(RULE, record, task["parameters"])
    verdicts = list(verdict.figures.values()) or [evaluate(rule, record) for rule in PROFILER_RULES]
    write(record, verdicts, Path(task["output"]) / "profiler-output", task)
    return dataclasses.replace(verdict, details=verdict.details if verdict.status == ISSUES else in_words(verdicts))


def in_words(verdicts: list[Verdict]) -> str:
    """What became of each rule, in one line."""
    named = {status: [verdict.rule for verdict in verdicts if verdict.status == status] for status in (NO_ISSUES, NOT_APPLICABLE)}
    parts = (("no issues", named[NO_ISSUES]), ("not applicable", named[NOT_APPLICABLE]))
    return "; ".join(f"{what}: {', '.join(rules)}" for what, rules in parts if rules)


def write(record: Record, verdicts: list[Verdict], folder: Path, task: dict) -> None:
    """Write ``profiler-report.html``, ``profiler-report.ipynb`` and ``profiler-reports/<Rule>.json``; ``task`` has job and parameters."""
    from opml.core import report  # needed once, at the job's end

    reports = folder / "profiler-reports"
    reports.mkdir(parents=True, exist_ok=True)
    for name, content in report.rule_reports(record, verdicts, task["parameters"]).items():
        (reports / f"{name}.json").write_text(json.dumps(content, indent=2, default=str))
    report.write_report(record, verdicts, folder / "profiler-report.html", title=f"Profiler report of {task['job']}")
    (folder / "profiler-report.ipynb").write_text(json.dumps(notebook(verdicts, task["job"]), indent=1))


def notebook(verdicts: list[Verdict], job: str) -> dict:
    """The same findings as a notebook (format 4.5) that reads the JSON files beside it."""
    rows = "\n".join(f"| {v.rule} | {v.status} | {_cell(v.why or v.details)} |" for v in verdicts)
    code = [
        "import json",
        "from pathlib import Path",
        "",
        'reports = {path.stem: json.loads(path.read_text()) for path in sorted(Path("profiler-reports").glob("*.json"))}',
        "{name: found['RuleTriggered'] for name, found in reports.items()}",
    ]
    cells = [
        _markdown(f"# Profiler report of {job}\n\nThe page beside this notebook, `profiler-report.html`, has the figures.", "title"),
        _markdown(f"| rule | status | why |\n|---|---|---|\n{rows}", "findings"),
        {"cell_type": "code", "id": "files", "metadata": {}, "execution_count": None, "outputs": [], "source": "\n".join(code)},
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def _markdown(text: str, name: str) -> dict:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}


def _cell(text: str) -> str:
    return text.strip().replace("|", "\\|").replace("\n", " ")
