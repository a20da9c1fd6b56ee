"""Our own hpo.py as a job of the local AWS that is interrupted, or stopped: it ends where the undisturbed job ends."""

import json
import re

import pytest
from training_jobs import Jobs
from waiting import eventually

from opml import estimators, jobs
from opml.core.config import TrainConfig

SETTINGS = TrainConfig(
    weights="none", freeze="backbone", precision="float32", image_size=32, epochs=250, batch_size=4, learning_rate=2e-3, schedule="constant"
)


@pytest.fixture(scope="module")
def channel(aws, tiny_sample):
    return estimators.upload_sample(aws, tiny_sample)


def job(aws, channel, what, wait=True, **options):
    """A job's description at its end."""
    estimator = estimators.pytorch_estimator(aws, SETTINGS, what, **options)
    estimator.fit({"training": channel}, logs=False, wait=wait)
    return estimator


def weights(aws, local_aws, estimator):
    """The fingerprint of the weights in a job's model.tar.gz, and the best epoch."""
    content = Jobs(local_aws).files(estimator.model_data)["model.json"]
    trained = json.loads(content)["trained"]
    return trained["weights_sha256"], trained["best_epoch"]


@pytest.fixture(scope="module")
def undisturbed(aws, local_aws, channel):
    return weights(aws, local_aws, job(aws, channel, "whole"))


def test_a_spot_job_that_is_interrupted_resumes_and_ends_with_the_same_weights(aws, local_aws, channel, undisturbed):
    estimator = job(aws, channel, "spot", spot=True, environment={"OPML_SPOT_INTERRUPT_AT_LINE": "epoch 20/250"})
    said = "\n".join(jobs.job_log(aws, estimator.latest_training_job.name))
    assert [entry["Status"] for entry in estimator.latest_training_job.describe()["SecondaryStatusTransitions"]].count("Interrupted") == 1
    assert re.search(r"stopped by SIGTERM after epoch \d+.*; checkpoint /.*checkpoints/checkpoint-", said), said[-2000:]
    assert re.search(r"resuming after epoch [1-9]\d*.* from /.*checkpoints/checkpoint-[ab].pt", said)
    assert weights(aws, local_aws, estimator) == undisturbed


def test_a_job_that_is_stopped_uploads_its_model_so_far_and_another_goes_on_from_it(aws, local_aws, channel, undisturbed):
    first = job(aws, channel, "stopped", wait=False, checkpoints=True)
    name = first.latest_training_job.name
    assert eventually(lambda: any("epoch 2/250" in line for line in jobs.job_log(aws, name)), 60)
    aws.client("sagemaker").stop_training_job(TrainingJobName=name)
    assert eventually(lambda: first.latest_training_job.describe()["TrainingJobStatus"] == "Stopped", 30)
    assert 1 <= weights(aws, local_aws, first)[1] < 250
    second = job(aws, channel, "goes-on", checkpoints=first.checkpoint_s3_uri)
    assert weights(aws, local_aws, second) == undisturbed
