"""One run, watched by smdebug's hook and by our recorder: the rules say the same of both records."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from opml.core import hook
from opml.core.rules import COURSE_RULES, evaluate
from opml.core.sample import make_sample
from opml.core.sources import read_recorder, read_smdebug

ROOT = Path(__file__).parents[2]
PARAMETERS = [
    ("VanishingGradient", {}),
    ("VanishingGradient", {"threshold": "0.002"}),
    ("VanishingGradient", {"threshold": "0.01"}),
    ("Overfit", {}),
    ("Overfit", {"ratio_threshold": "-0.5"}),
    ("Overfit", {"ratio_threshold": "-0.5", "patience": "2"}),
    ("Overtraining", {}),
    ("Overtraining", {"patience_train": "3", "patience_validation": "1"}),
    ("Overtraining", {"patience_train": "1", "patience_validation": "2", "delta": "0.2"}),
    ("PoorWeightInitialization", {}),
    ("PoorWeightInitialization", {"threshold": "2"}),
    ("PoorWeightInitialization", {"threshold": "100", "distribution_range": "0.01"}),
    ("PoorWeightInitialization", {"threshold": "100", "distribution_range": "0", "patience": "1"}),
    ("LossNotDecreasing", {"mode": "TRAIN"}),
    ("LossNotDecreasing", {"num_steps": "2"}),
    ("LossNotDecreasing", {"num_steps": "2", "mode": "TRAIN", "diff_percent": "20"}),
]


def train(place, **env):
    """A short training job with a hook configuration, as a process of its own; what it printed."""
    flags = {
        "data": place / "data", "model_dir": place / "model", "output_dir": place / "output", "weights": "none", "image_size": 32,
        "epochs": 3, "batch_size": 6, "record_interval": 2,
    }  # fmt: skip
    command = [sys.executable, "hpo.py", *(word for name, value in flags.items() for word in (f"--{name}", str(value)))]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "SMDEBUG_LOG_LEVEL": "error", **env}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Both records of one run, with equal intervals."""
    place = tmp_path_factory.mktemp("watched")
    make_sample(place / "data", classes=3, train=8, valid=4, test=2, image_size=32)
    config = hook.write_configuration(place, losses=1, valid=1, gradients=2, inputs=2)
    train(place, SMDEBUG_CONFIG_FILE_PATH=str(config))
    return read_smdebug(place / "tensors"), read_recorder(place / "output" / "record")


def test_both_sources_have_the_same_steps_and_names(watched):
    theirs, ours = watched
    assert theirs.finished and ours.finished
    loss = "CrossEntropyLoss_output_0"
    for mode in ("TRAIN", "EVAL"):
        assert [p[:3] for p in theirs.points(loss, mode)] == [p[:3] for p in ours.points(loss, mode)] != []
    for collection in ("losses", "gradients"):
        assert theirs.names(collection=collection) == ours.names(collection=collection)
    assert theirs.names(collection="relu_input") == ours.names(collection="relu_input") != []


@pytest.mark.parametrize(("rule", "parameters"), PARAMETERS)
def test_both_sources_give_the_same_verdict_and_step(watched, rule, parameters):
    theirs, ours = (evaluate(rule, record, parameters) for record in watched)
    assert theirs.status in ("IssuesFound", "NoIssuesFound")
    assert (theirs.status, theirs.step) == (ours.status, ours.step), (theirs, ours)


def test_the_comparison_saw_each_rule_fire_at_some_setting(watched):
    fired = {rule for rule, parameters in PARAMETERS if evaluate(rule, watched[0], parameters).status == "IssuesFound"}
    assert fired == set(COURSE_RULES)


def test_the_figures_of_both_sources_are_equal(watched):
    theirs, ours = watched
    for name in ("gradient/ResNet_fc.weight", "gradient/ResNet_layer4.1.conv2.weight", "layer1.0.relu_input_1", "relu_input_0"):
        one, other = theirs.summary(name, 2), ours.summary(name, 2)
        for figure in ("mean", "std", "abs_mean", "l2"):
            assert getattr(other, figure) == pytest.approx(getattr(one, figure), rel=1e-3, abs=1e-6), (name, figure)


def test_the_findings_and_the_report_lie_in_the_jobs_output(watched, tmp_path):
    make_sample(tmp_path / "data", classes=2, train=4, valid=2, test=2, image_size=32)
    said = train(tmp_path)
    rows = {row["rule"]: row["status"] for row in json.loads((tmp_path / "output" / "findings.json").read_text())}
    assert set(COURSE_RULES) <= set(rows) and rows["LowGPUUtilization"] == "NotApplicable"
    assert "report.html" in said and (tmp_path / "output" / "report.html").stat().st_size < 2_000_000
