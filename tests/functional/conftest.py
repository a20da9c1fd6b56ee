import pytest


@pytest.fixture(scope="session")
def serving_aws(tmp_path_factory):
    from serving_harness import ServingAws

    aws = ServingAws(tmp_path_factory.mktemp("aws"))
    yield aws
    aws.stop()
