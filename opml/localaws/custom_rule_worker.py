"""A process that evaluates one custom rule: a class of the user's file, by smdebug's own invoker, on what the job saves.

``python -m opml.localaws.custom_rule_worker task.json``; the words that it says are described in ``rule_process``. As AWS's evaluator, it
passes all rule parameters but its own by keyword, as strings.
"""

import importlib.util
import inspect
import json
import os
import sys
import time
import traceback
from pathlib import Path

from opml.localaws.rule_words import NO_DATA, Words, watch_for_the_end

OWN = ("source_s3_uri", "action_json")
LOOK = 0.3  # seconds


def main(task_file: str) -> None:
    """Wait for data, then run the rule to its end."""
    words, task, ended = Words(), json.loads(Path(task_file).read_text()), watch_for_the_end()
    rule = task["rules"][0]
    try:
        if rule["kind"] == "debug" and not _has_data(Path(task["tensors"]), ended):
            words.status(0, "Error", NO_DATA)
        else:
            words.status(0, *evaluate(task, rule))
    except Exception as error:  # whatever the user's rule does
        words.status(0, "Error", f"{type(error).__name__}: {error}")
        traceback.print_exc()  # to the rule's log


def _has_data(folder: Path, ended) -> bool:
    """Wait for the first step that is saved; False if the job ends without one."""
    while not any(folder.glob("index/*/*.json")):
        if ended.is_set() and not any(folder.glob("index/*/*.json")):
            return False
        time.sleep(LOOK)
    return True


def evaluate(task: dict, rule: dict) -> tuple[str, str]:
    """(status, details); smdebug raises ``NoMoreData`` at the normal end of a clean run."""
    from smdebug.exceptions import NoMoreData, RuleEvaluationConditionMet
    from smdebug.rules.rule_invoker import invoke_rule

    try:
        invoke_rule(_made(task, rule), raise_eval_cond=True)
    except RuleEvaluationConditionMet as met:
        return "IssuesFound", f"RuleEvaluationConditionMet: {met}\n"
    except NoMoreData as end:
        return "NoIssuesFound", f"The rule was evaluated at every saved step: {end}"
    return "NoIssuesFound", "The rule was evaluated to its end."


def _made(task: dict, rule: dict):
    """The user's rule on the job's trial."""
    from smdebug.trials import create_trial

    spec = importlib.util.spec_from_file_location("custom_rule", Path("custom_rule.py").resolve())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parameters = rule["parameters"]
    given = {name: text for name, text in parameters.items() if name not in OWN and not name.startswith("other_trial_")}
    others = [create_trial(uri) for name, uri in sorted(parameters.items()) if name.startswith("other_trial_")]
    if rule["kind"] == "profiler":
        trial = create_trial(task["profiler"], profiler=True, output_dir=rule["output"])
    else:
        trial = create_trial(task["tensors"])
    given |= {"other_trials": others} if others else {}
    given |= {"action_str": parameters["action_json"].replace('\\"', '"')} if "action_json" in parameters else {"action_str": ""}
    return _construct(getattr(module, rule["rule"]), trial, given)


def _construct(kind, trial, given: dict):
    """An older rule's constructor may know no ``action_str``; where there is no action it is left out then."""
    known = inspect.signature(kind).parameters.values()
    if not given["action_str"] and not any(
        parameter.name == "action_str" or parameter.kind is parameter.VAR_KEYWORD for parameter in known
    ):
        given = {name: value for name, value in given.items() if name != "action_str"}
    return kind(base_trial=trial, **given)


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # all is said; to take torch apart, which smdebug loads, takes a second or two
