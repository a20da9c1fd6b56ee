"""A full disk and a working folder that is removed: jobs fail with a reason, and nothing hangs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from training_jobs import Jobs
from waiting import eventually

from opml.localaws import lifecycle
from opml.localaws.training import TERMINAL

HERE = Path(__file__).parent
SMALL = 'mount -t tmpfs -o size=24m none "$1" && shift && exec "$@"'
# Run where the temporary folder is a disk of 24 MB: what becomes of a job whose script, and of one whose channel, needs more.
FILL = """
import json, os, sys
from opml.localaws import lifecycle
from training_jobs import Jobs
local = lifecycle.start(register=False)
jobs = Jobs(local)
channel = {"S3DataType": "S3Prefix", "S3DataDistributionType": "FullyReplicated", "S3Uri": jobs.put("big/x", os.urandom(9 << 20))}
write = "import os\\nwith open(os.environ['SM_MODEL_DIR'] + '/m', 'wb') as file:\\n    while True:\\n        file.write(bytes(1 << 20))"
found = [jobs.run(write), jobs.run("print(1)", count=2, channel=channel), jobs.run("print(1)")]
local.stop()
print(json.dumps([[job["TrainingJobStatus"], job.get("FailureReason", "")] for job in found]))
"""


def on_a_small_disk(folder: Path, *command: str) -> subprocess.CompletedProcess:
    """Run a command with TMPDIR on a disk of 24 MB, in a mount namespace of its own."""
    wrapped = ["unshare", "--map-root-user", "--mount", "sh", "-c", SMALL, "sh", str(folder), *command]
    environment = {"TMPDIR": str(folder), "PATH": "/usr/bin:/bin", "PYTHONPATH": f"{HERE}:{HERE.parents[1]}"}
    return subprocess.run(wrapped, env=environment, capture_output=True, text=True, timeout=180)


def test_a_full_disk_fails_the_job_with_a_reason_and_the_next_one_runs(tmp_path):
    if sys.platform != "linux" or on_a_small_disk(tmp_path, "true").returncode != 0:
        pytest.skip("this machine gives us no mount namespace, so no small disk to fill")
    done = on_a_small_disk(tmp_path, sys.executable, "-c", FILL)
    assert done.returncode == 0, done.stderr
    script, channel, small = json.loads(done.stdout)
    assert script[0] == "Failed" and "No space left on device" in script[1]
    assert channel == ["Failed", "ClientError: Data download failed:No space left on device"]
    assert small == ["Completed", ""]


def test_a_servers_folder_that_is_removed_fails_its_jobs_with_a_reason():
    local = lifecycle.start(register=False)
    try:
        jobs = Jobs(local)
        name = jobs.start("import os, time\nprint('asleep', flush=True)\nwhile os.path.exists(os.environ['SM_MODEL_DIR']): time.sleep(0.1)")
        jobs.wait_for_line(name, "asleep")
        shutil.rmtree(Path(local.scratch).parent)
        assert "working folder of algo-1 was removed" in jobs.wait(name)["FailureReason"]
        following = jobs.run("print(1)")["FailureReason"]
        assert "cannot use its working folder" in following and "python -m opml local start" in following
    finally:
        local.stop()


def test_two_servers_side_by_side_share_nothing():
    one, other = lifecycle.start(register=False), lifecycle.start(register=False)
    try:
        here, there = Jobs(one), Jobs(other)
        name = here.start("import time\nprint('asleep', flush=True)\ntime.sleep(600)")
        here.wait_for_line(name, "asleep")
        assert there.run("print(1)", name=name)["TrainingJobStatus"] == "Completed"  # the same name, bucket and role name
        there.put("only/there")
        assert "Contents" not in here.s3.list_objects_v2(Bucket=here.bucket, Prefix="only/")
        other.stop()
        assert here.describe(name)["TrainingJobStatus"] == "InProgress"
        here.sagemaker.stop_training_job(TrainingJobName=name)
        assert eventually(lambda: here.describe(name)["TrainingJobStatus"] in TERMINAL)
    finally:
        one.stop()
        other.stop()
