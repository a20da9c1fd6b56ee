"""Start, find, end: whatever happens to the owner or to the server, nothing of it is left."""

import json
import os
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import psutil
import pytest
from waiting import eventually

from opml.errors import LocalAwsError
from opml.localaws import lifecycle, procs, statefile

PYTHON = sys.executable
# A training script whose child is in a session of its own, out of reach of its group.
ASLEEP = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("asleep", flush=True)
time.sleep(600)
"""
# An owner with a server and a training job in the middle of its work; says so in one line and then waits.
OWNER = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from opml.localaws import lifecycle
from training_jobs import Jobs
local = lifecycle.start(register=False)
jobs = Jobs(local)
jobs.wait_for_line(jobs.start(sys.argv[2], count=2), "asleep")
word = dict(pid=local.pid, reaper=local.reaper_pid, server_id=local.server_id, endpoint=local.endpoint_url)
print(json.dumps(word), flush=True)
time.sleep(600)
"""


def within_ten_seconds(condition):
    return eventually(condition, 10.0)


def listens(endpoint):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(endpoint).port)) == 0


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def is_gone(word):
    """No process of the server's, marked or not, no port, no folder."""
    return not (alive(word["pid"]) or alive(word["reaper"]) or procs.marked(word["server_id"]) or listens(word["endpoint"]))


@pytest.fixture
def owner(state_home):
    command = [PYTHON, "-c", OWNER, os.path.dirname(__file__), ASLEEP]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(state_home)})
    word = json.loads(process.stdout.readline())
    yield process, word
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("how", ["owner killed", "owner interrupted", "server killed", "server terminated"])
def test_nothing_is_left_ten_seconds_after(owner, state_home, how):
    process, word = owner
    assert within_ten_seconds(
        lambda: len(procs.marked(word["server_id"])) == 5
    )  # the server and two instances, each with a child in a session of its own
    number = {"killed": signal.SIGKILL, "interrupted": signal.SIGINT, "terminated": signal.SIGTERM}[how.split()[1]]
    os.kill(word["pid"] if how.startswith("server") else process.pid, number)
    assert within_ten_seconds(lambda: is_gone(word)), procs.marked(word["server_id"])
    assert within_ten_seconds(lambda: not list(state_home.glob("opml-*")))


def test_a_stopped_server_is_gone_when_stop_returns(state_home):
    local = lifecycle.start()
    word = {"pid": local.pid, "reaper": local.reaper_pid, "server_id": local.server_id, "endpoint": local.endpoint_url}
    assert local.answers() and lifecycle.find() == local
    local.stop()
    assert is_gone(word) and lifecycle.find() is None and statefile.read() is None
    local.stop()  # once more is fine


def test_an_isolated_server_is_not_found(state_home):
    local = lifecycle.start(register=False)
    assert lifecycle.find() is None
    local.stop()


def test_the_environment_names_a_server_without_state_file(local_aws, state_home, monkeypatch):
    for name, value in local_aws.env().items():
        monkeypatch.setenv(name, value)
    found = lifecycle.find()
    assert (found.endpoint_url, found.bucket, found.role_arn) == (local_aws.endpoint_url, local_aws.bucket, local_aws.role_arn)
    with pytest.raises(LocalAwsError, match="environment only"):
        found.stop()


def test_a_stale_state_file_is_removed(state_home, local_aws):
    entry = {name: value for name, value in vars(local_aws).items() if not name.startswith("_")}
    statefile.write({**entry, "pid": os.getpid(), "started": 1.0})  # the number was given to another process
    assert lifecycle.find() is None and statefile.read() is None


def test_a_server_that_cannot_start_says_why(state_home, monkeypatch):
    (state_home / "opml").mkdir()
    (state_home / "opml" / "__init__.py").write_text("raise RuntimeError('this opml is broken')")
    monkeypatch.setattr(lifecycle, "PACKAGE_ROOT", state_home)
    with pytest.raises(LocalAwsError, match="did not start(?s:.*)this opml is broken"):
        lifecycle.start(register=False)


def test_a_background_server_outlives_its_starter_and_ends_when_idle(state_home):
    starter = "from opml.localaws import lifecycle; print(lifecycle.start(owned=False, idle_minutes=0.03).pid)"
    pid = int(subprocess.run([PYTHON, "-c", starter], capture_output=True, text=True, check=True).stdout)
    assert lifecycle.find().pid == pid
    assert within_ten_seconds(lambda: not alive(pid)) and statefile.read() is None


def opml(*words, **options):
    return subprocess.run([PYTHON, "-m", "opml", *words], capture_output=True, text=True, **options)


def test_the_command_line_starts_shows_and_stops(state_home):
    assert opml("local", "status").returncode == 3
    started, again = opml("local", "start"), opml("local", "start")
    assert "runs at http://127.0.0.1:" in started.stdout and "runs already" in again.stdout
    status = opml("local", "status")
    assert status.returncode == 0 and "processes  2," in status.stdout and "jobs       none" in status.stdout
    whoami = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
    shell = f'eval "$({PYTHON} -m opml local env)"; {PYTHON} -c "{whoami}"'
    assert subprocess.run(shell, shell=True, capture_output=True, text=True).stdout.strip() == "123456789012"
    assert opml("local", "stop").returncode == 0 and opml("local", "status").returncode == 3


def test_env_without_a_server_says_how_to_start_one(state_home):
    answer = opml("local", "env")
    assert (answer.returncode, answer.stdout) == (1, "") and "python -m opml local start" in answer.stderr


def test_run_gives_a_command_its_own_server_and_hands_on_its_status(state_home):
    look = "boto3.client('s3').head_bucket(Bucket=os.environ['OPML_BUCKET'])"
    code = f"import boto3, os; {look}; print(os.environ['OPML_OWNED_BY']); raise SystemExit(7)"
    answer = opml("local", "run", "--", PYTHON, "-c", code)
    assert answer.returncode == 7, answer.stderr
    assert procs.marked(answer.stdout.strip()) == [] and statefile.read() is None


@pytest.mark.parametrize(("number", "left"), [(signal.SIGTERM, True), (signal.SIGKILL, False)])
def test_a_command_that_is_run_ends_with_its_runner(state_home, number, left):
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    runner = subprocess.Popen([PYTHON, "-m", "opml", "local", "run", "--", PYTHON, "-c", code], stdout=subprocess.PIPE)
    child = int(runner.stdout.readline())
    runner.send_signal(number)
    assert runner.wait() == (128 + number if left else -number)
    assert within_ten_seconds(lambda: not alive(child))
    runner.stdout.close()
