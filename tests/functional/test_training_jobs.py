"""CreateTrainingJob, for real: processes, folders, logs, metrics, artefacts, failures."""

import json
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

WRITE = """
import json, os, pathlib, sys
env = os.environ
data = sorted(p.name for p in pathlib.Path(env.get("SM_CHANNEL_TRAINING", ".")).rglob("*.txt"))
print("data", json.dumps(data))
print("args", json.dumps(sys.argv[1:]))
print("progress 10%\\rprogress 100%\\rloss=0.5;")
print("loss=0.25;")
for name in ("HOME", "WISH", "TRAINING_JOB_NAME", "AWS_ENDPOINT_URL", "USER_SECRET", "SM_CURRENT_HOST"):
    print("env", name, env.get(name))
pathlib.Path(env["SM_MODEL_DIR"], f"model-{env['SM_CURRENT_HOST']}.pth").write_text("weights")
pathlib.Path(env["SM_OUTPUT_DATA_DIR"], "metrics.json").write_text("[]")
"""
PREFIX = {"S3DataType": "S3Prefix", "S3DataDistributionType": "FullyReplicated"}
SLEEP = "import time\nprint('asleep', flush=True)\ntime.sleep(600)"


@pytest.fixture(scope="module")
def data(jobs):
    for number in range(4):
        jobs.put(f"numbers/part/{number}.txt")
    return {**PREFIX, "S3Uri": f"s3://{jobs.bucket}/numbers"}


@pytest.fixture(scope="module")
def finished(jobs, data):
    tags = [{"Key": "opml:run_id", "Value": "tests"}]
    return jobs.run(WRITE, channel=data, values={"epochs": 2, "augment": True}, Environment={"WISH": "granted"}, Tags=tags)


def test_a_job_ends_completed_through_the_statuses_of_aws(finished):
    transitions = finished["SecondaryStatusTransitions"]
    assert [entry["Status"] for entry in transitions] == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all(entry["StatusMessage"] for entry in transitions) and "EndTime" not in transitions[-1]
    assert finished["TrainingTimeInSeconds"] >= 1 and finished["TrainingEndTime"] >= finished["TrainingStartTime"]


def test_the_script_gets_data_arguments_and_environment_and_nothing_of_the_users(finished, jobs, local_aws):
    lines = jobs.log(finished["TrainingJobName"])["algo-1"]
    assert 'data ["0.txt", "1.txt", "2.txt", "3.txt"]' in lines
    assert 'args ["--augment", "True", "--epochs", "2"]' in lines
    assert {"env WISH granted", "env USER_SECRET None", "env SM_CURRENT_HOST algo-1"} <= set(lines)
    assert {f"env TRAINING_JOB_NAME {finished['TrainingJobName']}", f"env AWS_ENDPOINT_URL {local_aws.endpoint_url}"} <= set(lines)


def test_progress_bars_are_split_into_lines(finished, jobs):
    assert {"progress 10%", "progress 100%"} <= set(jobs.log(finished["TrainingJobName"])["algo-1"])


def test_metrics_are_read_by_their_expressions(finished, local_aws):
    assert [(entry["MetricName"], entry["Value"]) for entry in finished["FinalMetricDataList"]] == [("validation:loss", 0.25)]
    about = {"Namespace": "/aws/sagemaker/TrainingJobs", "MetricName": "validation:loss", "Period": 3600, "Statistics": ["SampleCount"]}
    about["Dimensions"] = [{"Name": "TrainingJobName", "Value": finished["TrainingJobName"]}]
    around = {"StartTime": finished["CreationTime"].replace(minute=0), "EndTime": finished["TrainingEndTime"] + timedelta(hours=1)}
    points = local_aws.client("cloudwatch").get_metric_statistics(**about, **around)["Datapoints"]
    assert sum(point["SampleCount"] for point in points) == 2.0


def test_model_and_output_are_uploaded_as_archives(finished, jobs):
    uri = finished["ModelArtifacts"]["S3ModelArtifacts"]
    assert uri == f"s3://{jobs.bucket}/jobs/{finished['TrainingJobName']}/output/model.tar.gz"
    assert jobs.files(uri) == {"model-algo-1.pth": b"weights"}
    assert jobs.files(uri.replace("model.tar.gz", "output.tar.gz")) == {"metrics.json": b"[]"}


def test_tags_given_at_creation_are_read_back_and_replaced(finished, jobs):
    arn = finished["TrainingJobArn"]
    assert jobs.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "opml:run_id", "Value": "tests"}]
    jobs.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "opml:run_id", "Value": "again"}])
    assert jobs.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "opml:run_id", "Value": "again"}]


