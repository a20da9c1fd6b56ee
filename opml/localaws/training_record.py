"""What Describe shows of a training job, in moto's ``FakeTrainingJob``: at its start, and of rules that nobody evaluates yet."""

from moto.sagemaker.models import FakeTrainingJob

from opml.localaws import state
from opml.localaws.settings import settings

RULES_NOT_EVALUATED = "The local AWS stores rule configurations but does not evaluate rules yet."


def show_as_started(fake: FakeTrainingJob, request: dict) -> None:
    """Undo moto's instant success, and show what it leaves out of the request."""
    fake.training_job_status, fake.secondary_status = "InProgress", "Starting"
    fake.secondary_status_transitions, fake.final_metric_data_list = [], []
    fake.model_artifacts = fake.training_start_time = fake.training_end_time = None
    fake.hyper_parameters = fake.hyper_parameters or {}
    fake.output_data_config = {"KmsKeyId": "", "CompressionType": "GZIP", **request["OutputDataConfig"]}  # attach() needs KmsKeyId
    fake.algorithm_specification = dict(request["AlgorithmSpecification"])
    fake.environment, fake.retry_strategy = request.get("Environment"), request.get("RetryStrategy")
    fake.profiler_config = request.get("ProfilerConfig")
    fake.profiler_rule_configurations = request.get("ProfilerRuleConfigurations")
    fake.profiling_status = "Disabled" if (fake.profiler_config or {"DisableProfiler": True}).get("DisableProfiler") else "Enabled"
    fake.debug_rule_evaluation_statuses = _rule_statuses(fake, request.get("DebugRuleConfigurations"))
    fake.profiler_rule_evaluation_statuses = _rule_statuses(fake, request.get("ProfilerRuleConfigurations"))


def _rule_statuses(fake: FakeTrainingJob, rules: list[dict] | None) -> list[dict] | None:
    """Configured rules are not evaluated yet, and say so; never NoIssuesFound."""
    prefix = f"arn:aws:sagemaker:{settings.region}:{settings.account}:processing-job/{fake.training_job_name.lower()[:26]}"
    return [
        {
            "RuleConfigurationName": rule["RuleConfigurationName"],
            "RuleEvaluationJobArn": f"{prefix}-{rule['RuleConfigurationName'].lower()[:20]}-{number:08x}",
            "RuleEvaluationStatus": "Stopped", "StatusDetails": RULES_NOT_EVALUATED, "LastModifiedTime": state.now(),
        }
        for number, rule in enumerate(rules or [])
    ] or None  # fmt: skip
