"""Looks at a record with the rules while training goes on: says what they find, writes it down, and may have training stopped."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opml.core.files import write_text
from opml.core.records import Record
from opml.core.rules import ISSUES, NO_ISSUES, NOT_APPLICABLE, PROFILER_RULES, RULES, Verdict, evaluate

FINDINGS_FILE = "findings.json"
WARN, STOP = "warn", "stop"
SETTLED = 30  # training steps: 0.9 ** 30 = 4 % of batch norm's first running averages are left; before, evaluation measures those
Parameters = dict[str, dict[str, str]]


def parameters(train_steps: int, valid_steps: int, epochs: int) -> Parameters:
    """The course's five rules with thresholds for a job of this size, by AWS's names, as strings.

    AWS's defaults count single saved steps: on the losses of single batches they judge luck, and fire on healthy runs. These count
    epochs. The loss is compared once, half-way (after three epochs at least): later it is small, and a single batch's luck is as large.

    Parameters
    ----------
    train_steps, valid_steps : steps of one epoch.
    epochs : of the job.
    """
    settled = max(1, math.ceil(SETTLED / train_steps))
    return {
        "VanishingGradient": {},
        "Overfit": {"patience": "3", "ratio_threshold": "3", "start_step": str(settled * (train_steps + valid_steps))},
        "Overtraining": {"patience_train": str(3 * train_steps), "patience_validation": str(3 * valid_steps)},
        "PoorWeightInitialization": {"distribution_range": "0.00001"},
        "LossNotDecreasing": {"num_steps": str(max(3 * train_steps, math.ceil(epochs * train_steps / 2))), "mode": "TRAIN"},
    }


class Judge:
    """Evaluates rules; each that fires is said once.

    Parameters
    ----------
    rules : rules and their parameters, looked at while training goes on.
    folder : where ``findings.json`` is written.
    act : "warn" says what was found, "stop" also has training stopped.
    say : prints one line.
    """

    def __init__(self, rules: Parameters, folder: str | Path, act: str = WARN, say: Callable[[str], Any] = print):
        self.rules, self.folder, self.act, self.say = rules, Path(folder), act, say
        self.found: dict[str, Verdict] = {}

    def __call__(self, record: Record) -> bool:
        """Look at what there is, in the rules' order; whether training should stop."""
        for rule, thresholds in self.rules.items():
            if rule not in self.found:
                self._note(evaluate(rule, record, thresholds))
        return self.act == STOP and bool(self.found)

    def conclude(self, record: Record) -> dict[str, Verdict]:
        """The verdict of each rule, and of the profiler's, now that nothing more will come; written to ``findings.json``."""
        verdicts = {rule: self.found.get(rule) or evaluate(rule, record, self.rules[rule]) for rule in self.rules}
        verdicts |= {rule: evaluate(rule, record) for rule in PROFILER_RULES}
        for verdict in verdicts.values():
            if verdict.rule not in self.found:
                self._note(verdict)
        of = {status: sorted(rule for rule in self.rules if verdicts[rule].status == status) for status in (NOT_APPLICABLE, NO_ISSUES)}
        if of[NOT_APPLICABLE]:
            self.say(f"not applicable: {'; '.join(f'{rule} ({verdicts[rule].details})' for rule in of[NOT_APPLICABLE])}")
        if of[NO_ISSUES]:
            self.say(f"no issues: {', '.join(of[NO_ISSUES])}")
        self._write(verdicts)
        return verdicts

    def _note(self, verdict: Verdict) -> None:
        if verdict.status != ISSUES:
            return
        self.found[verdict.rule] = verdict
        place = "" if verdict.step is None else f" at step {verdict.step}"
        self.say(f"finding: {verdict.rule}{place}: {verdict.why}. {RULES[verdict.rule].suggestion}")
        self._write(self.found)

    def _write(self, verdicts: dict[str, Verdict]) -> None:
        rows = [dataclasses.asdict(verdict) | {"suggestion": RULES[rule].suggestion} for rule, verdict in verdicts.items()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / FINDINGS_FILE, json.dumps(rows, indent=2))
        except OSError as error:  # a full disk, mostly: what was found has been said, and training goes on
            self.say(f"{self.folder / FINDINGS_FILE} cannot be written ({error.strerror or error}): free some space")
