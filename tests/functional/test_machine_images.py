"""Deep Learning AMIs: the names that notebooks look up."""

import pytest

from opml import ec2


@pytest.mark.parametrize("image", [ec2.CPU_IMAGE, ec2.GPU_IMAGE])
def test_the_parameters_of_notebook_02_exist_and_name_an_image(served, image):
    found = served.client("ssm").get_parameter(Name=image.removeprefix("resolve:ssm:"))["Parameter"]["Value"]
    (described,) = served.client("ec2").describe_images(ImageIds=[found])["Images"]
    assert described["State"] == "available"


def test_images_are_found_by_name_and_the_old_name_finds_nothing(served):
    def names(pattern: str) -> list[str]:
        found = served.client("ec2").describe_images(Owners=["amazon"], Filters=[{"Name": "name", "Values": [pattern]}])["Images"]
        return [image["Name"] for image in sorted(found, key=lambda image: image["CreationDate"])]

    newest = names("Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.12 (Ubuntu 24.04) *")
    assert newest == ["Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.12 (Ubuntu 24.04) 20260827"]
    assert len(names("Deep Learning*OSS Nvidia Driver AMI GPU PyTorch*")) == 8
    assert names("Deep Learning AMI GPU PyTorch*") == []


def test_parameters_are_listed_by_path(served):
    path = "/aws/service/deeplearning/ami/x86_64/"
    pages = served.client("ssm").get_paginator("get_parameters_by_path").paginate(Path=path, Recursive=True)
    found = [parameter["Name"] for page in pages for parameter in page["Parameters"]]
    assert len(found) == 9 and all(name.endswith("/latest/ami-id") for name in found)