def test_the_description_can_be_attached_to(finished):
    assert finished["OutputDataConfig"]["KmsKeyId"] == ""
    assert finished["AlgorithmSpecification"]["MetricDefinitions"][0]["Name"] == "validation:loss"


def test_a_second_job_of_that_name_is_refused(finished, jobs):
    with pytest.raises(ClientError, match="must be unique") as caught:
        jobs.start(WRITE, name=finished["TrainingJobName"])
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"


REDUCE = """
import json, os
import psutil, torch, torch.distributed as dist
hosts, host = json.loads(os.environ["SM_HOSTS"]), os.environ["SM_CURRENT_HOST"]
dist.init_process_group("gloo", rank=hosts.index(host), world_size=len(hosts))
total = torch.tensor([hosts.index(host) + 1.0])
dist.all_reduce(total)
print("sum", total.item(), sorted(os.listdir(os.environ["SM_CHANNEL_TRAINING"] + "/part")))
print("listens", {entry.laddr.ip for entry in psutil.Process().net_connections() if entry.status == "LISTEN"})
open(os.path.join(os.environ["SM_MODEL_DIR"], host), "w").write(host)
"""


def test_two_instances_find_each_other_and_share_the_data_by_key(jobs, data):
    job = jobs.run(REDUCE, count=2, channel={**data, "S3DataDistributionType": "ShardedByS3Key"})
    log = jobs.log(job["TrainingJobName"])
    assert "sum 3.0 ['0.txt', '2.txt']" in log["algo-1"] and "sum 3.0 ['1.txt', '3.txt']" in log["algo-2"]
    assert set(jobs.files(job["ModelArtifacts"]["S3ModelArtifacts"])) == {"algo-1", "algo-2"}
    assert all("listens {'127.0.0.1'}" in lines for lines in log.values())  # the rendezvous too: nobody outside can speak to it


def test_an_exception_becomes_the_failure_reason(jobs):
    job = jobs.run("print('fine so far')\nraise ValueError('no such breed: 7')")
    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Failed"
    reason = job["FailureReason"]
    assert reason.startswith('AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "Traceback') and reason.endswith(
        "exit code: 1"
    )
    assert "ValueError: no such breed: 7" in reason and len(reason) <= 1024


def test_what_the_script_writes_to_the_failure_file_comes_first(jobs):
    job = jobs.run(
        "import os\nopen(os.environ['SM_OUTPUT_DIR'] + '/failure', 'w').write('the folder is empty' + '!' * 2000)\nraise SystemExit(3)"
    )
    assert job["FailureReason"].startswith("AlgorithmError: the folder is empty!!") and job["FailureReason"].endswith("!, exit code: 3")
    assert len(job["FailureReason"]) <= 1024


def test_a_killed_script_has_the_shells_exit_code(jobs):
    assert jobs.run("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")["FailureReason"].endswith("exit code: 137")


def test_one_failing_instance_ends_the_others(jobs):
    script = "import os, time\nif os.environ['SM_CURRENT_HOST'] == 'algo-2': raise SystemExit(9)\ntime.sleep(600)"
    assert jobs.run(script, count=2)["FailureReason"].endswith("exit code: 9")


def test_missing_data_fails_the_job_in_awss_words(jobs):
    job = jobs.run(WRITE, channel={**PREFIX, "S3Uri": f"s3://{jobs.bucket}/nowhere"})
    assert job["FailureReason"].startswith("ClientError: Data download failed:No S3 objects found under S3 URL")


def test_a_missing_output_bucket_fails_the_job(jobs):
    job = jobs.run(WRITE, OutputDataConfig={"S3OutputPath": "s3://not-a-bucket/x"})
    assert job["FailureReason"].startswith("ClientError: Artifact upload failed")


SAVE = """
import os, signal, sys
def save(*_):
    open(os.environ["SM_MODEL_DIR"] + "/saved", "w").write("x")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
"""


def test_stopping_gives_the_script_time_to_save_and_uploads_what_it_saved(jobs):
    name = jobs.start(SAVE + SLEEP)
    jobs.wait_for_line(name, "asleep")
    assert "ModelArtifacts" not in jobs.describe(name), "a job in progress has none; recorded on AWS, too"
    jobs.sagemaker.stop_training_job(TrainingJobName=name)
    job = jobs.wait(name)
    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Stopped" and "FailureReason" not in job
    assert jobs.files(job["ModelArtifacts"]["S3ModelArtifacts"]) == {"saved": b"x"}


