"""python -m opml bench train, on a few tiny images: every stage prints its line."""

import json
import os
import subprocess
import sys

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
