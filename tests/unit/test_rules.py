import io
import json
import tarfile

import pytest

from opml import rules
from opml.errors import NotFound


def test_seven_rules_each_once_and_none_brings_its_own_collection():
    configured = rules.course_rules()
    assert len({rule.name for rule in configured}) == 7
    assert all(not rule.collection_configs for rule in configured if type(rule).__name__ == "Rule")


def test_each_collection_is_named_once_with_an_interval_of_its_own(aws):
    collections = rules.hook_config(aws)._to_request_dict()["CollectionConfigurations"]
    assert sorted(c["CollectionName"] for c in collections) == ["gradients", "losses", "relu_input"]
    losses = next(c["CollectionParameters"] for c in collections if c["CollectionName"] == "losses")
    assert losses == {"train.save_interval": "10", "eval.save_interval": "1"}


def test_intervals_by_mode_are_not_beaten_by_what_a_rule_brings_along():
    from sagemaker.debugger import Rule, rule_configs

    brought = [config for name in rules.RULES for config in Rule.sagemaker(getattr(rule_configs, name)()).collection_configs]
    for order in ((brought, {"losses": {"eval.save_interval": "1"}}), ({"losses": {"eval.save_interval": "1"}}, brought)):
        merged = {config.name: config.parameters for config in rules.merge_collections(*order)}
        assert merged["losses"] == {"eval.save_interval": "1"}
        assert merged["relu_input"] == {"include_regex": ".*relu_input", "save_interval": "500"}


@pytest.mark.parametrize(("tag", "has"), [("1.2-cpu", False), ("1.8-cpu-py36", True), ("2.0.1-gpu", True), ("2.1-cpu", False)])
def test_images_up_to_2_0_come_with_smdebug(tag, has):
    assert rules.has_smdebug(f"x/pytorch-training:{tag}") is has


def test_where_the_image_has_no_smdebug_the_hook_is_off_and_the_profiler_stays(aws, capsys):
    options = rules.watching(aws, "x/pytorch-training:2.12-cpu-py312")
    assert options["debugger_hook_config"] is False and "our own recorder" in capsys.readouterr().out
    assert {type(rule).__name__ for rule in options["rules"]} == {"ProfilerRule"}


@pytest.mark.parametrize("how", [{"image_uri": "x/pytorch-training:1.13-cpu-py39"}, {"image_uri": "x/mine:1", "smdebug_installed": True}])
def test_where_there_is_smdebug_debugger_watches(aws, how, capsys):
    options = rules.watching(aws, **how)
    assert len(options["rules"]) == 7 and options["debugger_hook_config"].collection_configs
    assert "SageMaker Debugger watches" in capsys.readouterr().out


def test_the_summary_reads_our_recorders_findings_from_the_jobs_output(aws):
    body = io.BytesIO()
    findings = json.dumps([{"rule": "Overfit", "status": "IssuesFound", "step": 4, "details": "at step 4\n"}]).encode()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        entry = tarfile.TarInfo("findings.json")
        entry.size = len(findings)
        tar.addfile(entry, io.BytesIO(findings))
    aws.client("s3").put_object(Bucket=aws.bucket, Key="jobs/j/output/output.tar.gz", Body=body.getvalue())
    job = Job(ModelArtifacts={"S3ModelArtifacts": f"s3://{aws.bucket}/jobs/j/output/model.tar.gz"})
    job.client = lambda name: job if name == "sagemaker" else aws.client(name)
    assert rules.rule_summary(job, "j").values.tolist() == [["Overfit", "IssuesFound", "at step 4"]]


def test_the_profiler_samples_every_half_second():
    assert rules.profiler_config()._to_request_dict()["ProfilingIntervalInMilliseconds"] == 500


class Job:
    """A SageMaker client that describes one job."""

    def __init__(self, **job):
        self.job = job

    def client(self, name):
        return self

    def describe_training_job(self, TrainingJobName):
        return self.job


def test_the_summary_tells_what_each_rule_said():
    said = [{"RuleConfigurationName": "Overfit", "RuleEvaluationStatus": "IssuesFound", "StatusDetails": "at step 4\n"}]
    summary = rules.rule_summary(Job(DebugRuleEvaluationStatuses=said), "job")
    assert summary.values.tolist() == [["Overfit", "IssuesFound", "at step 4"]]


def test_a_rule_that_nobody_evaluated_is_not_a_pass():
    summary = rules.rule_summary(Job(DebugRuleConfigurations=[{"RuleConfigurationName": "Overfit"}]), "job")
    assert summary["status"].tolist() == ["NotEvaluated"]


def test_the_summary_of_an_unknown_job_is_not_found(aws):
    with pytest.raises(NotFound, match="nobody"):
        rules.rule_summary(aws, "nobody")
