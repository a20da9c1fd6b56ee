"""The profiler's rules, on samples and step times with known answers."""

import pytest
from recorded import durations, losses, system, train

from opml.core.records import Phase, Record, System
from opml.core.rules import evaluate

CPU, GPU = ("cpu0", "CPUUtilization"), ("gpu0", "GPUUtilization")
IO, MEMORY, OTHER = ("cpu0", "I/OWaitPercentage"), ("gpu0", "GPUMemoryUtilization"), ("gpu1", "GPUUtilization")
FEW = {"patience": "4"}


def points(cpu=95, gpu=5, number=5, io=0.0, memory=50.0):
    return [{CPU: cpu, GPU: gpu, IO: io, MEMORY: memory}] * number


TABLE = [
    # A bottleneck: a GPU below gpu_threshold while a core is above its own; more than `threshold` % of more than `patience` points.
    ("CPUBottleneck", FEW, system(*points(number=5)), 4),
    ("CPUBottleneck", FEW, system(*points(cpu=90)), None),
    ("CPUBottleneck", FEW, system(*points(gpu=10)), None),
    ("CPUBottleneck", FEW, system(*points(number=3), *points(cpu=1, number=3)), 4),
    ("CPUBottleneck", FEW, system(*points(cpu=1, number=3), *points(number=3)), None),
    ("CPUBottleneck", FEW, system(*points(cpu=1, number=3), *points(number=4)), 6),
    ("CPUBottleneck", {**FEW, "cpu_threshold": "80", "gpu_threshold": "20"}, system(*points(cpu=81, gpu=19)), 4),
    ("IOBottleneck", FEW, system(*points(io=51)), 4),
    ("IOBottleneck", FEW, system(*points(io=50)), None),
    ("LowGPUUtilization", FEW, system(*points(gpu=69)), 4),
    ("LowGPUUtilization", FEW, system(*points(gpu=70)), None),
    ("LowGPUUtilization", {**FEW, "window": "5"}, system(*points(gpu=99, number=9), *points(gpu=1, number=1)), None),
    ("LowGPUUtilization", {**FEW, "window": "5"}, system(*points(gpu=99, number=9), *points(gpu=1, number=2)), 10),
    ("BatchSize", FEW, system(*points(cpu=69, gpu=69, memory=69)), 4),
    ("BatchSize", FEW, system(*points(cpu=70, gpu=69, memory=69)), None),
    ("BatchSize", FEW, system(*points(cpu=69, gpu=70, memory=69)), None),
    ("BatchSize", FEW, system(*points(cpu=69, gpu=69, memory=70)), None),
    ("GPUMemoryIncrease", {**FEW, "window": "2"}, system(*points(memory=20, number=6), *points(memory=31, number=1)), 6),
    ("GPUMemoryIncrease", {**FEW, "window": "2"}, system(*points(memory=20, number=6), *points(memory=30, number=1)), None),
    ("LoadBalancing", FEW, system(*[{GPU: 50.0, OTHER: 51.0}] * 6), None),
    ("LoadBalancing", FEW, system(*[{GPU: 50.0, OTHER: 91.0}] * 6), 4),
    ("LoadBalancing", {"patience": "4", "threshold": "0.84"}, system(*[{GPU: 50.0, OTHER: 91.0}] * 6), None),  # at most sqrt(ln 2) = 0.833
    ("StepOutlier", {"n_outliers": "1"}, durations(*[1.0] * 100, 9.0, 9.0), 101),
    ("StepOutlier", {"n_outliers": "2"}, durations(*[1.0] * 100, 9.0, 9.0), None),
    ("StepOutlier", {"n_outliers": "0", "stddev": "11"}, durations(*[1.0] * 100, 9.0), None),  # it is 10 deviations above the mean
    ("StepOutlier", {"n_outliers": "0", "stddev": "9.9"}, durations(*[1.0] * 100, 9.0), 100),
    ("StepOutlier", {"n_outliers": "0"}, durations(*[1.0] * 100, 0.001), None),  # quick ones are none
]  # fmt: skip


@pytest.mark.parametrize(("rule", "parameters", "record", "step"), TABLE)
def test_a_rule_fires_at_its_step_and_not_one_sample_below(rule, parameters, record, step):
    verdict = evaluate(rule, record, parameters)
    assert (verdict.status, verdict.step) == (("NoIssuesFound", None) if step is None else ("IssuesFound", step)), verdict


@pytest.mark.parametrize("rule", ["CPUBottleneck", "IOBottleneck", "LowGPUUtilization", "BatchSize", "GPUMemoryIncrease", "LoadBalancing"])
def test_what_cannot_fire_on_this_machine_is_not_applicable_even_while_it_runs(rule):
    verdict = evaluate(rule, system(*[{CPU: 99.0}] * 2000, finished=False))
    assert verdict.status == "NotApplicable" and "no GPU was sampled" in verdict.details


