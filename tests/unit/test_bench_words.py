"""opml bench: which words the baseline gets, and what is read of a log."""

import argparse
import os
import sys

import pytest

from opml.cli import main
from opml.commands import bench_train as bench
from opml.commands.weigh import Weighed, run_weighed
from opml.errors import BadInput


@pytest.fixture
def args(tmp_path):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(["--data", str(tmp_path)])


def test_the_baseline_gets_the_flags_that_its_text_names(args, tmp_path):
    args.baseline = tmp_path / "theirs.py"
    args.baseline.write_text('parser.add_argument("--epochs")\nparser.add_argument("--batch-size")\n# --arch is not one')
    assert bench.baseline_words(args, 3, tmp_path)[1:] == ["--epochs", "3", "--batch-size", "32"]


def test_further_words_for_the_baseline_name_folders_and_epochs(args, tmp_path):
    args.baseline = tmp_path / "theirs.py"
    args.baseline.touch()
    args.baseline_args = "--data_dir {data} --n {epochs}"
    assert bench.baseline_words(args, 3, tmp_path)[1:] == ["--data_dir", str(tmp_path), "--n", "3"]


def test_our_imitation_of_the_courses_script_takes_all_flags(args, tmp_path):
    words = bench.baseline_words(args, 2, tmp_path)
    assert words[1:] == ["--epochs", "2", "--batch_size", "32", "--arch", "resnet50", "--image_size", "224"]


def test_the_time_of_the_work_is_read_where_a_log_says_it():
    assert bench._numbers(Weighed(0, 5.0, 100, "x\ndone in 3.2 s, 0.1 USD so far\n")) == {
        "seconds": 5.0,
        "work_seconds": 3.2,
        "peak_mb": 100,
    }
    assert bench._numbers(Weighed(0, 5.0, 100, "no word")) == {"seconds": 5.0, "peak_mb": 100}


def test_a_missing_baseline_is_one_sentence(args, tmp_path):
    args.baseline = tmp_path / "none.py"
    with pytest.raises(BadInput, match="there is no baseline script .*none.py"):
        bench.run(args)


def test_memory_is_that_of_a_process_and_its_children(tmp_path):
    hold = "x = b'x' * 60_000_000; import subprocess, sys, time; {}; time.sleep(0.6)"
    alone = run_weighed([sys.executable, "-c", hold.format("0")], tmp_path, [dict(os.environ)])
    child = hold.format("0").replace("'", '"')
    both = run_weighed(
        [sys.executable, "-c", hold.format(f"subprocess.run([sys.executable, '-c', '{child}'])")], tmp_path, [dict(os.environ)]
    )
    assert alone.exit_code == 0 and 60 < alone.peak_mb < 110 and both.peak_mb > alone.peak_mb + 50


@pytest.mark.parametrize("words", [["local", "--threads", "0"], ["recorder", "--steps", "-1"], ["train", "--data", ".", "--epochs", "0"]])
def test_a_number_that_measures_nothing_is_refused_before_the_measurement(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *words])
    assert "must be at least 1, it is " in capsys.readouterr().err
