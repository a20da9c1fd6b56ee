"""CreateHyperParameterTuningJob: every strategy, with real trials."""

import time

import pytest
from botocore.exceptions import ClientError
from training_jobs import METRIC

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


def create(jobs, name, script=SCRIPT, strategy="Random", count=3, parallel=2, warm_start=None, **config):
    """Send the request that the SDK sends: HyperParameterTuningResourceConfig, not ResourceConfig."""
    request = jobs.request(script, name=name)
    resources = request["ResourceConfig"]
    definition = {key: request[key] for key in ("AlgorithmSpecification", "RoleArn", "OutputDataConfig", "StoppingCondition")}
    definition |= {"StaticHyperParameters": request["HyperParameters"], "HyperParameterTuningResourceConfig": resources}
    jobs.sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, TrainingJobDefinition=definition, Tags=[{"Key": "opml:run_id", "Value": "tests"}],
        HyperParameterTuningJobConfig={
            "Strategy": strategy, "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "validation:loss"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": count, "MaxParallelTrainingJobs": parallel}, "ParameterRanges": RANGES, **config,
        }, **({"WarmStartConfig": warm_start} if warm_start else {}),
    )  # fmt: skip


def describe(jobs, name):
    return jobs.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def trials(jobs, name, **options):
    wanted = {"HyperParameterTuningJobName": name, "SortBy": "Name", **options}
    answer = jobs.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(**wanted)
    return answer["TrainingJobSummaries"]


def wait(jobs, name):
    deadline = time.monotonic() + 60
    while (found := describe(jobs, name))["HyperParameterTuningJobStatus"] in ("InProgress", "Stopping"):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
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


def test_trials_are_listed_in_whole_seconds_and_described_by_name(tuned, jobs):
    listed = trials(jobs, "tuned")
    moments = [entry[name] for entry in listed for name in ("CreationTime", "TrainingStartTime", "TrainingEndTime")]
    described = jobs.sagemaker.describe_training_job(TrainingJobName=listed[0]["TrainingJobName"])
    assert not any(moment.microsecond for moment in moments)
    assert list(described["HyperParameters"]) == sorted(described["HyperParameters"])


def test_the_newest_trial_is_listed_first_unless_asked_otherwise(tuned, jobs):
    answer = jobs.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(HyperParameterTuningJobName="tuned")
    assert answer["TrainingJobSummaries"] == trials(jobs, "tuned")[::-1]


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
    create(jobs, "broken", script="raise SystemExit('no dogs here')", count=2)
    found = wait(jobs, "broken")
    assert found["HyperParameterTuningJobStatus"] == "Failed" and found["FailureReason"].startswith("All training jobs failed")
    assert "no dogs here" in found["FailureReason"], "the reader need not look for the job that says why"
    assert found["TrainingJobStatusCounters"]["NonRetryableError"] == 2 and "BestTrainingJob" not in found


def test_trials_that_never_print_the_objective_are_told_from_those_that_fail(jobs):
    create(jobs, "mute", script="print('Loss: 1')", count=2)
    found = wait(jobs, "mute")
    assert found["HyperParameterTuningJobStatus"] == "Failed" and found["TrainingJobStatusCounters"]["Completed"] == 2
    assert found["FailureReason"].startswith("No objective metrics found after running 2 training jobs.")
    assert found["ObjectiveStatusCounters"] == {"Succeeded": 0, "Pending": 0, "Failed": 2}


def test_stopping_stops_the_trials_and_starts_no_more(jobs):
    create(jobs, "long", script="import time\ntime.sleep(600)", count=9)
    jobs.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="long")
    assert wait(jobs, "long")["HyperParameterTuningJobStatus"] == "Stopped"
    found = trials(jobs, "long")
    assert len(found) <= 2 and {trial["TrainingJobStatus"] for trial in found} <= {"Stopped"}


def points(jobs, name):
    return [trial["TunedHyperParameters"] for trial in trials(jobs, name)]


def test_a_bayesian_search_with_a_seed_tries_the_same_points_whatever_ends_first(jobs):
    late = SCRIPT + "import time, random\ntime.sleep(random.random() / 2)\n"
    for name, script in (("bayes-1", SCRIPT), ("bayes-2", late)):
        create(jobs, name, script, strategy="Bayesian", count=7, parallel=3, RandomSeed=5)
    assert {wait(jobs, name)["HyperParameterTuningJobStatus"] for name in ("bayes-1", "bayes-2")} == {"Completed"}
    assert points(jobs, "bayes-1") == points(jobs, "bayes-2") and len(points(jobs, "bayes-1")) == 7


def test_a_grid_is_walked_to_its_end(jobs):
    kinds = [{"Name": "kind", "Values": ['"a"', '"b"']}, {"Name": "rate", "Values": ['"0.5"', '"0.25"']}]
    create(jobs, "grid", strategy="Grid", count=4, ParameterRanges={"CategoricalParameterRanges": kinds})
    found = wait(jobs, "grid")
    assert found["TrainingJobStatusCounters"]["Completed"] == 4 and len({str(point) for point in points(jobs, "grid")}) == 4
    assert found["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 0.25


SLOWLY = """
import os, sys, time
number = int(os.environ["TRAINING_JOB_NAME"].split("-")[1])
for epoch in range(80 if number > 3 else 3):
    print(f"loss={number};", flush=True)
    time.sleep(0.2 if number > 3 else 0)
"""


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "Random", "TrainingJobEarlyStoppingType": "Auto"},
        {"strategy": "Hyperband", "StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 3}}},
    ],
)
def test_trials_that_are_worse_than_others_are_stopped_early(jobs, options):
    name = f"early{options['strategy']}"
    create(jobs, name, SLOWLY, count=5, parallel=1, **options)
    found = wait(jobs, name)
    last = trials(jobs, name)[-1]
    assert found["HyperParameterTuningJobStatus"] == "Completed" and found["TrainingJobStatusCounters"]["Stopped"] >= 1
    assert last["TrainingJobStatus"] == "Stopped" and last["ObjectiveStatus"] == "Succeeded"
    assert found["BestTrainingJob"]["TrainingJobName"].startswith(f"{name}-001-")


