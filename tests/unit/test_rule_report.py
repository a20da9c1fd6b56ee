"""The report: one page that needs nothing else, and AWS's JSON files."""

import os
from html.parser import HTMLParser

import numpy as np
import pytest
from recorded import durations, losses, system, train, valid

from opml.core import svg
from opml.core.records import EVAL, TRAIN, Phase, Record, Summary, System
from opml.core.report import rule_reports, write_report
from opml.core.rules import COURSE_RULES, PROFILER_RULES, evaluate


def long_record(steps=10_000):
    """A record of a long job."""
    draw, record = np.random.default_rng(0), Record(finished=True)
    for step in range(steps):
        start, mode, lasted = 1000 + 0.07 * step, EVAL if step % 100 > 90 else TRAIN, 0.07 * draw.lognormal(0, 0.2)
        record.add("CrossEntropyLoss_output_0", mode, step, Summary(mean=2.3 * np.exp(-step / 3000), size=1))
        record.phases += [Phase(step, mode, "step", start, lasted), Phase(step, mode, "forward", start, lasted / 2)]
        if step % 14 == 0:
            record.system += [System(start, "algo-1", f"cpu{core}", "CPUUtilization", draw.uniform(0, 100)) for core in range(8)]
    return record


def verdicts(record):
    return [evaluate(rule, record) for rule in (*COURSE_RULES, *PROFILER_RULES)]


class Page(HTMLParser):
    """Collects what a page would load, and checks that its tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    record = long_record()
    path = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(record, verdicts(record), path, title="A <long> job", price_per_hour=0.5)


def test_the_page_of_a_long_job_is_small_whole_and_loads_nothing(page):
    assert page.stat().st_size < 2_000_000
    read = Page(page.read_text())
    assert read.open == [] and read.loads == ["data:,"]
    assert "A <long> job" in read.text and "9,000" not in read.text


def test_the_page_says_what_the_rules_said_and_what_idling_costs(page):
    text = Page(page.read_text()).text
    assert "LowGPUUtilization" in text and "NotApplicable" in text
    assert "The CPU was idle for 50 % of 11.7 min: 0.048" in text and "of 0.0972 USD" in text


def test_idling_is_paid_for_on_each_instance_of_the_job(tmp_path):
    record = system(*[{("cpu0", "CPUUtilization"): 25.0}] * 3, every=1800)
    record.facts["instances"] = 4
    text = write_report(record, [], tmp_path / "r.html", title="t", price_per_hour=0.5).read_text()
    assert "2.2500 of 3.0000 USD, at 0.5000 USD an hour and instance; 4 instances, of which 1 was sampled" in text


@pytest.mark.parametrize(
    "record", [Record(finished=True), losses(*train(1, 2), *valid(3)), durations(1.0), system({("cpu0", "CPUUtilization"): 5.0})]
)
def test_a_page_can_be_made_of_any_part_of_a_record(record, tmp_path):
    path = write_report(record, verdicts(record), tmp_path / "report.html", title="t")
    assert Page(path.read_text()).open == []


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = write_report(Record(finished=True), [], tmp_path / "report.html", title="old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(Record(finished=True), [], path, title="new")
    assert "old" in path.read_text() and list(tmp_path.iterdir()) == [path]


def test_a_loss_that_is_nan_leaves_a_gap(tmp_path):
    record = losses(*train(1, float("nan"), 2), *valid(float("inf")))
    assert "nan," not in write_report(record, [], tmp_path / "r.html", title="t").read_text()


def test_the_profilers_files_have_aws_names_and_keys():
    record = durations(*[1.0] * 100, *[9.0] * 11)
    record.system.append(System(1.0, "algo-1", "cpu0", "CPUUtilization", 5.0))
    reports = rule_reports(record, verdicts(record))
    assert set(reports) == {
        "BatchSize", "CPUBottleneck", "Dataloader", "GPUMemoryIncrease", "IOBottleneck", "LoadBalancing", "LowGPUUtilization",
        "MaxInitializationTime", "OverallFrameworkMetrics", "OverallSystemUsage", "StepOutlier",
    }  # fmt: skip
    assert {"RuleTriggered", "Violations", "Details", "Datapoints", "RuleParameters"} <= reports["StepOutlier"].keys()
    assert reports["StepOutlier"]["RuleParameters"] == "stddev:3\nn_outliers:10"
    assert reports["CPUBottleneck"]["Datapoints"] == 0 and reports["OverallSystemUsage"]["Datapoints"] == 1


def test_the_profilers_files_say_with_which_parameters_a_rule_looked():
    given = {"StepOutlier_stddev": "2", "StepOutlier_mode": "None", "opt_out_telemetry": "True"}
    reports = rule_reports(durations(*[1.0] * 9), [], given)
    assert reports["StepOutlier"]["RuleParameters"] == "stddev:2\nn_outliers:10"
    assert reports["CPUBottleneck"]["RuleParameters"].startswith("threshold:50\n")


@pytest.mark.parametrize(("low", "high", "found"), [(0, 10, [0, 2, 4, 6, 8, 10]), (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (3, 3, [3])])
def test_axes_have_round_numbers(low, high, found):
    assert svg.ticks(low, high) == found


def test_long_lines_are_thinned_to_means():
    x, y = svg.thin(range(3000), [0, 3] * 1500)
    assert len(x) == 300 and set(y) == {1.5}
