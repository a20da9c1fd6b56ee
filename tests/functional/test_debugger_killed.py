"""A server that is killed while rules are evaluated leaves nothing behind."""

import os
import signal

from debugged import PLAIN, debugged, rule
from training_jobs import Jobs
from waiting import eventually

from opml.localaws import lifecycle, procs

WITHIN = 10.0  # seconds


def test_no_rules_process_outlives_its_server(state_home):
    local = lifecycle.start(register=False)
    try:
        jobs = Jobs(local)
        jobs.start(PLAIN + "import time\ntime.sleep(600)", **debugged(jobs, rules=[rule("Overfit")]))
        evaluating = lambda: [process for process in procs.marked(local.server_id) if "rule_worker" in " ".join(process.cmdline())]  # noqa: E731
        assert eventually(evaluating), procs.marked(local.server_id)
        os.kill(local.pid, signal.SIGKILL)
        assert eventually(lambda: not procs.marked(local.server_id), WITHIN), procs.marked(local.server_id)
    finally:
        local.stop()
