"""ProfilerReport: all profiler rules at once, and the files that AWS's rule leaves: a page, a notebook, one JSON file a rule."""

import json
from pathlib import Path

from opml.core.records import Record
from opml.core.rules import ISSUES, NO_ISSUES, NOT_APPLICABLE, RULES, Verdict, evaluate

RULE = "ProfilerReport"
OF_ITSELF = ("opt_out_telemetry",)  # nothing of ours sends telemetry


def judge(record: Record, task: dict) -> Verdict:
    """The verdict of the report; when the job has ended, its files are written into ``task["output"]``.

    As AWS's, it fires when any of its rules has; it is not applicable only if none of them had anything to look at.
    """
    if not record.finished:
        return Verdict(RULE, "InProgress")
    verdicts = [evaluate(name, record, _parameters(name, task["parameters"])) for name in sub_rules()]
    write(record, verdicts, Path(task["output"]) / "profiler-output", task["job"])
    return summary(verdicts)


def sub_rules() -> list[str]:
    """The profiler rules that the report runs."""
    return [name for name, spec in RULES.items() if spec.kind == "profiler" and name != RULE]


def _parameters(rule: str, given: dict[str, str]) -> dict[str, str]:
    """The parameters of one rule, which the report takes as ``<Rule>_<parameter>``."""
    prefix = f"{rule}_".lower()
    return {name[len(prefix) :]: text for name, text in given.items() if name.lower().startswith(prefix)}


def summary(verdicts: list[Verdict]) -> Verdict:
    """One verdict of many."""
    by = {status: [verdict.rule for verdict in verdicts if verdict.status == status] for status in (ISSUES, NO_ISSUES, NOT_APPLICABLE)}
    absent = f"not applicable here: {', '.join(by[NOT_APPLICABLE])}" if by[NOT_APPLICABLE] else ""
    if by[ISSUES]:
        why = f"issues: {', '.join(by[ISSUES])}"
        return Verdict(RULE, ISSUES, details=f"RuleEvaluationConditionMet: {why}\n", why="; ".join(filter(None, (why, absent))))
    if by[NO_ISSUES]:
        return Verdict(RULE, NO_ISSUES, details="; ".join(filter(None, (f"no issues: {', '.join(by[NO_ISSUES])}", absent))))
    return Verdict(RULE, NOT_APPLICABLE, details=absent or "no system metrics were saved")


def write(record: Record, verdicts: list[Verdict], folder: Path, job: str) -> None:
    """Write ``profiler-report.html``, ``profiler-report.ipynb`` and ``profiler-reports/<Rule>.json``."""
    from opml.core import report  # TODO

    reports = folder / "profiler-reports"
    reports.mkdir(parents=True, exist_ok=True)
    for name, content in report.rule_reports(record, verdicts).items():
        (reports / f"{name}.json").write_text(json.dumps(content, indent=2, default=str))
    report.write_report(record, verdicts, folder / "profiler-report.html", title=f"Profiler report of {job}")
    (folder / "profiler-report.ipynb").write_text(json.dumps(notebook(verdicts, job), indent=1))


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
