"""The AWS command line in an environment of its own, with nothing but ``eval "$(python -m opml local env)"``.

Runs where there is one: OPML_AWSCLI names it, or it is on the path. Written for version 1 (``pip install awscli``) and 2.
"""

import json
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "corpus"))
import stranger  # noqa: E402
from training_jobs import archive  # noqa: E402

HANDLER = "def handler(event, context):\n    print('hello')\n    return {'got': event}\n"
INFERENCE = "def model_fn(d):\n    return 1\n\n\ndef input_fn(b, t):\n    return b\n\n\ndef predict_fn(d, m):\n    return [len(d)]\n"
TRAIN = "import os\nprint('loss=0.5;')\nopen(os.environ['SM_MODEL_DIR'] + '/model.pth', 'w').write('x')\n"
TRUST = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/pytorch"
JOB = {
    "AlgorithmSpecification": {"TrainingImage": f"{IMAGE}-training:2.0.0-cpu-py310", "TrainingInputMode": "File"},
    "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 5},
    "StoppingCondition": {"MaxRuntimeInSeconds": 600},
}
TARGET = {"TargetValue": 20.0, "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}}


@pytest.fixture(scope="module")
def person(tmp_path_factory, tiny_sample):
    if stranger.aws_command() is None:
        pytest.skip("no AWS command line: set OPML_AWSCLI to one, or put it on the path")
    someone = stranger.Stranger(tmp_path_factory.mktemp("cli"), tiny_sample)
    someone.environment.pop("PYTHONPATH")
    home = Path(someone.environment["HOME"])
    (home / "train.tar.gz").write_bytes(archive(TRAIN))
    (home / "model.tar.gz").write_bytes(archive("", **{"code/inference.py": INFERENCE}))
    (home / "f.py").write_text(HANDLER)
    (home / "trust.json").write_text(json.dumps({"Version": "2012-10-17", "Statement": [TRUST]}))
    (home / "target.json").write_text(json.dumps(TARGET))
    with someone:
        yield someone


@pytest.fixture
def aws(person):
    """Runs ``aws`` lines; what the last one printed, parsed if it is JSON."""

    def run(*lines: str):
        done = person.shell("cd ~ && " + " && ".join(lines), AWS_PAGER="", AWS_CLI_BINARY_FORMAT="raw-in-base64-out")
        assert done.returncode == 0, done.stdout + done.stderr
        try:
            return json.loads(done.stdout)
        except ValueError:
            return done.stdout

    return run


def test_it_knows_who_it_is(aws):
    assert aws("aws sts get-caller-identity")["Account"] == "123456789012"


def test_files_are_synchronised_listed_and_removed(aws):
    aws("aws s3 mb s3://cli-bucket", "mkdir -p d/a", "echo 1 > d/a/1", "echo 2 > d/a/2", "aws s3 sync d s3://cli-bucket/d")
    assert "upload: d/a/3 to" in aws("echo 3 > d/a/3", "rm d/a/1", "aws s3 sync d s3://cli-bucket/d --delete --no-progress")
    assert aws("aws s3 ls s3://cli-bucket/ --recursive | awk '{print $4}'").split() == ["d/a/2", "d/a/3"]
    assert aws('curl -sf "$(aws s3 presign s3://cli-bucket/d/a/2)"') == 2
    assert "remove_bucket" in aws("aws s3 rb s3://cli-bucket --force")


def test_a_training_job_is_created_waited_for_and_read(aws, person):
    request = {**JOB, "TrainingJobName": "by-cli", "HyperParameters": {"sagemaker_program": "train.py"}}
    (Path(person.environment["HOME"]) / "job.json").write_text(json.dumps(request))
    source = "sagemaker_submit_directory=s3://$OPML_BUCKET/cli/train.tar.gz,sagemaker_program=train.py"
    aws(
        "aws s3 cp train.tar.gz s3://$OPML_BUCKET/cli/train.tar.gz",
        "aws sagemaker create-training-job --cli-input-json file://job.json --role-arn $OPML_ROLE_ARN"
        f" --hyper-parameters {source} --output-data-config S3OutputPath=s3://$OPML_BUCKET/cli",
        "aws sagemaker wait training-job-completed-or-stopped --training-job-name by-cli",
    )
    assert aws("aws sagemaker list-training-jobs --query 'TrainingJobSummaries[].TrainingJobStatus'") == ["Completed"]
    stream = "$(aws logs describe-log-streams --log-group-name $G --query 'logStreams[0].logStreamName' --output text)"
    lines = aws("G=/aws/sagemaker/TrainingJobs", f"aws logs get-log-events --log-group-name $G --log-stream-name {stream}")["events"]
    assert lines[-1]["message"] == "loss=0.5;"
    found = aws("aws logs filter-log-events --log-group-name /aws/sagemaker/TrainingJobs --filter-pattern loss")["events"]
    assert [event["message"] for event in found] == ["loss=0.5;"]


def test_an_endpoint_is_created_waited_for_asked_and_scaled(aws):
    container = f"Image={IMAGE}-inference:2.0.0-cpu-py310,ModelDataUrl=s3://$OPML_BUCKET/cli/model.tar.gz"
    variant = "VariantName=AllTraffic,ModelName=m,InitialInstanceCount=1,InstanceType=ml.m5.large"
    aws(
        "aws s3 cp model.tar.gz s3://$OPML_BUCKET/cli/model.tar.gz",
        f"aws sagemaker create-model --model-name m --execution-role-arn $OPML_ROLE_ARN --primary-container {container}",
        f"aws sagemaker create-endpoint-config --endpoint-config-name c --production-variants {variant}",
        "aws sagemaker create-endpoint --endpoint-name e --endpoint-config-name c",
        "aws sagemaker wait endpoint-in-service --endpoint-name e",
    )
    ask = "aws sagemaker-runtime invoke-endpoint --endpoint-name e --content-type image/jpeg --body fileb://train.tar.gz o.json > /dev/null"
    assert aws(ask, "cat o.json") == [len(archive(TRAIN))]
    about = "--service-namespace sagemaker --resource-id endpoint/e/variant/AllTraffic"
    dimension = f"{about} --scalable-dimension sagemaker:variant:DesiredInstanceCount"
    aws(f"aws application-autoscaling register-scalable-target {dimension} --min-capacity 1 --max-capacity 3")
    policy = "--policy-name p --policy-type TargetTrackingScaling --target-tracking-scaling-policy-configuration file://target.json"
    aws(f"aws application-autoscaling put-scaling-policy {dimension} {policy}")
    assert len(aws(f"aws application-autoscaling describe-scaling-policies {dimension}")["ScalingPolicies"]) == 1
    metric = "--namespace AWS/SageMaker --metric-name Invocations --dimensions Name=EndpointName,Value=e Name=VariantName,Value=AllTraffic"
    times = "--start-time $(date -u -d '-1 hour' +%FT%TZ) --end-time $(date -u -d '+1 hour' +%FT%TZ) --period 86400 --statistics Sum"
    assert sum(point["Sum"] for point in aws(f"aws cloudwatch get-metric-statistics {metric} {times}")["Datapoints"]) == 1
    aws("aws sagemaker delete-endpoint --endpoint-name e", "aws sagemaker wait endpoint-deleted --endpoint-name e")


def test_a_function_is_created_called_and_updated(aws):
    aws(f'"{sys.executable}" -m zipfile -c f.zip f.py', "aws iam create-role --role-name f --assume-role-policy-document file://trust.json")
    role = "$(aws iam get-role --role-name f --query Role.Arn --output text)"
    aws(
        f"aws lambda create-function --function-name f --runtime python3.12 --role {role} --handler f.handler --zip-file fileb://f.zip",
        "aws lambda wait function-active-v2 --function-name f",
    )
    assert aws("aws lambda invoke --function-name f --payload '{\"a\": 1}' r.json > /dev/null", "cat r.json") == {"got": {"a": 1}}
    changed = "aws lambda update-function-configuration --function-name f --timeout 10 > /dev/null"
    assert aws(changed, "aws lambda wait function-updated --function-name f", "aws lambda get-function --function-name f --query Code")
    simulate = "aws iam simulate-principal-policy --action-names s3:GetObject --query 'EvaluationResults[].EvalDecision'"
    assert aws(f"{simulate} --policy-source-arn {role}") == ["implicitDeny"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sagemaker describe-training-job --training-job-name none", "(ValidationException)"),
        ("sagemaker-runtime invoke-endpoint --endpoint-name none --body x o.json", "Endpoint none of account 123456789012 not found."),
        ("lambda invoke --function-name none o.json", "(ResourceNotFoundException)"),
        ("iam get-role --role-name none", "(NoSuchEntity)"),
        ("s3 ls s3://no-such-bucket-here", "(NoSuchBucket)"),
        ("logs get-log-events --log-group-name none --log-stream-name x", "(ResourceNotFoundException)"),
        ("sagemaker list-workforces", "(NotImplementedException)"),
    ],
)
def test_an_error_is_awss_and_comes_at_once(person, line, words):
    began = time.monotonic()
    done = person.shell(f"aws {line}", AWS_CLI_BINARY_FORMAT="raw-in-base64-out")
    assert done.returncode != 0 and words in done.stderr
    assert time.monotonic() - began < 15  # a repeated request would wait, also on a busy machine
