"""Single files and folders are sent to a place under the run's prefix."""

import pytest

from opml import estimators
from opml.errors import BadInput


def keys(aws):
    return [item["Key"] for item in aws.client("s3").list_objects_v2(Bucket=aws.bucket).get("Contents", [])]


def test_a_file_is_sent_under_its_name(aws, tmp_path):
    (tmp_path / "dog.jpg").write_bytes(b"x")
    assert estimators.upload(aws, tmp_path / "dog.jpg", "pictures") == aws.uri("pictures", "dog.jpg")
    assert keys(aws) == [aws.uri("pictures", "dog.jpg").partition(f"{aws.bucket}/")[2]]


def test_a_folder_is_sent_with_all_its_files(aws, tmp_path):
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "model.pth").write_bytes(b"x")
    (tmp_path / "model" / "code" / "hpo.py").write_bytes(b"y")
    uri = estimators.upload(aws, tmp_path / "model", "ec2", "model")
    assert [f"s3://{aws.bucket}/{key}" for key in keys(aws)] == [f"{uri}/code/hpo.py", f"{uri}/model.pth"]


def test_what_does_not_exist_is_named(aws, tmp_path):
    with pytest.raises(BadInput, match="no file or folder .*nothing.jpg"):
        estimators.upload(aws, tmp_path / "nothing.jpg", "pictures")
