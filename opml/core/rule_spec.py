"""What a rule is: its name, its parameters with AWS's defaults, a pure function; and what it answers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from opml.core.records import GLOBAL, MODES, Record

IN_PROGRESS, NO_ISSUES, ISSUES, NOT_APPLICABLE, ERROR = "InProgress", "NoIssuesFound", "IssuesFound", "NotApplicable", "Error"
# Keys that SageMaker puts among a rule's parameters: they choose the rule and its action, and are not the rule's.
OF_THE_SERVICE = ("rule_to_invoke", "source_s3_uri", "action_json", "stop_training_on_fire", "training_job_name_prefix")


class BadParameter(ValueError):
    """An unknown rule, an unknown parameter, or a value that it cannot have."""


class NoData(Exception):
    """The rule had nothing to look at; the message says what was missing."""


class NotHere(NoData):
    """The rule cannot fire on this machine, however long the job runs."""


class Finding(NamedTuple):
    """What a rule found: the global step (None: not at a step), why in one sentence with figures, and figures for the report."""

    step: int | None
    why: str
    figures: dict[str, Any] = {}


class Quiet(NamedTuple):
    """The rule looked and found nothing; figures for the report, and what it could not look at."""

    figures: dict[str, Any] = {}
    why: str = ""


@dataclass(frozen=True)
class Verdict:
    """A rule's answer about a record.

    Attributes
    ----------
    status : InProgress, NoIssuesFound, IssuesFound, NotApplicable or Error.
    step : the global step at which the condition was met (of a profiler rule on smdebug's traces maybe the step within its mode: see
        :class:`opml.core.sources.ProfilerSource`).
    details : AWS's StatusDetails; of NotApplicable and Error the reason.
    why : the condition in words and figures (ours; AWS says only that it was met).
    figures : what the profiler's report shows of it.
    """

    rule: str
    status: str
    step: int | None = None
    details: str = ""
    why: str = ""
    figures: dict[str, Any] = field(default_factory=dict, compare=False)


class Parameter(NamedTuple):
    """A rule's parameter: AWS's default as AWS writes it (None: not set), and how its text becomes a value."""

    default: str | None
    parse: Callable[[str], Any]


@dataclass(frozen=True)
class RuleSpec:
    """One rule: AWS's RuleConfigName, its kind (debugger or profiler), its parameters, its function and what to do when it fires."""

    name: str
    kind: str
    parameters: dict[str, Parameter]
    function: Callable[..., Finding | Quiet | None]
    suggestion: str

    @property
    def defaults(self) -> dict[str, str | None]:
        """AWS's default of each parameter."""
        return {name: parameter.default for name, parameter in self.parameters.items()}

    def values(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """All parameters as values: the given ones (a list or a tuple is joined with commas), AWS's defaults for the others.

        Raises
        ------
        BadParameter : an unknown name or a value out of its range.
        """
        texts = {name: _text(value) for name, value in (given or {}).items() if name not in OF_THE_SERVICE and value is not None}
        for name in texts:
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise BadParameter(f"the rule {self.name} has no parameter {name!r}: it has {known}")
        return {name: self._value(name, texts.get(name, parameter.default)) for name, parameter in self.parameters.items()}

    def _value(self, name: str, text: str | None) -> Any:
        if text is None or text == "None":
            return None
        try:
            return self.parameters[name].parse(text)
        except ValueError as error:
            raise BadParameter(f"{name} of the rule {self.name} cannot be {text!r}: {error}") from error


def _text(value: Any) -> str:
    """A value as SageMaker would send it."""
    return ",".join(str(each) for each in value) if isinstance(value, (list, tuple)) else str(value)


def number(low: float = -math.inf, high: float = math.inf) -> Callable[[str], float]:
    """Reads a number from ``low`` to ``high``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError("give a number") from None
        if not low <= value <= high:
            raise ValueError(f"give a number from {low:g} to {high:g}")
        return value

    return parse


def count(low: int = 0) -> Callable[[str], int]:
    """Reads a whole number from ``low``."""

    def parse(text: str) -> int:
        value = number(low)(text)
        if not math.isfinite(value) or value != int(value):
            raise ValueError("give a whole number")
        return int(value)

    return parse


def flag(text: str) -> bool:
    """Reads true or false, in any case."""
    if text.strip().lower() not in ("true", "false"):
        raise ValueError("give True or False")
    return text.strip().lower() == "true"


def words(text: str) -> list[str]:
    """Reads a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def regex(text: str) -> str:
    """Reads a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"it is no regular expression ({error})") from error
    return text


def regexes(text: str) -> list[str]:
    """Reads a comma-separated list of regular expressions."""
    return [regex(word) for word in words(text)]


def mode(text: str) -> str:
    """Reads TRAIN, EVAL, PREDICT or GLOBAL (also as smdebug prints it, ``ModeKeys.TRAIN``)."""
    name = text.removeprefix("ModeKeys.").upper()
    if name not in MODES:
        raise ValueError(f"give one of {', '.join(MODES)}")
    return name


SELECTION = {"collection_names": Parameter(None, words), "tensor_regex": Parameter(None, regexes)}


def select(record: Record, collection_names: list[str] | None, tensor_regex: list[str] | None) -> list[str]:
    """The union of collections and regular expressions, as AWS documents it.

    Raises
    ------
    NoData : neither was given, or nothing of them was recorded.
    """
    if not collection_names and not tensor_regex:
        raise NoData("neither collection_names nor tensor_regex was given, so the rule looked at no tensor")
    found = {name for collection in collection_names or () for name in record.names(collection=collection)}
    found |= {name for expression in tensor_regex or () for name in record.names(regex=expression)}
    if not found:
        asked = [f"of the collection {name}" for name in collection_names or ()] + [f"matching {name}" for name in tensor_regex or ()]
        raise NoData(f"no tensors {' or '.join(asked)} were saved")
    return sorted(found)


def learning_steps(record: Record, name: str | None = None) -> list[int]:
    """Steps in which the network learns: those of TRAIN, and of scripts that never set a mode (GLOBAL)."""
    return [step for step in record.steps(name) if record.mode(step) in ("TRAIN", GLOBAL)]
