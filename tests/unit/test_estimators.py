import re
import time

import pytest

from opml import estimators, jobs, staging
from opml.core.config import TrainConfig
from opml.core.metrics import METRICS, VALID_LOSS
from opml.errors import BadInput, NotFound


@pytest.fixture
def doors(tmp_path, monkeypatch):
    """A repository with the real cargo, a door, and things that must not travel."""
    repository = tmp_path / "repository"
    core = repository / "opml" / "core"
    core.mkdir(parents=True)
    for name in ("hpo.py", "ec2train.py", "setup.py", "opml/__init__.py", "opml/aws.py", "opml/core/train.py", "opml/core/notes.ipynb"):
        (repository / name).write_text(f"# {name}\n")
    (core / "tests").mkdir()
    (core / "tests" / "test_train.py").write_text("")
    monkeypatch.setattr(staging, "REPOSITORY", repository)
    return repository


def staged(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def sample(folder, names=("train/001.A/1.jpg", "valid/001.A/2.jpg")):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def keys(aws):
    return sorted(item["Key"] for item in aws.client("s3").list_objects_v2(Bucket=aws.bucket).get("Contents", []))


def test_only_the_cargo_and_its_door_travel(doors, tmp_path):
    folder = estimators.stage_source("ec2train.py", tmp_path / "new")
    assert staged(folder) == ["ec2train.py", "opml/__init__.py", "opml/core/train.py"]


def test_a_folder_with_something_in_it_is_refused(doors):
    with pytest.raises(BadInput, match="not empty"):
        estimators.stage_source("hpo.py", doors)


def test_an_unknown_door_is_refused():
    with pytest.raises(BadInput, match=r"nothing\.py"):
        estimators.stage_source("nothing.py")


@pytest.mark.parametrize("purpose, tag", [("training", "2.12-{}-py312"), ("inference", "2.6.0-{}-py312")])
@pytest.mark.parametrize("accelerator", ["cpu", "gpu"])
def test_the_image_has_our_tag_in_the_regions_registry(aws, purpose, tag, accelerator):
    uri = estimators.image_uri(aws, purpose, accelerator)
    pattern = rf"\d{{12}}\.dkr\.ecr\.us-east-1\.amazonaws\.com/pytorch-{purpose}:{re.escape(tag.format(accelerator))}"
    assert re.fullmatch(pattern, uri)


def test_an_image_for_another_purpose_is_refused(aws):
    with pytest.raises(BadInput, match="cooking"):
        estimators.image_uri(aws, "cooking")


def test_the_estimator_carries_settings_metrics_and_tags(aws, doors):
    estimator = estimators.pytorch_estimator(aws, TrainConfig(epochs=2, batch_size=8))
    assert estimator.hyperparameters()["epochs"] == "2" and estimator.hyperparameters()["batch_size"] == "8"
    assert estimator.metric_definitions == [metric.definition() for metric in METRICS]
    assert [dict(tag) for tag in estimator.tags] == aws.tags
    assert estimator.output_path == "s3://opml-local/opml/t/jobs" and estimator.base_job_name == "opml-t-train"


def test_debugger_and_profiler_are_off_unless_asked(aws, doors):
    plain = estimators.pytorch_estimator(aws, TrainConfig())
    assert plain.debugger_hook_config is False and plain.disable_profiler is True


def test_rules_turn_debugger_and_profiler_on(aws, doors):
    from opml import rules

    watched = estimators.pytorch_estimator(aws, TrainConfig(), rules=rules.course_rules(), debugger_hook_config=rules.hook_config(aws))
    assert watched.debugger_hook_config.s3_output_path == aws.uri("debug") and watched.disable_profiler is False


def test_a_gpu_instance_gets_a_gpu_image(aws, doors):
    assert "-gpu-" in estimators.pytorch_estimator(aws, TrainConfig(), instance_type="ml.g4dn.xlarge").image_uri


def test_options_pass_through_to_the_sdk(aws, doors):
    assert estimators.pytorch_estimator(aws, TrainConfig(), max_run=60, use_spot_instances=True, max_wait=90).max_wait == 90


def test_checkpoints_and_spot_are_one_word_each(aws, doors):
    make = estimators.pytorch_estimator
    plain, kept, spot = (make(aws, TrainConfig(), **words) for words in ({}, {"checkpoints": True}, {"spot": True, "max_run": 60}))
    assert plain.checkpoint_s3_uri is None and not plain.use_spot_instances
    assert kept.checkpoint_s3_uri.startswith("s3://opml-local/opml/t/checkpoints/train-") and not kept.use_spot_instances
    assert spot.use_spot_instances and (spot.max_run, spot.max_wait) == (60, 120) and spot.checkpoint_s3_uri != kept.checkpoint_s3_uri
    assert make(aws, TrainConfig(), checkpoints=kept.checkpoint_s3_uri).checkpoint_s3_uri == kept.checkpoint_s3_uri


def test_a_tuner_refuses_jobs_that_would_share_their_checkpoints(aws, doors):
    estimator = estimators.pytorch_estimator(aws, TrainConfig(), checkpoints=True)
    with pytest.raises(BadInput, match="would share the checkpoints in s3://opml-local/opml/t/checkpoints/train-"):
        estimators.hyperparameter_tuner(aws, estimator, estimators.search_space())


def test_the_tuner_minimises_the_validation_loss_by_random_search(aws, doors):
    tuner = estimators.hyperparameter_tuner(aws, estimators.pytorch_estimator(aws, TrainConfig()), estimators.search_space())
    assert (tuner.objective_metric_name, tuner.objective_type, tuner.strategy) == (VALID_LOSS.name, "Minimize", "Random")
    assert set(tuner.hyperparameter_ranges()["ContinuousParameterRanges"][0]) >= {"Name", "MinValue", "MaxValue", "ScalingType"}


def test_two_tuners_of_the_same_minute_have_different_names_that_fit(aws, doors):
    bases = {estimators._tuning_base(aws) for _ in range(5)}
    assert len(bases) > 1 and all(len(base) <= 20 for base in bases)


def test_the_model_serves_the_same_cargo_in_the_inference_image(aws, doors):
    model = estimators.pytorch_model(aws, "s3://opml-local/opml/t/jobs/x/output/model.tar.gz")
    assert "pytorch-inference:2.6.0-cpu-py312" in model.image_uri
    assert model.entry_point == "hpo.py" and model.name.startswith("opml-t-model-")
    assert [dict(tag) for tag in model._tags] == aws.tags


def test_a_predictor_of_an_endpoint_that_does_not_exist_is_refused(aws):
    with pytest.raises(NotFound, match="no-such-endpoint"):
        estimators.predictor(aws, "no-such-endpoint")


def test_the_channel_equals_the_folder_also_after_a_file_has_gone(aws, tmp_path):
    folder = sample(tmp_path)
    assert estimators.upload_sample(aws, folder) == "s3://opml-local/opml/t/data"
    (folder / "valid/001.A/2.jpg").unlink()
    estimators.upload_sample(aws, folder)
    assert keys(aws) == ["opml/t/data.json", "opml/t/data/train/001.A/1.jpg"]


def test_a_folder_without_train_is_refused(aws, tmp_path):
    with pytest.raises(BadInput, match="train/"):
        estimators.upload_sample(aws, tmp_path)


def test_data_of_the_run_is_found_and_not_sent_again(aws, tmp_path, monkeypatch):
    folder = sample(tmp_path)
    first = estimators.ensure_data(aws, folder)
    monkeypatch.setattr(staging, "_upload", None)  # would raise if called
    assert estimators.ensure_data(aws, folder) == estimators.ensure_data(aws) == first


def test_another_folder_replaces_the_data_of_the_run(aws, tmp_path):
    estimators.ensure_data(aws, sample(tmp_path / "a"))
    estimators.ensure_data(aws, sample(tmp_path / "b", ["train/001.A/9.jpg"]))
    assert "opml/t/data/train/001.A/9.jpg" in keys(aws) and "opml/t/data/train/001.A/1.jpg" not in keys(aws)


def test_a_run_without_jobs_or_endpoint_finds_none(aws):
    assert estimators.find_training_job(aws, "train") is None and estimators.find_endpoint(aws) is None


def test_a_job_whose_model_was_torn_down_is_not_found(aws, monkeypatch):  # its record stays in SageMaker for good
    monkeypatch.setattr(
        jobs, "describe_job", lambda aws, name: {"ModelArtifacts": {"S3ModelArtifacts": aws.uri("jobs", name, "model.tar.gz")}}
    )
    assert not jobs._has_model(aws, "train-1")
    aws.client("s3").put_object(Bucket=aws.bucket, Key=aws.uri("jobs", "train-1", "model.tar.gz").partition(f"{aws.bucket}/")[2], Body=b"x")
    assert jobs._has_model(aws, "train-1")


def put_log(aws, stream, lines):
    logs = aws.client("logs")
    logs.create_log_stream(logGroupName=jobs.LOG_GROUP, logStreamName=stream)
    events = [{"timestamp": int(time.time() * 1000) + n, "message": line} for n, line in enumerate(lines)]
    logs.put_log_events(logGroupName=jobs.LOG_GROUP, logStreamName=stream, logEvents=events)


def test_the_history_reads_back_what_the_job_printed(aws):
    aws.client("logs").create_log_group(logGroupName=jobs.LOG_GROUP)
    put_log(aws, "job/algo-1-1", [f"epoch 1/2: {VALID_LOSS.line(0.5)}", "noise", f"epoch 2/2: {VALID_LOSS.line(0.25)}"])
    put_log(aws, "job2/algo-1-1", [VALID_LOSS.line(9)])
    history = estimators.metric_history(aws, "job")
    assert history.values.tolist() == [["validation:loss", 0.5, 1], ["validation:loss", 0.25, 2]]


def test_the_log_of_a_job_that_printed_nothing_is_empty(aws):
    assert estimators.job_log(aws, "nobody") == []


def test_the_model_of_an_unknown_job_is_not_found(aws):
    with pytest.raises(NotFound, match="nobody"):
        estimators.model_data_of(aws, "nobody")
