"""The rule engine: SageMaker Debugger's rules, evaluated in the open, over what was recorded of a training job.

:func:`evaluate` is pure: the same record gives the same verdict, on a growing record the verdict of a fired rule stays. What a rule
could not look at is NotApplicable with the reason, never NoIssuesFound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opml.core import rules_series, rules_steps, rules_system, rules_tensor, rules_training
from opml.core.records import Record
from opml.core.rule_spec import (
    ERROR,
    IN_PROGRESS,
    ISSUES,
    NO_ISSUES,
    NOT_APPLICABLE,
    BadParameter,
    Finding,
    NoData,
    NotHere,
    Parameter,
    Quiet,
    RuleSpec,
    Verdict,
    flag,
)
from opml.core.rules_training import COURSE_RULES

__all__ = [
    "COURSE_RULES", "ERROR", "IN_PROGRESS", "ISSUES", "NOT_APPLICABLE", "NO_ISSUES", "PROFILER_RULES", "RULES",
    "BadParameter", "RuleSpec", "Verdict", "evaluate",
]  # fmt: skip

_ROOMS = (rules_training, rules_tensor, rules_series, rules_system, rules_steps)
RULES: dict[str, RuleSpec] = {spec.name: spec for room in _ROOMS for spec in room.SPECS}
PROFILER_RULES = tuple(name for name, spec in RULES.items() if spec.kind == "profiler")  # those that ProfilerReport runs


def _profiler_report(record: Record, **parameters: Any) -> Finding | Quiet:
    """Runs all profiler rules; at the end of the job it "fires" if any of them did. AWS's own, to the letter of its documentation."""
    verdicts = {rule: evaluate(rule, record, _own(rule, parameters)) for rule in PROFILER_RULES}
    if all(verdict.status == NOT_APPLICABLE for verdict in verdicts.values()):
        raise NoData("nothing of the system and no times of steps were recorded")
    fired = [rule for rule, verdict in verdicts.items() if verdict.status == ISSUES]
    if fired and record.finished:
        return Finding(verdicts[fired[0]].step, f"{', '.join(fired)} fired", verdicts)
    return Quiet(verdicts)


def _own(rule: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters of one rule among the report's, which are named ``<rule>_<parameter>``."""
    return {name: parameters[f"{rule}_{name}"] for name in RULES[rule].parameters}


RULES["ProfilerReport"] = RuleSpec(
    "ProfilerReport",
    "profiler",
    {f"{rule}_{name}": parameter for rule in PROFILER_RULES for name, parameter in RULES[rule].parameters.items()}
    | {"opt_out_telemetry": Parameter("False", flag)},  # ours sends none
    _profiler_report,
    "Open the report.",
)


def evaluate(rule: str, record: Record, parameters: Mapping[str, Any] | None = None) -> Verdict:
    """What a rule says of a record.

    Parameters
    ----------
    rule : AWS's RuleConfigName, such as ``VanishingGradient``.
    parameters : by AWS's names, as strings (SageMaker sends nothing else) or as values; those left out have AWS's defaults.

    Raises
    ------
    BadParameter : there is no such rule or parameter, or the value cannot be.
    """
    if rule not in RULES:
        raise BadParameter(f"there is no rule {rule!r}: there are {', '.join(RULES)}")
    values = RULES[rule].values(parameters)
    try:
        answer = RULES[rule].function(record, **values)
    except NotHere as reason:
        return Verdict(rule, NOT_APPLICABLE, details=str(reason))
    except NoData as reason:
        return Verdict(rule, NOT_APPLICABLE, details=str(reason)) if record.finished else Verdict(rule, IN_PROGRESS, why=str(reason))
    if isinstance(answer, Finding):
        return Verdict(rule, ISSUES, answer.step, condition_met(rule, answer.step), answer.why, answer.figures)
    return Verdict(rule, NO_ISSUES if record.finished else IN_PROGRESS, None, "", answer.why, answer.figures)


def condition_met(rule: str, step: int | None) -> str:
    """The StatusDetails that AWS gives a rule that fired (a profiler rule without times of steps has no step to name)."""
    place = "" if step is None else f" at step {step}"
    return f"RuleEvaluationConditionMet: Evaluation of the rule {rule}{place} resulted in the condition being met\n"
