"""A process that evaluates the built-in rules of one training job by our engine, on what the job has saved so far.

``python -m opml.localaws.rule_worker task.json``; the words that it says are described in ``rule_process``. smdebug is loaded with the
first tensors, not before.
"""

import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from opml.core.records import Record
from opml.core.rules import ISSUES, NO_ISSUES, NOT_APPLICABLE, BadParameter, Verdict, evaluate
from opml.core.sources import ProfilerSource, SmdebugSource
from opml.localaws import profiler_report, rule_actions
from opml.localaws.rule_words import NO_DATA, Words, watch_for_the_end

LOOK = 1.0  # seconds between two looks at what was saved
UNUSED = "scan_interval_us"  # how often AWS's evaluator reads its files; the SDK always sends it
EVERYTHING = "The rule was evaluated on everything that was saved."


def main(task_file: str) -> None:
    """Look at the job again and again, and once more when it has ended."""
    words, task, ended = Words(), json.loads(Path(task_file).read_text()), watch_for_the_end()
    os.nice(5)  # the script goes first
    record = Record()
    sources = [SmdebugSource(task["tensors"], record), ProfilerSource(task["profiler"], record)]
    judges = [Judge(number, rule, words) for number, rule in enumerate(task["rules"])]
    seen = None
    while True:
        last = ended.is_set()  # asked first: what was saved before is then read below
        for source in sources:
            source.update()
        record.finished = last
        now = (len(record.steps()), len(record.system), len(record.phases))
        for judge in judges:
            if last or now != seen or judge.waits:
                judge.look(record)
        if last:
            return
        seen = now
        ended.wait(LOOK)


class Judge:
    """One rule of the job, until it has a final status."""

    def __init__(self, number: int, task: dict, words: Words):
        self._number, self._task, self._words = number, task, words
        self._done = False
        self.waits = task["rule"] == "StalledTrainingRule"  # looks at the time, also when nothing is saved
        try:
            self._actions = _actions(task)
        except ValueError as error:
            self._say("Error", f"ClientError: {error}")
        except Exception as error:  # one rule's failure must not be the others'
            self._fail(error)

    def look(self, record: Record) -> None:
        """Evaluate the rule, unless it is decided, and act if it fires."""
        if self._done:
            return
        try:
            verdict = self._verdict(record)
        except BadParameter as error:
            self._say("Error", f"ClientError: {error}")
            return
        except Exception as error:
            self._fail(error)
            return
        if (said := final_status(verdict, self._task["kind"], record)) is not None:
            self._say(*said)
            if verdict.why:  # AWS's details say only that, not why
                self._words.log(self._number, f"{verdict.rule}: {verdict.status}: {verdict.why}")
            if verdict.status == ISSUES:
                self._act()

    def _verdict(self, record: Record) -> Verdict:
        if self._task["rule"] == profiler_report.RULE:
            return profiler_report.judge(record, self._task)
        parameters = {name: text for name, text in self._task["parameters"].items() if not name.endswith(UNUSED)}
        return evaluate(self._task["rule"], record, parameters)

    def _fail(self, error: Exception) -> None:
        traceback.print_exc()  # to the rule's log
        self._say("Error", f"InternalServerError: {type(error).__name__}: {error}")

    def _say(self, status: str, details: str) -> None:
        self._done = True
        self._words.status(self._number, status, details)

    def _act(self) -> None:
        for action in self._actions:
            try:
                rule_actions.act(action, self._task["rule"], lambda line: self._words.log(self._number, line))
            except Exception as error:  # the job's role may not stop jobs, say: the finding stands
                self._words.log(self._number, f"action {action['name']} failed: {error}")


def final_status(verdict: Verdict, kind: str, record: Record) -> tuple[str, str] | None:
    """AWS's status and details of a verdict; None while more may come.

    AWS knows no status for a rule that could not look at anything: it is ``Stopped`` here, with details that begin with NotApplicable. A
    debugging rule of a job that saved no tensor at all is an ``Error``, as on AWS.
    """
    if verdict.status == ISSUES:
        return "IssuesFound", verdict.details
    if not record.finished:
        return None
    if kind == "debug" and not record.steps():
        return "Error", NO_DATA
    if verdict.status == NOT_APPLICABLE:
        return "Stopped", f"NotApplicable: {verdict.details}"
    if verdict.status == NO_ISSUES:
        return "NoIssuesFound", verdict.details or verdict.why or EVERYTHING
    return "Error", verdict.details


def _actions(task: Mapping) -> list[dict[str, str]]:
    """What the rule is to do when it fires."""
    parameters = task["parameters"]
    actions = rule_actions.parse(parameters.get("action_json"))
    if parameters.get("stop_training_on_fire", "").lower() == "true":  # of StalledTrainingRule
        actions.append({"name": "stoptraining", "training_job_prefix": parameters.get("training_job_name_prefix") or task["job"]})
    return actions


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # all is said; to take torch apart, which smdebug loads, takes a second or two
