"""An ``Aws`` for unit tests: the same shape as ``opml.aws.Aws``, its clients inside moto's ``mock_aws`` (no socket)."""

import functools
from dataclasses import dataclass, field

import boto3


@dataclass(frozen=True)
class FakeAws:
    target: str = "local"
    region: str = "us-east-1"
    account: str = "123456789012"
    role_arn: str = "arn:aws:iam::123456789012:role/opml-local"
    bucket: str = "opml-local"
    run_id: str = "t"
    _clients: dict = field(default_factory=dict)

    def client(self, name, **options):
        if name not in self._clients or options:
            self._clients[name] = boto3.client(name, region_name=self.region, **options)
        return self._clients[name]

    @functools.cached_property
    def sagemaker_session(self):
        import sagemaker

        return sagemaker.Session(boto3.Session(region_name=self.region), default_bucket=self.bucket)

    def name(self, what):
        return f"opml-{self.run_id}-{what}".lower()[:63]

    def uri(self, *parts):
        return "/".join(["s3:/", self.bucket, "opml", self.run_id, *parts])

    @property
    def tags(self):
        return [{"Key": "opml:project", "Value": "opml"}, {"Key": "opml:run_id", "Value": self.run_id}]
