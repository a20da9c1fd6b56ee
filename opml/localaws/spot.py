"""Managed spot training: capacity that can be taken away.

Nothing interrupts a job here by itself. An interruption is asked for by a variable in the request's ``Environment``, because that passes
through every client (``PyTorch(environment=...)``, a tuner's definitions, the command line) and means nothing to AWS.
"""

import math
import time
from collections.abc import Iterable, Mapping

INTERRUPT = "OPML_SPOT_INTERRUPT_AFTER_SECONDS"  # "5" or "5,3": seconds of training until the first, the second ... interruption
AT_LINE = "OPML_SPOT_INTERRUPT_AT_LINE"  # "epoch 3/": one interruption, when a line of the job's log has this text
ABSENT = "OPML_SPOT_ABSENT_SECONDS"  # seconds until there is capacity again after an interruption; 0
SHARE = 0.3  # billable seconds for each second of training: AWS expresses the discount, about 70 %, in seconds


def fault(request: Mapping) -> str | None:
    """What AWS refuses in a spot request, or what cannot be read in our variables; None if all is well."""
    condition = request.get("StoppingCondition") or {}
    if not request.get("EnableManagedSpotTraining"):
        return None
    if condition.get("MaxWaitTimeInSeconds", 0) < condition.get("MaxRuntimeInSeconds", 86400):
        return "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
    environment = request.get("Environment") or {}
    try:
        for name in (INTERRUPT, ABSENT):
            _numbers(environment.get(name, ""))
    except ValueError:
        return f"{name} is {environment[name]!r}: give seconds, such as 5 or 5,3."
    return None


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",") if word.strip()]


class Spot:
    """The spot side of one job; of a job on demand, it never interrupts and bills every second."""

    def __init__(self, request: Mapping):
        environment = request.get("Environment") or {}
        self.enabled = bool(request.get("EnableManagedSpotTraining"))
        self._after = _numbers(environment.get(INTERRUPT, "")) if self.enabled else []
        self._line = environment.get(AT_LINE, "") if self.enabled else ""
        self.absent = sum(_numbers(environment.get(ABSENT, "")))
        wait = (request.get("StoppingCondition") or {}).get("MaxWaitTimeInSeconds") if self.enabled else None
        self._deadline = time.monotonic() + (wait or math.inf)
        self.trained = 0.0  # seconds in which the script ran, over all restarts

    def next_interruption(self) -> float:
        """Seconds of training until the next interruption."""
        return self._after.pop(0) if self._after else math.inf

    def is_interrupted_by(self, lines: Iterable[str]) -> bool:
        """Whether these lines of the log have the text that was asked for; said once."""
        seen = bool(self._line) and any(self._line in line for line in lines)
        self._line = "" if seen else self._line
        return seen

    def has_waited_too_long(self) -> bool:
        """Whether MaxWaitTimeInSeconds have passed since the job was created."""
        return time.monotonic() > self._deadline

    def billable(self, seconds: int) -> int:
        """``BillableTimeInSeconds`` of a job that took so many seconds."""
        return max(1, math.ceil(min(self.trained, seconds) * SHARE)) if self.enabled else seconds
