"""A server that is killed in the middle of a tuning job leaves nothing behind."""

import os
import signal
import time

from test_tuning_jobs import create
from training_jobs import Jobs

from opml.localaws import lifecycle, procs

FORKING = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("loss=1;", flush=True)
time.sleep(600)
"""
WITHIN = 10.0  # seconds


def eventually(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_no_process_of_a_tuning_job_outlives_its_server(state_home):
    local = lifecycle.start(register=False)
    try:
        create(Jobs(local), "doomed", FORKING, strategy="Bayesian", count=8, parallel=4)
        assert eventually(lambda: len(procs.marked(local.server_id)) == 9), procs.marked(local.server_id)  # the server and 4 times 2
        os.kill(local.pid, signal.SIGKILL)
        assert eventually(lambda: not procs.marked(local.server_id), WITHIN), procs.marked(local.server_id)
    finally:
        local.stop()
