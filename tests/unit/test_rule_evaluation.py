"""How the engine's verdicts become AWS's statuses."""

import json
import threading

import nbformat
import numpy as np
import pytest
from recorded import system

from opml.core.records import TRAIN, Record
from opml.core.rules import Verdict
from opml.localaws import profiler_report, rule_worker
from opml.localaws.rule_words import NO_DATA


class Said(list):
    """What a rule's process says."""

    def status(self, rule, status, details):
        self.append((status, details))

    def log(self, rule, line):
        self.append(line)


def record(finished=True, **series):
    made = Record(finished=finished)
    for name, values in series.items():
        for step, value in enumerate(values):
            made.add(name, TRAIN, step, np.array([value]))
    return made


def task(rule, kind="debug", **parameters):
    return {"rule": rule, "kind": kind, "parameters": parameters, "job": "job", "output": ""}


def test_a_job_that_saved_nothing_is_an_error_in_awss_words():
    assert rule_worker.final_status(Verdict("Overfit", "NotApplicable"), "debug", record()) == ("Error", NO_DATA)


def test_what_had_nothing_to_look_at_is_stopped_and_says_so():
    verdict = Verdict("LowGPUUtilization", "NotApplicable", details="no GPU was sampled")
    assert rule_worker.final_status(verdict, "profiler", record()) == ("Stopped", "NotApplicable: no GPU was sampled")


def test_a_verdict_without_a_finding_is_final_only_at_the_end():
    verdict = Verdict("VanishingGradient", "NoIssuesFound")
    assert rule_worker.final_status(verdict, "debug", record(finished=False, x=[1.0])) is None
    assert rule_worker.final_status(verdict, "debug", record(x=[1.0])) == ("NoIssuesFound", rule_worker.EVERYTHING)


def test_a_rule_speaks_once_and_acts_when_it_fires(monkeypatch):
    said, acted = Said(), []
    monkeypatch.setattr(rule_worker.rule_actions, "act", lambda action, rule, say: acted.append((action["name"], rule)))
    action = json.dumps({"name": "stoptraining", "training_job_prefix": "job"})
    judge = rule_worker.Judge(0, task("VanishingGradient", threshold="10", action_json=action), said)
    for _ in range(2):
        judge.look(record(finished=False, **{"gradient/x": [1.0]}))
    assert [entry[0] for entry in said if isinstance(entry, tuple)] == ["IssuesFound"]
    assert acted == [("stoptraining", "VanishingGradient")]


def test_an_action_that_fails_leaves_the_finding(monkeypatch):
    said = Said()
    monkeypatch.setattr(rule_worker.rule_actions, "act", lambda *_: 1 / 0)
    action = json.dumps({"name": "sms", "endpoint": "+1"})
    rule_worker.Judge(0, task("VanishingGradient", threshold="10", action_json=action), said).look(record(**{"gradient/x": [1.0]}))
    assert said[0][0] == "IssuesFound" and "action sms failed" in said[-1]


WRONG = [(task("NoSuchRule"), "NoSuchRule"), (task("Overfit", patience="x"), "patience"), (task("Overfit", action_json="{"), "")]


@pytest.mark.parametrize(("wrong", "word"), WRONG)
def test_what_was_asked_wrongly_is_an_error(wrong, word):
    said = Said()
    rule_worker.Judge(0, wrong, said).look(record(x=[1.0]))
    ((status, details),) = said
    assert status == "Error" and details.startswith("ClientError: ") and word in details


@pytest.mark.parametrize("action", ["7", "[[]]", '{"name": "sms", "parameters": 7}'])
def test_an_action_of_any_shape_ends_its_own_rule_alone(action):
    said = Said()
    rule_worker.Judge(0, task("VanishingGradient", action_json=action), said).look(record(x=[1.0]))
    ((status, _),) = said
    assert status == "Error"


def test_what_awss_evaluator_alone_needs_is_left_out():
    said = Said()
    rule_worker.Judge(0, task("VanishingGradient", scan_interval_us="60000000"), said).look(record(**{"gradient/x": [1.0]}))
    assert said[0][0] == "NoIssuesFound"


def test_a_stalled_job_is_stopped_by_its_name():
    found = rule_worker._actions(task("StalledTrainingRule", stop_training_on_fire="True"))
    assert found == [{"name": "stoptraining", "training_job_prefix": "job"}]


def test_only_the_rule_about_time_looks_when_nothing_was_saved():
    assert rule_worker.Judge(0, task("StalledTrainingRule"), Said()).waits and not rule_worker.Judge(0, task("Overfit"), Said()).waits


def test_the_reports_notebook_is_valid_and_names_each_finding():
    verdicts = [
        Verdict("BatchSize", "NotApplicable", details="no GPU | none"),
        Verdict("StepOutlier", "IssuesFound", why="12 of 200 steps"),
    ]
    made = nbformat.from_dict(profiler_report.notebook(verdicts, "job"))
    nbformat.validate(made)
    assert "| StepOutlier | IssuesFound | 12 of 200 steps |" in made.cells[1].source and "no GPU \\| none" in made.cells[1].source


def test_the_reports_details_name_what_had_nothing_to_look_at():
    verdicts = [Verdict("BatchSize", "NotApplicable"), Verdict("StepOutlier", "NoIssuesFound"), Verdict("IOBottleneck", "NotApplicable")]
    assert profiler_report.in_words(verdicts) == "no issues: StepOutlier; not applicable: BatchSize, IOBottleneck"


def test_the_reports_files_say_the_parameters_it_was_given(tmp_path):
    busy = system(*[{("cpu0", "CPUUtilization"): 95.0, ("gpu0", "GPUUtilization"): 5.0}] * 12)
    asked = task(profiler_report.RULE, "profiler", CPUBottleneck_threshold="20", CPUBottleneck_patience="10")
    assert profiler_report.judge(busy, {**asked, "output": str(tmp_path)}).status == "IssuesFound"
    found = json.loads((tmp_path / "profiler-output/profiler-reports/CPUBottleneck.json").read_text())
    assert found["RuleTriggered"] == 1
    assert {"threshold:20", "patience:10", "cpu_threshold:90"} <= set(found["RuleParameters"].split("\n"))


def test_the_end_of_the_job_is_the_end_of_standard_input(monkeypatch):
    class Input:
        buffer = type("Empty", (), {"read": lambda self: b""})()

    monkeypatch.setattr("sys.stdin", Input)
    ended = rule_worker.watch_for_the_end()
    assert isinstance(ended, threading.Event) and ended.wait(5)
