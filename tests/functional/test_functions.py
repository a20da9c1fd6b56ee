"""Lambda functions on the local AWS: real processes, real concurrency."""

import base64
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from botocore.exceptions import ClientError
from waiting import eventually

HANDLER = """
import json, logging, os, sys, time
logging.getLogger().setLevel("INFO")
VERSION = 1

def handler(event, context):
    action = event.get("action")
    if action == "print":
        print("said by the function")
        logging.getLogger().info("logged by the function")
    if action == "sleep":
        time.sleep(event["seconds"])
    if action == "raise":
        raise ValueError("bad breed")
    if action == "exit":
        os._exit(3)
    if action == "unserialisable":
        return {1, 2}
    if action == "big":
        return "x" * 7_000_000
    if action == "mark":
        with open(event["path"], "w") as file:
            file.write(context.aws_request_id)
    return {
        "pid": os.getpid(), "version": VERSION, "key": os.environ["AWS_ACCESS_KEY_ID"], "own": os.environ.get("OWN"),
        "left": context.get_remaining_time_in_millis(), "name": context.function_name, "arn": context.invoked_function_arn,
        "context": str(context), "request": context.aws_request_id, "path": [entry for entry in sys.path if "localaws" in entry],
    }
"""


def archive(source: str) -> bytes:
    """A deployment package with one module."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        package.writestr("app.py", source)
    return buffer.getvalue()


class Functions:
    """What a test needs to make and call a function in one line."""

    def __init__(self, aws):
        self.aws, self.client = aws, aws.client("lambda", max_pool_connections=20)

    def create(self, name: str, source: str = HANDLER, **settings) -> str:
        asked = {"Runtime": "python3.12", "Handler": "app.handler", "Timeout": 10, "MemorySize": 256, **settings}
        self.client.create_function(FunctionName=name, Role=self.aws.function_role_arn, Code={"ZipFile": archive(source)}, **asked)
        return name

    def invoke(self, name: str, event: dict | None = None, **options) -> dict:
        return self.client.invoke(FunctionName=name, Payload=json.dumps(event or {}), **options)

    def call(self, name: str, event: dict | None = None) -> dict:
        return json.loads(self.invoke(name, event)["Payload"].read())

    def error(self, name: str, event: dict | None = None) -> dict:
        answer = self.invoke(name, event)
        assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
        return json.loads(answer["Payload"].read())

    def log(self, name: str) -> list[str]:
        events = self.aws.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
        return [event["message"] for event in events]

    def tail(self, answer: dict) -> list[str]:
        """The lines of LogType=Tail."""
        return base64.b64decode(answer["LogResult"]).decode().splitlines()

    def refused(self, operation: str, **arguments) -> dict:
        with pytest.raises(ClientError) as caught:
            getattr(self.client, operation)(**arguments)
        return caught.value.response


@pytest.fixture(scope="module")
def functions(served):
    made = Functions(served)
    made.create("plain", Environment={"Variables": {"OWN": "value"}})
    yield made
    for found in made.client.list_functions()["Functions"]:
        made.client.delete_function(FunctionName=found["FunctionName"])


def test_a_function_runs_with_its_role_its_environment_and_a_context(functions):
    answer = functions.call("plain")
    assert answer["key"].startswith("ASIA")
    assert (answer["own"], answer["name"]) == ("value", "plain")
    assert answer["arn"].endswith(":function:plain")
    assert 8000 < answer["left"] <= 10_000
    assert answer["path"] == [], "modules of the local AWS could shadow the function's own"


def test_a_printed_context_reads_as_on_aws(functions):
    answer = functions.call("plain")
    begun = f"LambdaContext([aws_request_id={answer['request']},log_group_name=/aws/lambda/plain,log_stream_name="
    ended = (
        f",function_name=plain,memory_limit_in_mb=256,function_version=$LATEST,invoked_function_arn={answer['arn']},client_context=None,"
        "identity=CognitoIdentity([cognito_identity_id=None,cognito_identity_pool_id=None])])"
    )
    assert answer["context"].startswith(begun) and answer["context"].endswith(ended), answer["context"]


def test_an_environment_is_kept_warm(functions):
    first, second = functions.call("plain"), functions.call("plain")
    assert first["pid"] == second["pid"]
    assert first["request"] != second["request"]


def test_the_log_has_start_output_end_and_report(functions):
    functions.create("logged")
    functions.call("logged", {"action": "print"})
    functions.call("logged")
    log = functions.log("logged")
    assert [line.split(" ")[0] for line in log[:3]] == ["INIT_START", "START", "said"]
    assert log[3].startswith("[INFO]\t") and log[3].endswith("\tlogged by the function")
    assert log[4].startswith("END RequestId: ")
    assert "Init Duration: " in log[5] and "Memory Size: 256 MB" in log[5] and "Billed Duration: " in log[5]
    assert log[-1].startswith("REPORT ") and "Init Duration" not in log[-1]


def test_the_tail_of_the_log_comes_with_the_answer(functions):
    answer = functions.invoke("plain", {"action": "print"}, LogType="Tail")
    tail = base64.b64decode(answer["LogResult"]).decode()
    assert tail.startswith("START RequestId: ") and "said by the function" in tail and "REPORT RequestId: " in tail
    assert answer["ExecutedVersion"] == "$LATEST"


def test_an_exception_has_awss_shape_and_shows_no_path_of_the_machine(functions):
    error = functions.error("plain", {"action": "raise"})
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "bad breed")
    assert len(error["stackTrace"]) == 1 and error["stackTrace"][0].startswith('  File "/var/task/app.py", line ')
    assert any(line == "[ERROR] ValueError: bad breed" for line in functions.log("plain"))


def test_a_timeout_ends_the_environment(functions):
    functions.create("slow", Timeout=1)
    before = functions.call("slow")["pid"]
    error = functions.error("slow", {"action": "sleep", "seconds": 30})
    assert error["errorMessage"].endswith(" Task timed out after 1.00 seconds")
    assert functions.call("slow")["pid"] != before


def test_an_exit_is_a_runtime_error_and_the_next_call_starts_anew(functions):
    error = functions.error("plain", {"action": "exit"})
    assert error["errorType"] == "Runtime.ExitError"
    assert error["errorMessage"].endswith("Error: Runtime exited with error: exit status 3")
    assert functions.call("plain")["version"] == 1


@pytest.mark.parametrize(
    "source, handler, kind, text",
    [
        ("import nothing_of_this_name", "app.handler", "Runtime.ImportModuleError", "Unable to import module 'app': No module named"),
        ("def handler(:", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
        ("x = 1", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("x = 1", "handler", "Runtime.MalformedHandlerName", "Bad handler 'handler'"),
        ("1 / 0", "app.handler", "ZeroDivisionError", "division by zero"),
        ("import os; os._exit(1)", "app.handler", "Runtime.ExitError", "Runtime exited with error: exit status 1"),
    ],
    ids=["import", "syntax", "no handler", "no dot", "exception", "exit"],
)
def test_an_init_that_fails_has_awss_shape(functions, source, handler, kind, text):
    name = functions.create(f"init-{kind.split('.')[-1]}", source, Handler=handler)
    error = functions.error(name)
    assert error["errorType"] == kind
    assert text in error["errorMessage"]


def test_an_answer_that_is_no_json_or_too_large_is_an_error(functions):
    assert functions.error("plain", {"action": "unserialisable"})["errorType"] == "Runtime.MarshalError"
    assert functions.error("plain", {"action": "big"})["errorType"] == "Function.ResponseSizeTooLarge"


def test_new_code_and_new_settings_mean_new_environments(functions):
    functions.create("changing")
    before = functions.call("changing")
    functions.client.update_function_code(FunctionName="changing", ZipFile=archive(HANDLER.replace("VERSION = 1", "VERSION = 2")))
    middle = functions.call("changing")
    functions.client.update_function_configuration(FunctionName="changing", Environment={"Variables": {"OWN": "new"}})
    after = functions.call("changing")
    assert (middle["version"], after["own"]) == (2, "new")
    assert len({before["pid"], middle["pid"], after["pid"]}) == 3


def test_a_published_version_keeps_its_code(functions):
    functions.create("versioned")
    functions.client.publish_version(FunctionName="versioned")
    functions.client.update_function_code(FunctionName="versioned", ZipFile=archive(HANDLER.replace("VERSION = 1", "VERSION = 2")))
    old = functions.invoke("versioned", Qualifier="1")
    assert (old["ExecutedVersion"], json.loads(old["Payload"].read())["version"]) == ("1", 1)
    assert functions.call("versioned")["version"] == 2


def test_an_event_invocation_is_accepted_and_runs_later(functions):
    mark = functions.aws.folder / "event.txt"
    answer = functions.invoke("plain", {"action": "mark", "path": str(mark)}, InvocationType="Event")
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    assert eventually(mark.exists)


def test_a_dry_run_runs_nothing(functions):
    mark = functions.aws.folder / "dry.txt"
    answer = functions.invoke("plain", {"action": "mark", "path": str(mark)}, InvocationType="DryRun")
    assert answer["StatusCode"] == 204
    assert not mark.exists()


def test_a_deleted_function_leaves_no_process(functions):
    functions.create("short-lived")
    pid = functions.call("short-lived")["pid"]
    functions.client.delete_function(FunctionName="short-lived")
    assert not psutil.pid_exists(pid)
    assert functions.refused("invoke", FunctionName="short-lived")["Error"]["Code"] == "ResourceNotFoundException"


def test_a_payload_that_is_no_json_or_too_large_is_refused(functions):
    assert functions.refused("invoke", FunctionName="plain", Payload=b"{")["Error"]["Code"] == "InvalidRequestContentException"
    large = functions.refused("invoke", FunctionName="plain", Payload=b'"' + b"x" * 6_291_456 + b'"')
    assert large["ResponseMetadata"]["HTTPStatusCode"] == 413


def outcome(functions: Functions, name: str, event: dict) -> str:
    """ "ok", or the Reason of the refusal."""
    try:
        functions.invoke(name, event)["Payload"].read()
    except functions.client.exceptions.TooManyRequestsException as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 429
        return error.response["Reason"]
    return "ok"


def test_reserved_concurrency_of_two_answers_two_of_five_at_once(functions):
    functions.create("reserved")
    functions.client.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=2)
    with ThreadPoolExecutor(5) as pool:
        seen = list(pool.map(lambda _: outcome(functions, "reserved", {"action": "sleep", "seconds": 1.5}), range(5)))
    assert sorted(seen) == ["ReservedFunctionConcurrentInvocationLimitExceeded"] * 3 + ["ok"] * 2
    assert outcome(functions, "reserved", {}) == "ok"


def test_a_reservation_of_zero_stops_the_function(functions):
    functions.create("stopped")
    functions.client.put_function_concurrency(FunctionName="stopped", ReservedConcurrentExecutions=0)
    assert outcome(functions, "stopped", {}) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert functions.client.get_function_concurrency(FunctionName="stopped")["ReservedConcurrentExecutions"] == 0
    assert functions.client.get_function(FunctionName="stopped")["Concurrency"] == {"ReservedConcurrentExecutions": 0}
    functions.client.delete_function_concurrency(FunctionName="stopped")
    assert outcome(functions, "stopped", {}) == "ok"
    assert "ReservedConcurrentExecutions" not in functions.client.get_function_concurrency(FunctionName="stopped")


def test_account_settings_show_the_pool_and_reservations_leave_a_hundred(functions):
    functions.create("greedy")
    before = functions.client.get_account_settings()["AccountLimit"]
    functions.client.put_function_concurrency(FunctionName="greedy", ReservedConcurrentExecutions=50)
    after = functions.client.get_account_settings()
    assert before["ConcurrentExecutions"] == 1000
    assert before["UnreservedConcurrentExecutions"] - after["AccountLimit"]["UnreservedConcurrentExecutions"] == 50
    assert after["AccountUsage"]["FunctionCount"] > 1
    said = functions.refused("put_function_concurrency", FunctionName="greedy", ReservedConcurrentExecutions=950)["Error"]
    assert said["Code"] == "InvalidParameterValueException"
    assert said["Message"].endswith("below its minimum value of [100].")
