"""All notebooks, small, on a local AWS of their own, and what its record of all calls says about who asked for what."""

import json
import os
from datetime import datetime

import pytest

from opml import operators, rehearsal
from opml.aws import connect
from opml.localaws import client, lifecycle

SMALL = {"epochs": 1, "trials": 1, "classes": 2, "image_size": 32}
ACCOUNT = "123456789012"
# Actions that a policy names and no call is called after.
IMPLIED = {"iam:PassRole", "iam:TagRole", "iam:TagPolicy", "sagemaker:AddTags", "lambda:TagResource", "logs:TagResource",
           "application-autoscaling:TagResource"}  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """(summary, all calls as CloudTrail writes them) of a rehearsal."""
    before, local = dict(os.environ), lifecycle.start(register=False)
    client.apply(local)
    os.environ["PYTHONPATH"] = str(rehearsal.REPOSITORY)
    os.environ["TMPDIR"] = local.scratch  # kernels are ended without a chance to clean up
    try:
        connect("local", "whole")
        summary = rehearsal.Summary("whole", "local", "now")
        folder = tmp_path_factory.mktemp("record")
        rehearsal.rehearse(rehearsal.select([]), folder, {"target": "local", "run_id": "whole", **SMALL}, summary, keep=False)
        rehearsal.conclude(summary, folder, keep=False, since=datetime.now())
        yield summary, calls(local)
    finally:
        os.environ.clear()
        os.environ.update(before)
        local.stop()


def calls(local):
    pages = local.client("cloudtrail").get_paginator("lookup_events").paginate()
    return [json.loads(event["CloudTrailEvent"]) for page in pages for event in page["Events"]]


def action(call):
    name = {"Invoke": "InvokeFunction"}.get(call["eventName"], call["eventName"])
    return f"{call['eventSource'].partition('.')[0]}:{name}"


def issuer(call):
    """The role whose session called, or the caller."""
    return call["userIdentity"].get("sessionContext", {}).get("sessionIssuer", call["userIdentity"])["arn"]


def test_all_notebooks_run_to_their_end_and_nothing_is_left(record):
    summary, _ = record
    assert [outcome.error for outcome in summary.notebooks] == [""] * 5
    assert summary.resources_left == []


def test_every_call_is_made_by_one_of_our_roles(record):
    roles = {issuer(call) for call in record[1]} - {f"arn:aws:iam::{ACCOUNT}:root"}
    admins, function = {f"arn:aws:iam::{ACCOUNT}:role/opml/{name}" for name in ("OpmlOperator", "OpmlExecution")}, "role/opml-whole-function-role"
    assert roles == admins | {f"arn:aws:iam::{ACCOUNT}:{function}"}


def test_the_owner_sets_up_and_does_nothing_else(record):
    owners = [action(call) for call in record[1] if issuer(call).endswith(":root")]
    assert set(owners) == {"sts:GetCallerIdentity", "iam:CreatePolicy", "iam:CreateRole", "iam:PutRolePolicy", "sts:AssumeRole", "cloudtrail:LookupEvents"}
    assert len([name for name in owners if name.startswith("iam:")]) == 5  # once, not in every notebook


def test_nothing_was_refused_for_lack_of_a_right_or_for_its_form(record):
    assert [(call["eventName"], call["errorMessage"]) for call in record[1] if "errorCode" in call] == []


def test_the_operator_may_do_what_the_notebooks_do_and_no_more(record):
    site = operators.Site("us-east-1", ACCOUNT, "any")
    allowed = {name for one in operators.operator_policy(site)["Statement"] for name in one["Action"]}
    done = {action(call) for call in record[1] if issuer(call).endswith("/OpmlOperator")}
    assert done - allowed == {"sts:GetCallerIdentity"}  # needs no permission
    assert allowed - done - IMPLIED == set(operators.SPARE)
