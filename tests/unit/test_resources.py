import dataclasses

import pytest
from botocore.exceptions import ClientError

from opml import functions, resources, scaling, security
from opml.errors import OpmlError


@pytest.fixture
def managed_policies():
    return True


def endpoint(aws, name="opml-t-endpoint"):
    sagemaker = aws.client("sagemaker")
    role = "arn:aws:iam::123456789012:role/r"
    sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": "i"}, ExecutionRoleArn=role, Tags=aws.tags)
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 2}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], Tags=aws.tags)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=aws.tags)
    return name


@pytest.fixture
def run(aws, tmp_path, monkeypatch):
    """An account with one of everything that a run makes."""
    (tmp_path / "lambda_function.py").write_text("")
    monkeypatch.setattr(functions, "REPOSITORY", tmp_path)
    name = endpoint(aws)
    aws.client("application-autoscaling").register_scalable_target(**scaling.scalable_target_request(name))
    aws.client("application-autoscaling").put_scaling_policy(**scaling.target_tracking_request(name, 600))
    functions.ensure_function(aws, name)
    security.plant_sins(aws)
    aws.client("s3").put_object(Bucket=aws.bucket, Key="opml/t/data/1.jpg", Body=b"x" * 1000)
    return aws


KINDS = {"scalable target", "function", "endpoint", "endpoint config", "model", "log group", "IAM role", "IAM policy", "S3 objects"}


def test_the_inventory_lists_everything_and_what_it_bills(run):
    found = resources.inventory(run)
    assert list(found.columns) == ["kind", "name", "bills"] and set(found["kind"]) == KINDS
    bills = dict(zip(found["kind"], found["bills"], strict=True))
    assert bills["endpoint"].startswith("0.230 USD/hour") and bills["model"] == "no"


def test_teardown_leaves_nothing_and_can_be_repeated(run):
    assert resources.teardown(run).empty
    again = resources.teardown(run)
    assert again.empty and list(again.columns) == ["kind", "name", "bills"]


def test_keep_deletes_nothing(run):
    assert set(resources.teardown(run, keep=True)["kind"]) == KINDS


def test_another_run_whose_name_begins_the_same_is_left_alone(run):
    other = dataclasses.replace(run, run_id="t-2")
    name = endpoint(other, "opml-t-2-endpoint")
    other.client("application-autoscaling").register_scalable_target(**scaling.scalable_target_request(name))
    other.client("logs").create_log_group(logGroupName="/aws/lambda/opml-t-2-f", tags={"opml:run_id": "t-2"})
    other.client("s3").put_object(Bucket=other.bucket, Key="opml/t-2/data/1.jpg", Body=b"x")
    assert resources.teardown(run).empty
    assert set(resources.inventory(other)["kind"]) == KINDS - {"function", "IAM role", "IAM policy"}


def test_what_cannot_be_deleted_is_named_and_the_rest_is_deleted(run, monkeypatch):
    def refuse(**arguments):
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not you"}}, "DeleteModel")

    monkeypatch.setattr(run.client("sagemaker"), "delete_model", refuse)
    with pytest.raises(OpmlError, match="model opml-t-endpoint.*not you"):
        resources.teardown(run)
    assert set(resources.inventory(run)["kind"]) == {"model"}


def test_an_instance_of_the_run_is_terminated(aws):
    client = aws.client("ec2")
    image = client.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    tags = [{"ResourceType": "instance", "Tags": aws.tags}]
    client.run_instances(ImageId=image, InstanceType="m5.xlarge", MinCount=1, MaxCount=1, TagSpecifications=tags)
    assert resources.inventory(aws)["bills"][0].startswith("0.192 USD/hour")
    assert resources.teardown(aws).empty


def test_an_empty_account_has_an_empty_inventory(aws):
    assert resources.inventory(aws).empty
