"""The running server from outside: raw HTTP as a web page, another user or curl would send it."""

import http.client
import json
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError


@pytest.fixture
def send(local_aws):
    def request(method, path, body=b"", headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(local_aws.endpoint_url).port, timeout=10)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())

    return request


def jobs_of(jobs):
    return [entry["TrainingJobName"] for entry in jobs.sagemaker.list_training_jobs(MaxResults=100)["TrainingJobSummaries"]]


def test_an_unsigned_curl_that_would_create_a_training_job_gets_403_and_starts_nothing(send, jobs):
    before, body = jobs_of(jobs), jobs.request("print('must never run')", name="intruder")
    headers = {"X-Amz-Target": "SageMaker.CreateTrainingJob", "Content-Type": "application/x-amz-json-1.1"}
    for authorization in ({}, {"Authorization": "AWS4-HMAC-SHA256 Credential=AKIAX/20261121/us-east-1/sagemaker/aws4_request"}):
        status, answer, _ = send("POST", "/", json.dumps(body), {**headers, **authorization})
        assert status == 403 and "Exception" in json.loads(answer)["__type"]
    assert jobs_of(jobs) == before


@pytest.mark.parametrize("path", ["/moto-api/data.json", "/moto-api/reset", "/latest/meta-data/iam/", "/favicon.ico", "/b/k"])
def test_nothing_of_moto_is_reached_unsigned(send, path):
    assert [send(method, path)[0] for method in ("GET", "POST", "OPTIONS", "HEAD")] == [403] * 4


def test_a_page_of_another_site_learns_nothing(send):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    status, _, answered = send("OPTIONS", "/", headers=headers)
    assert status == 403 and not [name for name in answered if name.lower().startswith("access-control")]


def test_a_rebound_host_name_is_refused(send, local_aws):
    port = urlsplit(local_aws.endpoint_url).port
    assert send("GET", "/", headers={"Host": f"evil.example:{port}"})[0] == 403


def test_the_keys_of_a_user_work_until_they_are_made_inactive(local_aws):
    iam = local_aws.client("iam")
    iam.create_user(UserName="student")
    key = iam.create_access_key(UserName="student")["AccessKey"]
    client = as_key(local_aws, key["AccessKeyId"], key["SecretAccessKey"])
    assert client.get_caller_identity()["Arn"].endswith(":user/student")
    iam.update_access_key(UserName="student", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        client.get_caller_identity()


def as_key(local, access_key_id, secret, token=None, service="sts"):
    import boto3

    session = boto3.Session(access_key_id, secret, token, region_name=local.region)
    return session.client(service, endpoint_url=local.endpoint_url)


def test_a_role_session_needs_its_token(local_aws):
    session = local_aws.client("sts").assume_role(RoleArn=local_aws.role_arn, RoleSessionName="test")["Credentials"]
    keys = (session["AccessKeyId"], session["SecretAccessKey"])
    assert "assumed-role" in as_key(local_aws, *keys, session["SessionToken"]).get_caller_identity()["Arn"]
    for token in (None, "another"):
        with pytest.raises(ClientError, match="InvalidClientTokenId"):
            as_key(local_aws, *keys, token).get_caller_identity()


@pytest.mark.parametrize(
    ("service", "call", "code"),
    [
        ("sagemaker", lambda client: client.list_models(), "UnrecognizedClientException"),
        ("lambda", lambda client: client.list_functions(), "UnrecognizedClientException"),
        ("s3", lambda client: client.list_buckets(), "InvalidAccessKeyId"),
        ("ec2", lambda client: client.describe_vpcs(), "InvalidClientTokenId"),
        ("cloudwatch", lambda client: client.list_metrics(), "UnrecognizedClientException"),
    ],
)
def test_clients_can_read_the_refusal_of_every_kind_of_service(local_aws, service, call, code):
    with pytest.raises(ClientError) as caught:
        call(as_key(local_aws, "AKIANOBODY", "x", service=service))
    assert caught.value.response["Error"]["Code"] == code


def test_a_presigned_url_opens_its_object_and_no_other(send, jobs, aws):
    jobs.put("opml/photos/a dog ü.jpg", b"jpeg")
    url = aws.client("s3").generate_presigned_url("get_object", Params={"Bucket": aws.bucket, "Key": "opml/photos/a dog ü.jpg"})
    path = url.split("/", 3)[3]
    assert send("GET", f"/{path}")[:2] == (200, "jpeg")
    assert send("GET", f"/{path}".replace("photos", "secrets"))[0] == 403


def test_a_url_presigned_the_old_way_opens_its_object_and_no_other(send, jobs, aws, local_aws):
    jobs.put("photos/a dog ü.jpg", b"jpeg")
    client = as_key(local_aws, local_aws.access_key_id, local_aws.secret_access_key, service="s3")
    path = client.generate_presigned_url("get_object", Params={"Bucket": aws.bucket, "Key": "photos/a dog ü.jpg"}).split("/", 3)[3]
    assert "AWSAccessKeyId=" in path and send("GET", f"/{path}")[:2] == (200, "jpeg")
    assert send("GET", f"/{path}".replace("photos", "secrets"))[0] == send("DELETE", f"/{path}")[0] == 403


def test_objects_of_every_size_and_name_go_there_and_back(jobs, tmp_path):
    body = bytes(range(256)) * 40_000  # 10 MB: a multipart upload
    (tmp_path / "big").write_bytes(body)
    jobs.s3.upload_file(str(tmp_path / "big"), jobs.bucket, "big/ü +&=?#.bin")
    assert jobs.s3.get_object(Bucket=jobs.bucket, Key="big/ü +&=?#.bin")["Body"].read() == body


def test_an_operation_that_is_not_there_is_501_without_retries(local_aws):
    import boto3

    for service, call in (("sagemaker", "list_workforces"), ("iam", "get_organizations_access_report")):
        client = boto3.client(
            service, endpoint_url=local_aws.endpoint_url, region_name=local_aws.region,
            aws_access_key_id=local_aws.access_key_id, aws_secret_access_key=local_aws.secret_access_key,
        )  # fmt: skip
        with pytest.raises(ClientError) as caught:
            getattr(client, call)(**({"JobId": "x" * 36} if service == "iam" else {}))
        metadata = caught.value.response["ResponseMetadata"]
        assert (metadata["HTTPStatusCode"], metadata.get("RetryAttempts", 0)) == (501, 0)
        assert caught.value.response["Error"]["Code"] == "NotImplementedException"
