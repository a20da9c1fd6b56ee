"""The control rooms against the local AWS, in the order of the notebooks: what one makes, the next ones find."""

import json
import os
from unittest import mock

import pytest

from opml import ec2, estimators, functions, resources, rules, scaling, security
from opml.aws import connect
from opml.core.config import TrainConfig
from opml.core.sample import make_sample

SAMPLE = {"classes": 2, "train": 4, "valid": 2, "test": 2, "image_size": 32}
CONFIG = TrainConfig(weights="none", image_size=32, epochs=2, batch_size=4)


@pytest.fixture(scope="module")
def aws(local_aws):
    """Connected as a notebook is; the SDK's faster clock stays for the other tests, the environment does not."""
    with mock.patch.dict(os.environ, local_aws.env()):
        yield connect("local", run_id="rooms")


@pytest.fixture(scope="module")
def endpoint(aws):
    """Data, one training job and its model in service: nothing of it existed."""
    return estimators.ensure_endpoint(aws, CONFIG, **SAMPLE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_sample(tmp_path_factory.mktemp("rooms") / "sample", **SAMPLE)


@pytest.fixture(scope="module")
def image(folder):
    return next((folder / "test").rglob("*.jpg"))


def test_what_is_missing_is_made_and_then_found(aws, endpoint, capsys):
    assert endpoint == "opml-rooms-endpoint" == estimators.find_endpoint(aws)
    assert estimators.ensure_endpoint(aws, CONFIG) == endpoint
    assert "using it" in capsys.readouterr().out


def test_the_training_job_is_found_with_its_log_and_its_history(aws, endpoint):
    job_name = estimators.find_training_job(aws, "train")
    history = estimators.metric_history(aws, job_name)
    assert any("model saved" in line for line in estimators.job_log(aws, job_name))
    assert history[history["metric"] == "validation:loss"]["epoch"].tolist() == [1, 2]
    assert estimators.wait_for_job(aws, job_name)["TrainingJobStatus"] == "Completed"


def test_the_predictor_names_the_breed_of_an_image(aws, endpoint, image):
    answer = estimators.predictor(aws, endpoint).predict(image.read_bytes())
    assert {p["breed"] for p in answer["predictions"][0]} == {"Affenpinscher", "Afghan_hound"}
    assert sum(p["probability"] for p in answer["predictions"][0]) == pytest.approx(1, abs=1e-4)


def test_the_function_answers_a_link_with_its_role_that_may_only_do_that(aws, endpoint, image):
    name = functions.ensure_function(aws, endpoint)
    aws.client("s3").upload_file(str(image), aws.bucket, "opml/rooms/photos/dog.jpg")
    event = functions.event(functions.presigned_url(aws, aws.uri("photos", "dog.jpg")))
    said = functions.answer(aws.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event)))
    assert said["statusCode"] == 200 and len(json.loads(said["body"])[0]) == 2


def test_the_variant_can_be_scaled_by_the_requests(aws, endpoint):
    client = aws.client("application-autoscaling")
    client.register_scalable_target(**scaling.scalable_target_request(endpoint, tags=aws.tags))
    client.put_scaling_policy(**scaling.target_tracking_request(endpoint, scaling.target_value(20)))
    (target,) = client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 3)


def test_the_review_of_the_account_finds_the_planted_sins(aws, endpoint):
    security.plant_sins(aws)
    facts = security.collect(aws)
    assert facts.unknown == ()
    subjects = set(security.review(facts)["subject"])
    assert {"role opml-rooms-sin-full-access", "role opml-rooms-sin-never-used", "policy opml-rooms-sin-orphan"} <= subjects


def test_a_job_on_two_instances_with_rules_configured_completes(aws):
    options = {"rules": rules.course_rules(), "debugger_hook_config": rules.hook_config(aws), "profiler_config": rules.profiler_config()}
    estimator = estimators.pytorch_estimator(aws, CONFIG, "two", instance_count=2, **options)
    estimator.fit({estimators.CHANNEL: estimators.ensure_data(aws, **SAMPLE)}, logs=None)
    job_name = estimators.find_training_job(aws, "two")
    assert any("equal on 2 processes" in line for line in estimators.job_log(aws, job_name))
    assert {rule.name for rule in options["rules"]} <= set(rules.rule_summary(aws, job_name)["rule"])


def test_a_tuning_job_tries_settings_of_the_search_space(aws):
    estimator = estimators.pytorch_estimator(aws, CONFIG.replace(epochs=1), "tune")
    ranges = estimators.search_space()
    tuner = estimators.hyperparameter_tuner(aws, estimator, ranges, max_jobs=1)
    tuner.fit({estimators.CHANNEL: estimators.ensure_data(aws, **SAMPLE)})
    tried = tuner.analytics().dataframe()
    assert len(tried) == 1 and tried["FinalObjectiveValue"].notna().all()
    assert tried["learning_rate"].between(1e-4, 1e-2).all()


def test_teardown_stops_a_job_that_is_running(aws):
    other = connect("local", run_id="stopped")
    estimator = estimators.pytorch_estimator(other, CONFIG.replace(epochs=500))
    estimator.fit({estimators.CHANNEL: estimators.ensure_data(other, **SAMPLE)}, wait=False)
    assert "training job in progress" in set(resources.inventory(other)["kind"])
    assert resources.teardown(other).empty
    job = other.client("sagemaker").describe_training_job(TrainingJobName=estimator.latest_training_job.name)
    assert job["TrainingJobStatus"] == "Stopped"


def test_the_ec2_door_runs_here_without_aws(folder):
    run = ec2.run_here(estimators.stage_source("ec2train.py"), CONFIG.replace(data=str(folder)), stream=False)
    assert {"test:accuracy", "validation:loss"} <= run.metrics.keys() and (run.model_dir / "model.pth").is_file()
    assert run.history["epoch"].max() == 2


def test_teardown_leaves_nothing_and_can_be_repeated(aws, endpoint):
    assert {"endpoint", "model", "S3 objects"} <= set(resources.inventory(aws)["kind"])
    assert resources.teardown(aws).empty
    assert resources.teardown(aws).empty
