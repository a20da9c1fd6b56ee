"""The shapes of InvokeEndpoint's errors."""

import json

import pytest

from opml.localaws import runtime_api
from opml.localaws.instances import Reply


@pytest.mark.parametrize("status, party", [(400, "client"), (415, "client"), (500, "server"), (503, "server")])
def test_a_model_error_names_the_party_the_status_and_the_log(status, party):
    code, headers, body = runtime_api.model_error("dogs", Reply(status, {}, b"what it said"))
    said = json.loads(body)
    assert (code, headers["x-amzn-errortype"], headers["status"]) == (424, "ModelError", 424)
    assert said["Message"].startswith(f'Received {party} error ({status}) from primary with message "what it said". See https://us-east-1.')
    assert (said["OriginalStatusCode"], said["OriginalMessage"]) == (status, "what it said")
    assert said["LogStreamArn"] == "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/dogs"


def test_no_answer_in_time_is_a_model_error_with_status_0():
    said = json.loads(runtime_api.model_error("dogs", Reply(0, {}, b""))[2])
    assert said["OriginalStatusCode"] == 0
    assert said["Message"].startswith("Your invocation timed out while waiting for a response from container primary.")
