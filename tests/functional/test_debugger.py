"""Debugger and profiler in the local AWS: what a job saves reaches S3 while it runs; rules are evaluated on it."""

import os

import pytest
import sagemaker
from botocore.exceptions import ClientError
from debugged import LOSS, NEW, PLAIN, debugged, keys, rule, rule_log, statuses
from sagemaker.debugger import DebuggerHookConfig, FrameworkProfile, ProfilerConfig, ProfilerRule, Rule, rule_configs
from sagemaker.pytorch import PyTorch
from smdebug.trials import create_trial
from waiting import eventually

from opml import rules
from opml.localaws import client

REPORTS = (
    "BatchSize", "CPUBottleneck", "Dataloader", "GPUMemoryIncrease", "IOBottleneck", "LoadBalancing", "LowGPUUtilization",
    "MaxInitializationTime", "OverallFrameworkMetrics", "OverallSystemUsage", "StepOutlier",
)  # fmt: skip
COURSE = ("VanishingGradient", "Overfit", "Overtraining", "PoorWeightInitialization", "LossNotDecreasing")
SAVED = [
    ("losses", {"save_interval": "2"}),
    ("gradients", {"save_interval": "5"}),
    ("relu_input", {"include_regex": ".*relu_input", "save_interval": "500"}),
]
CUSTOM = """
from smdebug.rules.rule import Rule

class Large(Rule):
    def __init__(self, base_trial, threshold="1", other_trials=None, action_str=""):
        super().__init__(base_trial=base_trial, other_trials=other_trials, action_str=action_str)
        self.threshold = float(threshold)

    def invoke_at_step(self, step):
        return float(self.base_trial.tensor("CrossEntropyLoss_output_0").value(step)) > self.threshold
"""


@pytest.fixture(scope="module")
def session(local_aws):
    """The SDK's session as other people's notebooks have it: the owner's, in the environment."""
    before = dict(os.environ)
    client.apply(local_aws)
    client.tune_sdk(local_aws)
    yield sagemaker.Session(default_bucket=local_aws.bucket)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def watched(jobs):
    """One job with the course's rules, one made to fire, one asked wrongly, and a custom one twice."""
    source = {"source_s3_uri": jobs.put("rules/large.py", CUSTOM)}
    asked = [rule(name) for name in COURSE]
    asked += [rule("VanishingGradient", "Fires", threshold="10"), rule("LossNotDecreasing", "Wrong", no_such="1")]
    asked += [rule("Large", f"Above{least}", threshold=least, **source) for least in ("100", "0")]
    return jobs.run(PLAIN, **debugged(jobs, rules=asked, collections=SAVED))


def test_a_script_that_knows_nothing_of_smdebug_is_hooked_in_the_images_that_did_so(watched, jobs, session):
    place = f"debug/{watched['TrainingJobName']}/debug-output"
    assert watched["TrainingJobStatus"] == "Completed" and "/training_job_end.ts" in keys(jobs, place)
    trial = create_trial(f"s3://{jobs.bucket}/{place}")
    assert trial.tensor(LOSS).steps() == [0, 2, 4, 6, 8, 10]
    assert {"gradient/Sequential_hidden.weight", "relu_input_0"} <= set(trial.tensor_names())


def test_every_rule_has_a_final_status_with_details_when_the_job_ends(watched):
    found = statuses(watched)
    assert list(found)[:5] == list(COURSE) and found["VanishingGradient"][0] == "NoIssuesFound"
    assert all(status in ("NoIssuesFound", "IssuesFound", "Stopped", "Error") and details for status, details in found.values())
    assert all(entry["RuleEvaluationJobArn"] and entry["LastModifiedTime"] for entry in watched["DebugRuleEvaluationStatuses"])


def test_what_cannot_be_judged_is_not_a_pass(watched):
    status, details = statuses(watched)["Overfit"]  # a script that knows nothing of smdebug has no evaluation steps
    assert status == "Stopped" and details.startswith("NotApplicable: ")


def test_a_fired_rule_says_so_in_awss_words_and_its_log_says_why(watched, jobs):
    words = "RuleEvaluationConditionMet: Evaluation of the rule VanishingGradient at step 0 resulted in the condition being met\n"
    assert statuses(watched)["Fires"] == ("IssuesFound", words)
    assert any("below 10" in line for line in rule_log(jobs, watched, "Fires"))


def test_a_wrong_parameter_is_an_error_that_names_it(watched):
    status, details = statuses(watched)["Wrong"]
    assert status == "Error" and "no_such" in details


def test_a_custom_rules_file_is_run_on_the_jobs_tensors(watched):
    found = statuses(watched)
    assert found["Above100"][0] == "NoIssuesFound"
    words = "RuleEvaluationConditionMet: Evaluation of the rule Large at step 0 resulted in the condition being met\n"
    assert found["Above0"] == ("IssuesFound", words)


