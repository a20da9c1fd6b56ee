"""opml.aws on the local AWS, and the SageMaker SDK, unmodified, on top of it."""

import pytest

SCRIPT = "import os\nprint('loss=0.5;')\nopen(os.environ['SM_MODEL_DIR'] + '/model', 'w').write('x')"


@pytest.fixture(scope="module")
def estimator(aws, tmp_path_factory):
    from sagemaker.pytorch import PyTorch

    folder = tmp_path_factory.mktemp("source")
    (folder / "train.py").write_text(SCRIPT)
    return PyTorch(
        entry_point="train.py", source_dir=str(folder), image_uri="image:1", instance_type="ml.m5.large", instance_count=1,
        role=aws.role_arn, sagemaker_session=aws.sagemaker_session, output_path=aws.uri("jobs"), code_location=aws.uri("code"),
        base_job_name=aws.name("train"), tags=aws.tags,
        metric_definitions=[{"Name": "loss", "Regex": "loss=([0-9.]+);"}],
    )  # fmt: skip


def test_the_sdk_trains_and_reads_log_and_metrics(estimator, aws, capsys):
    estimator.fit()
    assert estimator.model_data.startswith(aws.uri("jobs", aws.name("train")))
    assert "loss=0.5;" in capsys.readouterr().out
    assert list(estimator.training_job_analytics.dataframe()["value"]) == [0.5]


def test_the_sdk_attaches_to_a_job_by_name(estimator, aws):
    from sagemaker.pytorch import PyTorch

    again = PyTorch.attach(estimator.latest_training_job.name, sagemaker_session=aws.sagemaker_session)
    assert again.model_data == estimator.model_data


def test_the_sdk_raises_with_the_scripts_reason(estimator, tmp_path):
    from sagemaker.exceptions import UnexpectedStatusException

    (tmp_path / "train.py").write_text("raise ValueError('no such breed')")
    estimator.source_dir = str(tmp_path)
    with pytest.raises(UnexpectedStatusException, match="no such breed"):
        estimator.fit(logs=False)


def test_the_sdk_finds_role_and_account_without_the_network(aws):
    import sagemaker

    assert sagemaker.Session().account_id() == aws.account
    assert aws.sagemaker_session.default_bucket() == aws.bucket


def test_nothing_is_reported_to_anybody(aws):
    from sagemaker.config import load_sagemaker_config

    assert load_sagemaker_config()["SageMaker"]["PythonSDK"]["Modules"]["TelemetryOptOut"] is True


def test_clients_are_made_once_and_s3_signs_with_version_4(aws):
    assert aws.client("s3") is aws.client("s3") and aws.client("s3").meta.config.signature_version == "s3v4"
    url = aws.client("s3").generate_presigned_url("get_object", Params={"Bucket": aws.bucket, "Key": "k"})
    assert url.startswith(aws.client("s3").meta.endpoint_url) and "X-Amz-Signature=" in url


def test_connecting_twice_finds_the_same_server(aws, local_aws):
    from opml import aws as gate

    assert gate.connect("local", run_id="other").client("sts").meta.endpoint_url == local_aws.endpoint_url