def test_one_failing_trial_does_not_end_the_tuning_job(jobs):
    failing = "import os\nif '-001-' in os.environ['TRAINING_JOB_NAME']: raise SystemExit(3)\n" + SCRIPT
    create(jobs, "one-fails", failing, strategy="Bayesian")
    found = wait(jobs, "one-fails")
    assert found["HyperParameterTuningJobStatus"] == "Completed"
    assert found["TrainingJobStatusCounters"] == {
        "Completed": 2, "InProgress": 0, "RetryableError": 0, "NonRetryableError": 1, "Stopped": 0
    }  # fmt: skip
    assert found["ObjectiveStatusCounters"] == {"Succeeded": 2, "Pending": 0, "Failed": 1}


def test_a_target_that_is_reached_completes_the_tuning_job(jobs):
    create(jobs, "target", count=50, TuningJobCompletionCriteria={"TargetObjectiveMetricValue": 2.0})
    found = wait(jobs, "target")
    assert found["HyperParameterTuningJobStatus"] == "Completed" and len(trials(jobs, "target")) <= 3


def test_a_warm_start_counts_the_parents_results(tuned, jobs):
    parents = {"ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "tuned"}], "WarmStartType": "IdenticalDataAndAlgorithm"}
    create(jobs, "warm", SCRIPT.replace("{args.rate}", "{1 + args.rate}"), strategy="Bayesian", count=1, warm_start=parents)
    found = wait(jobs, "warm")
    assert found["OverallBestTrainingJob"]["TrainingJobName"] == tuned["BestTrainingJob"]["TrainingJobName"]
    assert found["BestTrainingJob"]["TrainingJobName"].startswith("warm-001-")


def test_several_definitions_take_turns(jobs):
    request = jobs.request(SCRIPT, name="two-kinds")
    definition = {
        key: request[key] for key in ("AlgorithmSpecification", "RoleArn", "OutputDataConfig", "StoppingCondition", "ResourceConfig")
    }
    definition |= {"StaticHyperParameters": request["HyperParameters"], "HyperParameterRanges": RANGES}
    definition["TuningObjective"] = {"Type": "Maximize", "MetricName": "validation:loss"}
    jobs.sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="two-kinds", TrainingJobDefinitions=[{**definition, "DefinitionName": name} for name in ("one", "two")],
        HyperParameterTuningJobConfig={
            "Strategy": "Bayesian", "ResourceLimits": {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 2}
        },
    )  # fmt: skip
    assert wait(jobs, "two-kinds")["HyperParameterTuningJobStatus"] == "Completed"
    assert sorted(trial["TrainingJobDefinitionName"] for trial in trials(jobs, "two-kinds")) == ["one", "one", "two", "two"]


def test_tuning_jobs_are_filtered_and_sorted(tuned, jobs):
    create(jobs, "tuned-too", count=1)
    wait(jobs, "tuned-too")
    listed = jobs.sagemaker.list_hyper_parameter_tuning_jobs(NameContains="TUNED", SortBy="Name", SortOrder="Descending")
    names = [entry["HyperParameterTuningJobName"] for entry in listed["HyperParameterTuningJobSummaries"]]
    assert names == ["tuned-too", "tuned"]


def test_an_objective_that_no_expression_reads_is_refused(jobs):
    objective = {"Type": "Minimize", "MetricName": "no:such"}
    with pytest.raises(ClientError, match=r"\[no:such\], isn't valid"):
        create(jobs, "clueless", HyperParameterTuningJobObjective=objective)


def test_the_sdks_tuner_runs_unmodified_with_its_default_strategy(aws, jobs):
    from sagemaker.estimator import Estimator
    from sagemaker.tuner import ContinuousParameter, HyperparameterTuner

    values = {name: value.strip('"') for name, value in jobs.request(SCRIPT)["HyperParameters"].items()}
    key = f"opml/{aws.run_id}/code/sdk.tar.gz"  # our execution role reads there
    jobs.s3.copy_object(Bucket=jobs.bucket, Key=key, CopySource=values["sagemaker_submit_directory"].removeprefix("s3://"))
    values |= {"sagemaker_submit_directory": f"s3://{jobs.bucket}/{key}", "kind": "a"}
    estimator = Estimator(
        "image:1", aws.role_arn, 1, "ml.m5.large", sagemaker_session=aws.sagemaker_session, hyperparameters=values,
        output_path=aws.uri("models"),
    )  # fmt: skip
    tuner = HyperparameterTuner(
        estimator, "validation:loss", {"rate": ContinuousParameter(0.1, 1)}, [METRIC], objective_type="Minimize", max_jobs=3,
        max_parallel_jobs=2, base_tuning_job_name="opml-sdk",
    )  # fmt: skip
    tuner.fit(wait=False)
    again = HyperparameterTuner.attach(tuner.latest_tuning_job.name, sagemaker_session=aws.sagemaker_session)
    again.base_tuning_job_name = "opml-sdk"
    again.fit()  # within the same minute
    tuner.wait()
    frame = HyperparameterTuner.attach(tuner.latest_tuning_job.name, sagemaker_session=aws.sagemaker_session).analytics().dataframe()
    assert list(frame["TrainingJobStatus"]) == ["Completed"] * 3
    assert tuner.best_training_job() == frame.sort_values("FinalObjectiveValue")["TrainingJobName"].iloc[0]
