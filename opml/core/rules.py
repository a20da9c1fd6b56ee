"""The rule engine: SageMaker Debugger's rules, evaluated in the open, over what was recorded of a training job.

:func:`evaluate` is pure: the same record gives the same verdict, on a growing record the verdict of a fired rule stays. What a rule
could not look at is NotApplicable with the reason, never NoIssuesFound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opml.core import rules_training
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
    RuleSpec,
    Verdict,
)
from opml.core.rules_training import COURSE_RULES

__all__ = [
    "COURSE_RULES", "ERROR", "IN_PROGRESS", "ISSUES", "NOT_APPLICABLE", "NO_ISSUES", "RULES",
    "BadParameter", "RuleSpec", "Verdict", "evaluate",
]  # fmt: skip

RULES: dict[str, RuleSpec] = {spec.name: spec for spec in rules_training.SPECS}


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
    """The StatusDetails that AWS gives a rule that fired."""
    return f"RuleEvaluationConditionMet: Evaluation of the rule {rule} at step {step} resulted in the condition being met\n"
