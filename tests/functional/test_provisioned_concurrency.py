"""Provisioned concurrency: environments that are there before the first call."""

import json
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from served import until
from test_functions import Functions, outcome

SOURCE = """
import os, time
time.sleep(0.2)

def handler(event, context):
    time.sleep(event.get("seconds", 0))
    return {"pid": os.getpid(), "kind": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]}
"""


@pytest.fixture(scope="module")
def functions(served):
    made = Functions(served)
    yield made
    for found in made.client.list_functions()["Functions"]:
        made.client.delete_function(FunctionName=found["FunctionName"])


@pytest.fixture
def live(functions, request):
    """A function with version 1 and an alias ``live`` to it; name."""
    name = f"provisioned-{abs(hash(request.node.name)) % 10**8}"
    functions.create(name, SOURCE)
    functions.client.publish_version(FunctionName=name)
    functions.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    return name


def provision(functions, name: str, count: int, qualifier: str = "live") -> dict:
    """Ask for it and wait until it is READY; the first answer."""
    asked = {"FunctionName": name, "Qualifier": qualifier}
    first = functions.client.put_provisioned_concurrency_config(**asked, ProvisionedConcurrentExecutions=count)
    until(lambda: functions.client.get_provisioned_concurrency_config(**asked)["Status"] == "READY")
    return first


def call(functions, name: str, seconds: float = 0, qualifier: str = "live") -> tuple[dict, str]:
    """(answer, REPORT line)."""
    answer = functions.invoke(name, {"seconds": seconds}, Qualifier=qualifier, LogType="Tail")
    tail = functions.tail(answer)
    return json.loads(answer["Payload"].read()), next(line for line in tail if line.startswith("REPORT"))


def test_the_first_two_calls_show_no_init_and_the_third_spills_over(functions, live):
    first = provision(functions, live, 2)
    assert (first["Status"], first["AvailableProvisionedConcurrentExecutions"]) == ("IN_PROGRESS", 0)
    assert first["ResponseMetadata"]["HTTPStatusCode"] == 202
    with ThreadPoolExecutor(3) as pool:
        seen = list(pool.map(lambda _: call(functions, live, 0.6), range(3)))
    kinds = sorted((answer["kind"], "Init Duration" in report) for answer, report in seen)
    assert kinds == [("on-demand", True), ("provisioned-concurrency", False), ("provisioned-concurrency", False)]


def test_a_version_is_provisioned_as_well_and_latest_is_not(functions, live):
    provision(functions, live, 1, "1")
    assert call(functions, live, qualifier="1")[0]["kind"] == "provisioned-concurrency"
    assert call(functions, live, qualifier="$LATEST")[0]["kind"] == "on-demand"
    put = {"FunctionName": live, "ProvisionedConcurrentExecutions": 1}
    latest = functions.refused("put_provisioned_concurrency_config", **put, Qualifier="$LATEST")["Error"]
    taken = functions.refused("put_provisioned_concurrency_config", **put, Qualifier="live")["Error"]
    assert latest["Code"] == taken["Code"] == "InvalidParameterValueException"
    assert "unpublished function versions" in latest["Message"] and "already Provisioned version" in taken["Message"]


def test_deleting_it_ends_the_environments(functions, live):
    provision(functions, live, 1)
    pid = call(functions, live)[0]["pid"]
    listed = functions.client.list_provisioned_concurrency_configs(FunctionName=live)["ProvisionedConcurrencyConfigs"]
    assert [(one["FunctionArn"].split(":")[-1], one["AvailableProvisionedConcurrentExecutions"]) for one in listed] == [("live", 1)]
    functions.client.delete_provisioned_concurrency_config(FunctionName=live, Qualifier="live")
    assert not psutil.pid_exists(pid)
    said = functions.refused("get_provisioned_concurrency_config", FunctionName=live, Qualifier="live")
    assert said["Error"]["Code"] == "ProvisionedConcurrencyConfigNotFoundException"


def test_an_init_that_fails_makes_it_fail(functions):
    functions.create("provisioned-broken", "1 / 0")
    functions.client.publish_version(FunctionName="provisioned-broken")
    asked = {"FunctionName": "provisioned-broken", "Qualifier": "1"}
    functions.client.put_provisioned_concurrency_config(**asked, ProvisionedConcurrentExecutions=1)
    found = until(lambda: (got := functions.client.get_provisioned_concurrency_config(**asked))["Status"] == "FAILED" and got)
    assert "division by zero" in found["StatusReason"]


def test_it_takes_its_share_of_the_reservation(functions, live):
    functions.client.put_function_concurrency(FunctionName=live, ReservedConcurrentExecutions=1)
    put = {"FunctionName": live, "Qualifier": "live"}
    said = functions.refused("put_provisioned_concurrency_config", **put, ProvisionedConcurrentExecutions=2)["Error"]
    assert "should not be greater than the reservedConcurrentExecution" in said["Message"]
    provision(functions, live, 1)
    assert outcome(functions, live, {}) == "ReservedFunctionConcurrentInvocationLimitExceeded", "nothing is left for $LATEST"
    assert call(functions, live)[0]["kind"] == "provisioned-concurrency"


def test_an_alias_that_moves_takes_it_along(functions, live):
    provision(functions, live, 1)
    before = call(functions, live)[0]["pid"]
    functions.client.update_function_configuration(FunctionName=live, MemorySize=300)
    functions.client.publish_version(FunctionName=live)
    functions.client.update_alias(FunctionName=live, Name="live", FunctionVersion="2")
    until(lambda: functions.client.get_provisioned_concurrency_config(FunctionName=live, Qualifier="live")["Status"] == "READY")
    assert call(functions, live)[0]["kind"] == "provisioned-concurrency"
    assert not psutil.pid_exists(before)


def test_an_alias_may_send_a_share_of_its_calls_to_another_version(functions, live):
    functions.client.update_function_configuration(FunctionName=live, MemorySize=300)
    functions.client.publish_version(FunctionName=live)
    functions.client.update_alias(FunctionName=live, Name="live", RoutingConfig={"AdditionalVersionWeights": {"2": 1.0}})
    assert functions.invoke(live, Qualifier="live")["ExecutedVersion"] == "2"


def test_a_new_account_has_ten_executions_and_nothing_to_reserve(brisk):
    new = Functions(brisk)
    new.create("crowded", SOURCE)
    limit = new.client.get_account_settings()["AccountLimit"]
    assert (limit["ConcurrentExecutions"], limit["UnreservedConcurrentExecutions"]) == (10, 10)
    said = new.refused("put_function_concurrency", FunctionName="crowded", ReservedConcurrentExecutions=1)["Error"]
    assert said["Message"].endswith("below its minimum value of [10].")
    with ThreadPoolExecutor(12) as pool:
        seen = list(pool.map(lambda _: outcome(new, "crowded", {"seconds": 2}), range(12)))
    assert sorted(seen) == ["ConcurrentInvocationLimitExceeded"] * 2 + ["ok"] * 10


def test_an_event_that_fails_runs_twice_more(brisk):
    new, mark = Functions(brisk), brisk.folder / "tries"
    new.create("failing", f"def handler(event, context):\n    open({str(mark)!r}, 'a').write('x')\n    raise ValueError('no')")
    new.invoke("failing", {}, InvocationType="Event")
    until(lambda: mark.exists() and mark.read_text() == "xxx")
    new.client.put_function_event_invoke_config(FunctionName="failing", MaximumRetryAttempts=0)
    new.error("failing")
    assert mark.read_text() == "xxxx"