def test_a_job_that_has_ended_cannot_be_stopped(finished, jobs):
    with pytest.raises(ClientError, match="status Completed"):
        jobs.sagemaker.stop_training_job(TrainingJobName=finished["TrainingJobName"])


def test_the_longest_run_time_is_kept(jobs):
    job = jobs.run(SLEEP, seconds=1)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_a_role_that_does_not_exist_is_refused(jobs):
    with pytest.raises(ClientError, match="Could not assume role") as caught:
        jobs.start(WRITE, RoleArn="arn:aws:iam::123456789012:role/nobody")
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_a_role_that_does_not_trust_sagemaker_is_refused(jobs, local_aws):
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]}  # fmt: skip
    role = local_aws.client("iam").create_role(RoleName="for-lambda", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    with pytest.raises(ClientError, match="sagemaker.amazonaws.com"):
        jobs.start(WRITE, RoleArn=role["Arn"])


def test_the_script_works_as_its_role(jobs, local_aws):
    script = "import boto3\nprint(boto3.client('sts').get_caller_identity()['Arn'])"
    job = jobs.run(script)
    role = local_aws.role_arn.rsplit("/", 1)[1]
    assert f"arn:aws:sts::123456789012:assumed-role/{role}/SageMaker" in jobs.log(job["TrainingJobName"])["algo-1"]


def test_jobs_are_filtered_sorted_and_paged(jobs, finished):
    names = [jobs.run("pass", name=f"Listed-{letter}")["TrainingJobName"] for letter in "bac"]
    wanted = {"NameContains": "listed", "StatusEquals": "Completed", "SortBy": "Name", "SortOrder": "Ascending"}
    listed = jobs.sagemaker.list_training_jobs(**wanted, MaxResults=2)
    assert [entry["TrainingJobName"] for entry in listed["TrainingJobSummaries"]] == ["Listed-a", "Listed-b"]
    rest = jobs.sagemaker.list_training_jobs(**wanted, NextToken=listed["NextToken"])
    assert [entry["TrainingJobName"] for entry in rest["TrainingJobSummaries"]] == ["Listed-c"]
    newest = jobs.sagemaker.list_training_jobs(NameContains="Listed", SortBy="CreationTime", SortOrder="Descending")
    assert [entry["TrainingJobName"] for entry in newest["TrainingJobSummaries"]] == names[::-1]


def test_the_log_can_be_followed_as_the_command_line_does(jobs):
    """``aws logs tail --follow`` (version 2) asks for all streams at once, again and again from the last event's time, and goes by ids."""
    name = jobs.start("print('first', flush=True)\n" + SLEEP)
    jobs.wait_for_line(name, "asleep")
    ask = {"logGroupName": "/aws/sagemaker/TrainingJobs", "logStreamNamePrefix": f"{name}/", "interleaved": True}
    seen = [event for page in jobs.logs.get_paginator("filter_log_events").paginate(**ask, startTime=0) for event in page["events"]]
    assert [event["message"] for event in seen][-2:] == ["first", "asleep"]
    again = jobs.logs.filter_log_events(**ask, startTime=seen[-1]["timestamp"])["events"]
    assert {event["eventId"] for event in again} <= {event["eventId"] for event in seen}
    jobs.sagemaker.stop_training_job(TrainingJobName=name)
    jobs.wait(name)


UNREACHED = """
print('Downloading: "https://download.pytorch.org/models/resnet50-0676ba61.pth" to /w/resnet50-0676ba61.pth')
raise __import__("urllib.error").error.URLError("Temporary failure in name resolution")
"""


def test_weights_that_cannot_be_had_are_named_in_the_reason_and_in_the_log(jobs):
    job = jobs.run(UNREACHED)
    wanted = "Save https://download.pytorch.org/models/resnet50-0676ba61.pth as /w/resnet50-0676ba61.pth, or set TORCH_HOME"
    assert wanted in job["FailureReason"] and job["FailureReason"].endswith("exit code: 1")
    assert wanted in jobs.log(job["TrainingJobName"])["algo-1"][-1]


def test_the_log_says_what_the_image_would_have_brought(jobs):
    image = {"TrainingImage": "123456789012.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:1.4.0-cpu-py36", "TrainingInputMode": "File"}
    job = jobs.run("import os\nprint(os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'])", AlgorithmSpecification=image)
    first, second = jobs.log(job["TrainingJobName"])["algo-1"]
    assert first.startswith("local AWS: the image has PyTorch 1.4 and Python 3.6; this runs with") and second == "1"
