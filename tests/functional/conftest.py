"""One local AWS for all functional tests: the real server process, isolated from the user's own (it never touches the state file)."""

import pytest

from opml.localaws import lifecycle


@pytest.fixture(scope="session")
def local_aws():
    """A running local AWS (``LocalAws``), ended with the session."""
    local = lifecycle.start(register=False)
    yield local
    local.stop()


@pytest.fixture(scope="session")
def served(local_aws, tmp_path_factory):
    """Clients of that server that do not retry, and a folder for what functions and handlers leave."""
    from served import Served

    return Served(local_aws, tmp_path_factory.mktemp("served"))
