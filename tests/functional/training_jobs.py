"""Training jobs for tests: a script's text, a few options, the description at the end."""

import io
import itertools
import json
import tarfile

from waiting import eventually

from opml.localaws.training import TERMINAL

METRIC = {"Name": "validation:loss", "Regex": "loss=([-0-9.e]+);"}


def archive(script: str, **others: str) -> bytes:
    """A ``sourcedir.tar.gz`` with ``train.py`` and other files."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for name, text in {"train.py": script, **others}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return target.getvalue()


class Jobs:
    """Creates jobs and waits for them, by polling their description."""

    def __init__(self, local):
        self.bucket, self.role_arn = local.bucket, local.role_arn
        self.sagemaker, self.s3, self.logs = (local.client(name) for name in ("sagemaker", "s3", "logs"))
        self._numbers = itertools.count(1)

    def put(self, key: str, body: bytes | str = b"x") -> str:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"s3://{self.bucket}/{key}"

    def name(self) -> str:
        return f"Job-{next(self._numbers)}"

    def request(self, script: str, *, count=1, channel=None, seconds=60, values=None, name=None, **options) -> dict:
        name = name or self.name()
        source = self.put(f"code/{name}/sourcedir.tar.gz", archive(script))
        values = {"sagemaker_program": "train.py", "sagemaker_submit_directory": source, **(values or {})}
        request = {
            "TrainingJobName": name, "RoleArn": self.role_arn, "HyperParameters": {key: json.dumps(value) for key, value in values.items()},
            "AlgorithmSpecification": {"TrainingImage": "image:1", "TrainingInputMode": "File", "MetricDefinitions": [METRIC]},
            "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/jobs/"},
            "ResourceConfig": {"InstanceCount": count, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
        }  # fmt: skip
        if channel is not None:
            request["InputDataConfig"] = [{"ChannelName": "training", "DataSource": {"S3DataSource": channel}}]
        return {**request, **options}

    def start(self, script: str, **options) -> str:
        request = self.request(script, **options)
        self.sagemaker.create_training_job(**request)
        return request["TrainingJobName"]

    def run(self, script: str, **options) -> dict:
        return self.wait(self.start(script, **options))

    def describe(self, name: str) -> dict:
        return self.sagemaker.describe_training_job(TrainingJobName=name)

    def wait(self, name: str, until=lambda job: job["TrainingJobStatus"] in TERMINAL) -> dict:
        found = eventually(lambda: job if until(job := self.describe(name)) else None, 60)
        assert found, self.describe(name)
        return found

    def log(self, name: str) -> dict[str, list[str]]:
        """Lines by instance."""
        group = {"logGroupName": "/aws/sagemaker/TrainingJobs"}
        streams = self.logs.describe_log_streams(**group, logStreamNamePrefix=f"{name}/")["logStreams"]
        names = [stream["logStreamName"] for stream in streams]
        events = {name: self.logs.get_log_events(**group, logStreamName=name, startFromHead=True)["events"] for name in names}
        return {name.split("/")[1].rsplit("-", 1)[0]: [event["message"] for event in found] for name, found in events.items()}

    def wait_for_line(self, name: str, line: str) -> None:
        self.wait(name, until=lambda job: job["SecondaryStatus"] == "Training")
        assert eventually(lambda: any(line in lines for lines in self.log(name).values())), self.log(name)

    def files(self, uri: str) -> dict[str, bytes]:
        """The files of an archive in S3."""
        body = self.s3.get_object(Bucket=self.bucket, Key=uri.split("/", 3)[3])["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
