"""CreateHyperParameterTuningJob: random search with real trials."""

import pytest
from botocore.exceptions import ClientError
from waiting import eventually

SCRIPT = """
import argparse, os
parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float)
parser.add_argument("--kind")
args = parser.parse_args()
open(os.environ["SM_MODEL_DIR"] + "/rate", "w").write(str(args.rate))
print(f"loss={args.rate};")
"""
RANGES = {
    "ContinuousParameterRanges": [{"Name": "rate", "MinValue": "0", "MaxValue": "1", "ScalingType": "Linear"}],
    "CategoricalParameterRanges": [{"Name": "kind", "Values": ['"a"', '"b"']}],
}


def create(jobs, name, script=SCRIPT, strategy="Random", count=3, **config):
    """Send the request that the SDK sends: HyperParameterTuningResourceConfig, not ResourceConfig."""
    request = jobs.request(script, name=name)
    resources = request["ResourceConfig"]
    definition = {key: request[key] for key in ("AlgorithmSpecification", "RoleArn", "OutputDataConfig", "StoppingCondition")}
    definition |= {"StaticHyperParameters": request["HyperParameters"], "HyperParameterTuningResourceConfig": resources}
    jobs.sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, TrainingJobDefinition=definition, Tags=[{"Key": "opml:run_id", "Value": "tests"}],
        HyperParameterTuningJobConfig={
            "Strategy": strategy, "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "validation:loss"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": count, "MaxParallelTrainingJobs": 2}, "ParameterRanges": RANGES, **config,
        },
    )  # fmt: skip


def describe(jobs, name):
    return jobs.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def trials(jobs, name, **options):
    answer = jobs.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(HyperParameterTuningJobName=name, **options)
    return answer["TrainingJobSummaries"]


def wait(jobs, name):
    def ended():
        found = describe(jobs, name)
        return None if found["HyperParameterTuningJobStatus"] in ("InProgress", "Stopping") else found

    found = eventually(ended, 60)
    assert found, describe(jobs, name)
    return found


@pytest.fixture(scope="module")
def tuned(jobs):
    create(jobs, "tuned")
    return wait(jobs, "tuned")


def test_every_trial_is_a_real_training_job(tuned, jobs):
    found = trials(jobs, "tuned")
    assert tuned["HyperParameterTuningJobStatus"] == "Completed" and tuned["TrainingJobStatusCounters"]["Completed"] == len(found) == 3
    for number, trial in enumerate(found, start=1):
        job = jobs.describe(trial["TrainingJobName"])
        assert trial["TrainingJobName"].startswith(f"tuned-00{number}-") and job["TuningJobArn"] == tuned["HyperParameterTuningJobArn"]
        assert jobs.files(job["ModelArtifacts"]["S3ModelArtifacts"])["rate"].decode() == trial["TunedHyperParameters"]["rate"]


def test_the_best_job_is_the_one_with_the_best_objective(tuned, jobs):
    ranked = trials(jobs, "tuned", SortBy="FinalObjectiveMetricValue", SortOrder="Ascending")
    values = [trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for trial in ranked]
    assert values == sorted(values) and len(set(values)) == 3
    assert tuned["BestTrainingJob"]["TrainingJobName"] == ranked[0]["TrainingJobName"]
    assert values[0] == pytest.approx(float(ranked[0]["TunedHyperParameters"]["rate"]))


def test_the_description_can_be_attached_to(tuned):
    definition = tuned["TrainingJobDefinition"]
    assert definition["StaticHyperParameters"]["_tuning_objective_metric"] == "validation:loss"
    assert definition["ResourceConfig"]["InstanceType"] == "ml.m5.large" and definition["OutputDataConfig"]["KmsKeyId"] == ""
    assert definition["HyperParameterTuningResourceConfig"]["InstanceCount"] == 1 and "FailureReason" not in tuned


def test_trials_carry_the_tags_of_their_tuning_job(tuned, jobs):
    for arn in (tuned["HyperParameterTuningJobArn"], tuned["BestTrainingJob"]["TrainingJobArn"]):
        assert jobs.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "opml:run_id", "Value": "tests"}]


def test_the_same_seed_tries_the_same_points(tuned, jobs):
    create(jobs, "again")
    wait(jobs, "again")
    assert [trial["TunedHyperParameters"] for trial in trials(jobs, "again")] == [
        trial["TunedHyperParameters"] for trial in trials(jobs, "tuned")
    ]


def test_a_second_tuning_job_of_that_name_is_refused(tuned, jobs):
    with pytest.raises(ClientError, match="tuned, already exists. Choose a different name") as caught:
        create(jobs, "tuned")
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"


def test_trials_that_all_fail_fail_the_tuning_job(jobs):
    create(jobs, "broken", script="raise SystemExit(2)", count=2)
    found = wait(jobs, "broken")
    assert found["HyperParameterTuningJobStatus"] == "Failed" and found["FailureReason"].startswith("All training jobs failed")
    assert found["TrainingJobStatusCounters"]["NonRetryableError"] == 2 and "BestTrainingJob" not in found


def test_stopping_stops_the_trials_and_starts_no_more(jobs):
    create(jobs, "long", script="import time\ntime.sleep(600)", count=9)
    jobs.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="long")
    assert wait(jobs, "long")["HyperParameterTuningJobStatus"] == "Stopped"
    found = trials(jobs, "long")
    assert len(found) <= 2 and {trial["TrainingJobStatus"] for trial in found} <= {"Stopped"}


def test_a_strategy_that_is_not_there_yet_is_refused(jobs):
    with pytest.raises(ClientError, match="strategy='Random'"):
        create(jobs, "clever", strategy="Bayesian")
