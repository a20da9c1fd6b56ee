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
