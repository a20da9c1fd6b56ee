"""Checkpoints, managed spot, literal paths, requirements: what a job is given besides its data, and what is taken away."""

import os

import pytest
from botocore.exceptions import ClientError
from training_jobs import archive

from opml.localaws import mounts

COUNT = """
import json, os, pathlib, sys, time
folder = pathlib.Path(json.load(open(os.environ["CHECKPOINT_CONFIG_FILE_PATH"]))["LocalPath"])
step = int((folder / "sub/step").read_text()) if (folder / "sub/step").exists() else 0
print("begins at", step, flush=True)
(folder / "sub").mkdir(exist_ok=True)
print("left behind", os.path.exists("trace"), flush=True)
open("trace", "w").close()
while step < int(sys.argv[sys.argv.index("--steps") + 1]):
    step += 1
    (folder / "sub/step").write_text(str(step))
    time.sleep(0.1)
"""


def kept(jobs, name):
    return {"CheckpointConfig": {"S3Uri": f"s3://{jobs.bucket}/checkpoints/{name}"}}


def step(jobs, name):
    return int(jobs.s3.get_object(Bucket=jobs.bucket, Key=f"checkpoints/{name}/sub/step")["Body"].read())


def begins(jobs, job):
    return [int(line.split()[-1]) for line in jobs.log(job["TrainingJobName"])["algo-1"] if line.startswith("begins")]


def test_checkpoints_are_downloaded_before_and_uploaded_at_the_end(jobs):
    jobs.run(COUNT, values={"steps": 2}, **kept(jobs, "resumed"))
    assert step(jobs, "resumed") == 2
    again = jobs.run(COUNT, values={"steps": 3}, **kept(jobs, "resumed"))
    assert begins(jobs, again) == [2] and step(jobs, "resumed") == 3


def test_checkpoints_reach_s3_while_the_job_runs(jobs):
    name = jobs.start(COUNT, values={"steps": 400}, **kept(jobs, "live"))
    jobs.wait(name, until=lambda _: jobs.s3.list_objects_v2(Bucket=jobs.bucket, Prefix="checkpoints/live/").get("Contents"))
    assert jobs.describe(name)["SecondaryStatus"] == "Training"
    jobs.sagemaker.stop_training_job(TrainingJobName=name)
    jobs.wait(name)


def test_a_local_path_outside_the_jobs_folders_is_refused(jobs):
    with pytest.raises(ClientError, match="below /opt/ml only: CheckpointConfig.LocalPath is /tmp/x"):
        jobs.start("pass", CheckpointConfig={"S3Uri": "s3://b/c", "LocalPath": "/tmp/x"})


def spot(seconds=60, wait=60, **environment):
    variables = {f"OPML_SPOT_{name.upper()}_SECONDS": text for name, text in environment.items()}
    limits = {"MaxRuntimeInSeconds": seconds, "MaxWaitTimeInSeconds": wait}
    return {"EnableManagedSpotTraining": True, "StoppingCondition": limits, "Environment": variables}


@pytest.fixture(scope="module")
def interrupted(jobs):
    return jobs.run(COUNT, values={"steps": 25}, **kept(jobs, "spot"), **spot(interrupt_after="1,0.5"))


def test_an_interrupted_job_starts_again_from_its_checkpoint(jobs, interrupted):
    first, second, third = begins(jobs, interrupted)
    assert first == 0 < second < third < 25 and step(jobs, "spot") == 25
    assert "left behind True" not in jobs.log(interrupted["TrainingJobName"])["algo-1"]  # a new instance, with a new disk


def test_interruptions_show_in_the_statuses_of_aws(interrupted):
    again = ["Interrupted", "Starting", "Downloading", "Training"]
    statuses = [entry["Status"] for entry in interrupted["SecondaryStatusTransitions"]]
    assert statuses == ["Starting", "Downloading", "Training", *again, *again, "Uploading", "Completed"]


def test_spot_bills_less_than_it_trains(interrupted):
    assert 0 < interrupted["BillableTimeInSeconds"] < interrupted["TrainingTimeInSeconds"]


def test_a_job_waits_no_longer_than_it_may(jobs):
    job = jobs.run("import time\ntime.sleep(60)", **spot(1, 2, interrupt_after="0.3", absent="60"))
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")
    assert [entry["Status"] for entry in job["SecondaryStatusTransitions"]][-3:] == ["Interrupted", "Stopping", "MaxWaitTimeExceeded"]


def test_spot_needs_a_waiting_time(jobs):
    with pytest.raises(ClientError, match="Invalid MaxWaitTimeInSeconds. It must be present"):
        jobs.start("pass", EnableManagedSpotTraining=True)


LITERAL = """
import os
open("/opt/ml/model/weights", "w").write("w")
print("others", sorted(set(os.listdir("/opt")) - {"ml"}))
"""


def test_a_literal_path_is_the_jobs_own_or_a_clear_refusal(jobs):
    job = jobs.run(LITERAL)
    if mounts.is_available():
        assert jobs.files(job["ModelArtifacts"]["S3ModelArtifacts"]) == {"weights": b"w"}
        assert f"others {sorted(set(os.listdir('/opt')) - {'ml'})}" in jobs.log(job["TrainingJobName"])["algo-1"]
    else:
        assert "train.py:3 names /opt/ml" in job["FailureReason"] and "SM_MODEL_DIR" in job["FailureReason"]


def test_requirements_that_cannot_be_installed_are_named_in_the_log(jobs):
    uri = jobs.put("code/needy/sourcedir.tar.gz", archive("print('ran')", **{"requirements.txt": "numpy\nno-such-thing==1.0  # ours\n"}))
    job = jobs.run("pass", values={"sagemaker_submit_directory": uri})
    lines = jobs.log(job["TrainingJobName"])["algo-1"]
    assert "ran" in lines
    assert lines[0].endswith("cannot be installed offline; not in this Python environment: no-such-thing==1.0")


REMOVE = "import os, shutil\nshutil.rmtree(os.path.dirname(os.environ['SM_MODEL_DIR']))"


def test_a_working_folder_that_is_removed_fails_the_job_with_a_reason(jobs):
    assert "working folder of algo-1 was removed" in jobs.run(REMOVE)["FailureReason"]