@pytest.mark.parametrize("rule", ["CPUBottleneck", "LowGPUUtilization", "BatchSize", "GPUMemoryIncrease"])
def test_a_job_that_ends_before_the_patience_was_not_judged(rule):
    verdict = evaluate(rule, system(*points(number=1000)))
    assert (verdict.status, verdict.details[:30]) == ("NotApplicable", "1000 datapoints were recorded,")
    assert evaluate(rule, system(*points(number=1000), finished=False)).status == "InProgress"


def test_one_gpu_has_nothing_to_balance():
    assert "one GPU" in evaluate("LoadBalancing", system(*points())).details


def test_samples_of_one_moment_are_one_datapoint_and_instances_are_apart():
    record = system(*points(number=5))
    record.system += [System(sample.timestamp + 0.019, "algo-1", "cpu1", "CPUUtilization", 1.0) for sample in record.system[::4]]
    record.system += [sample._replace(instance="algo-2", value=50.0) for sample in record.system]
    figures = evaluate("CPUBottleneck", record, FEW).figures
    assert figures["algo-1"] == {"low_gpu_utilization": 5, "bottlenecks": 5, "datapoints": 5}
    assert figures["algo-2"]["bottlenecks"] == 0


@pytest.mark.parametrize(("waited", "status"), [(1200.0, "NoIssuesFound"), (1200.1, "IssuesFound")])
def test_a_first_step_after_twenty_minutes_is_late(waited, status):
    record = Record(system=[System(100.0, "algo-1", *CPU, 1.0)], phases=[Phase(0, "TRAIN", "step", 100 + waited, 1.0)], finished=True)
    assert evaluate("MaxInitializationTime", record).status == status


def test_a_first_step_that_never_came_is_late_too():
    record = Record(system=[System(time, "algo-1", *CPU, 1.0) for time in (0.0, 1201.0)])
    verdict = evaluate("MaxInitializationTime", record)
    assert (verdict.status, verdict.step) == ("IssuesFound", None) and "at step" not in verdict.details


@pytest.mark.parametrize(("workers", "status"), [(7, "NoIssuesFound"), (6, "IssuesFound"), (20, "NoIssuesFound"), (21, "IssuesFound")])
def test_loaders_are_measured_by_the_cores(workers, status):
    record = durations(*[1.0] * 11)
    record.facts = {"loaders": workers, "cores": 10}
    assert evaluate("Dataloader", record).status == status


def test_loading_in_the_training_process_leaves_nothing_to_count():
    record = durations(*[1.0] * 11)
    record.facts = {"loaders": 0, "cores": 10}
    assert evaluate("Dataloader", record).status == "NotApplicable"


def test_outliers_are_sought_in_the_asked_mode_and_need_a_hundred_steps():
    record = durations(*[1.0] * 100, 9.0, mode="EVAL")
    assert evaluate("StepOutlier", record, {"n_outliers": 0}).step == 100
    assert evaluate("StepOutlier", record, {"n_outliers": 0, "mode": "TRAIN"}).status == "NotApplicable"
    assert evaluate("StepOutlier", durations(*[1.0] * 100)).status == "NotApplicable"


def test_the_overall_use_has_aws_rows():
    record = system({CPU: 10.0, GPU: 20.0, ("network", "ReceiveBytesPerSecond"): 5.0}, {CPU: 30.0})
    figures = evaluate("OverallSystemUsage", record).figures
    assert set(figures) == {"CPU", "GPU", "Network"}
    assert figures["CPU"]["algo-1"] == {"max": 30.0, "p99": 29.8, "p95": 29.0, "p50": 20.0, "min": 10.0}


def test_the_time_of_each_phase_is_summed():
    record = durations(1.0, 2.0)
    record.phases.append(Phase(0, "TRAIN", "forward", 0.0, 0.5))
    assert evaluate("OverallFrameworkMetrics", record).figures == {"phase_seconds": {"TRAIN": {"step": 3.0, "forward": 0.5}}}


def test_the_report_fires_at_the_end_if_a_rule_of_it_did():
    quick = {"CPUBottleneck_patience": "4", "opt_out_telemetry": "True"}
    verdict = evaluate("ProfilerReport", system(*points()), quick)
    assert (verdict.status, verdict.why) == ("IssuesFound", "CPUBottleneck fired")
    assert evaluate("ProfilerReport", system(*points(), finished=False), quick).status == "InProgress"
    assert evaluate("ProfilerReport", system(*points())).status == "NoIssuesFound"


def test_losses_are_nothing_to_the_profiler():
    assert evaluate("ProfilerReport", losses(*train(1, 2))).status == "NotApplicable"
