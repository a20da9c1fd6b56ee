"""python -m opml bench train and local, small: every stage prints its line."""

import json
import os
import subprocess
import sys
import tempfile

from doors import ROOT

SMALL = ["--arch", "resnet18", "--image-size", "32", "--epochs", "1", "--batch-size", "6"]


def test_bench_prints_the_bound_the_first_pass_and_both_scripts_as_json_lines(tiny_sample, tmp_path):
    command = [sys.executable, "-m", "opml", "bench", "train", "--data", str(tiny_sample), *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["stage"] for row in rows] == ["decode", *["bound", "first pass"] * 2, *["1 epochs"] * 3]
    assert all(row["images_per_second"] > 0 for row in rows[:5]) and all(row["peak_mb"] > 100 for row in rows[5:])
    assert [row.get("precision") for row in rows[6:]] == ["float32", "bfloat16"] and all(row["times_faster"] > 0 for row in rows[6:])
    assert list(tmp_path.glob("opml-*")) == [], "nothing is left behind"


def test_bench_local_calls_from_many_threads_and_loses_none():
    command = [sys.executable, "-m", "opml", "bench", "local", "--threads", "5", "--calls", "70", "--invocations", "20"]
    with tempfile.TemporaryDirectory(prefix="judge-") as folder:  # not tmp_path: it is too long for a socket
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=os.environ | {"TMPDIR": folder})
        assert os.listdir(folder) == [], "nothing is left behind"
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["stage"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows["start"]["seconds"] > 0 and rows["invoke alone"]["beside_model_ms"] > 0
    assert rows["invoke together"]["outcomes"] == {"ok": 20} and rows["mixed calls"]["outcomes"] == {"ok": 70}