def test_without_tensors_a_rule_is_an_error_and_the_log_says_why(jobs):
    options = {"no DebugHookConfig": {"hook": False}, "registered no smdebug hook": {"image": NEW}}
    names = {why: jobs.start(PLAIN, **debugged(jobs, rules=[rule("Overfit")], **more)) for why, more in options.items()}
    for why, name in names.items():
        job = jobs.wait(name)
        status, details = statuses(job)["Overfit"]
        assert (job["TrainingJobStatus"], status) == ("Completed", "Error")
        assert details.startswith("ClientError: No debugging data was saved")
        assert any(why in line for line in jobs.log(name)["algo-1"])
    assert not [key for key in keys(jobs, "debug/") if names["no DebugHookConfig"] in key]


FOREVER = PLAIN.replace("for step in range(steps):", "import time\nfor step in range(100000):\n    time.sleep(0.02)")


def test_stop_training_stops_the_job_in_which_its_rule_fires(jobs):
    name = jobs.name()
    action = '[{\\"training_job_prefix\\": \\"' + name + '\\", \\"name\\": \\"stoptraining\\"}]'
    asked = [rule("VanishingGradient", threshold="10", action_json=action)]
    job = jobs.run(FOREVER, name=name, **debugged(jobs, rules=asked, collections=SAVED))
    assert job["TrainingJobStatus"] == "Stopped"
    assert statuses(job)["VanishingGradient"][0] == "IssuesFound"


def test_the_courses_job_has_six_final_statuses_with_details_right_after_fit(session, jobs, tmp_path):
    (tmp_path / "train.py").write_text(PLAIN)
    asked = [Rule.sagemaker(getattr(rule_configs, name)()) for name in rules.RULES]
    estimator = PyTorch(
        "train.py", source_dir=str(tmp_path), role=jobs.role_arn, instance_type="ml.m5.large", instance_count=1, framework_version="1.8",
        py_version="py36", rules=[*asked, ProfilerRule.sagemaker(rule_configs.ProfilerReport())], sagemaker_session=session,
        profiler_config=ProfilerConfig(system_monitor_interval_millis=500, framework_profile_params=FrameworkProfile(num_steps=10)),
        debugger_hook_config=DebuggerHookConfig(hook_parameters={"train.save_interval": "100", "eval.save_interval": "10"}),
        output_path=f"s3://{jobs.bucket}/course",
    )  # fmt: skip
    estimator.fit(logs=False)
    summary = {entry["RuleConfigurationName"]: entry for entry in estimator.latest_training_job.rule_job_summary()}
    assert len(summary) == 6 and all(entry["StatusDetails"] for entry in summary.values())
    assert {entry["RuleEvaluationStatus"] for entry in summary.values()} <= {"NoIssuesFound", "IssuesFound", "Stopped"}, summary
    assert LOSS in create_trial(estimator.latest_job_debugger_artifacts_path()).tensor_names()
    assert summary["ProfilerReport"]["RuleEvaluationStatus"] == "NoIssuesFound", summary
    prefix = f"{estimator.output_path}/{estimator.latest_training_job.name}".split("/", 3)[3]
    left = keys(jobs, f"{prefix}/rule-output/ProfilerReport/profiler-output/")
    assert {"profiler-report.html", "profiler-report.ipynb"} <= set(left)
    assert {name.removeprefix("profiler-reports/") for name in left if "reports/" in name} == {f"{rule}.json" for rule in REPORTS}
    assert keys(jobs, estimator.latest_job_profiler_artifacts_path().split("/", 3)[3])


IDLE = "import time\nprint('idle', flush=True)\ntime.sleep(600)"


def test_a_running_job_is_given_a_profiler_and_rules(jobs):
    name = jobs.start(IDLE)
    jobs.wait_for_line(name, "idle")
    config = {"S3OutputPath": f"s3://{jobs.bucket}/late", "ProfilingIntervalInMilliseconds": 100}
    jobs.sagemaker.update_training_job(TrainingJobName=name, ProfilerConfig=config, ProfilerRuleConfigurations=[rule("OverallSystemUsage")])
    place = f"late/{name}/profiler-output/system/incremental/"
    sampled = eventually(lambda: keys(jobs, place))
    assert sampled and jobs.describe(name)["ProfilingStatus"] == "Enabled"
    jobs.sagemaker.stop_training_job(TrainingJobName=name)
    assert statuses(jobs.wait(name))["OverallSystemUsage"][0] == "NoIssuesFound"
    assert len(keys(jobs, place)) > len(sampled)  # closed with a later-stamped file


def test_only_a_job_that_trains_can_be_changed(watched, jobs):
    with pytest.raises(ClientError, match="in status Completed"):
        jobs.sagemaker.update_training_job(TrainingJobName=watched["TrainingJobName"], ProfilerConfig={"DisableProfiler": True})
