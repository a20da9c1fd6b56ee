"""One local AWS for all functional tests: the real server process, isolated from the user's own (it never touches the state file)."""

import os
import sys

import pytest

from opml.localaws import client, lifecycle


@pytest.fixture(scope="session")
def local_aws():
    """A running local AWS (``LocalAws``), ended with the session."""
    local = lifecycle.start(register=False)
    yield local
    local.stop()


@pytest.fixture(scope="package")
def aws(local_aws):
    """``opml.aws.connect("local")`` on that server; the session's environment points to it."""
    from opml import aws as gate

    before = dict(os.environ)
    client.apply(local_aws)
    yield gate.connect("local", run_id="tests")
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def served(local_aws, tmp_path_factory):
    """Clients of that server that do not retry, and a folder for what functions and handlers leave."""
    from served import Served

    return Served(local_aws, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def brisk(tmp_path_factory):
    """Clients of a second server, as a new account has it (10 concurrent executions), whose minutes take 0.2 seconds."""
    from served import Served

    local = lifecycle.start(register=False, time_scale=0.2, lambda_concurrency=10)
    yield Served(local, tmp_path_factory.mktemp("brisk"))
    local.stop()


@pytest.fixture(scope="session")
def jobs(local_aws):
    """Small training jobs from a script's text."""
    from training_jobs import Jobs

    return Jobs(local_aws)


@pytest.fixture
def state_home(tmp_path, monkeypatch):
    """A state folder and an environment of this test's own, as a user's shell would have them."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "OPML_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    return tmp_path
