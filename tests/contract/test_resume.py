"""Jobs that are killed at random moments and started again: they end where the uninterrupted job ends, to the last bit.

``OPML_KILLS=20 pytest tests/contract/test_resume.py`` kills each kind of job twenty times.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from doors import flags, start

from opml.commands.bench_train import hosts
from opml.core.sample import make_sample

KILLS = int(os.environ.get("OPML_KILLS", "1"))
COUNTS = {"pictures": [2], "features": [1]} if "OPML_KILLS" not in os.environ else {"pictures": [1, 2], "features": [1, 2]}
COMMON = {"weights": "none", "image_size": 32, "batch_size": 6, "learning_rate": 0.002, "checkpoint_every": 2, "precision": "float32"}
KINDS = {
    "pictures": COMMON | {"freeze": "none", "epochs": 4},  # augmented: each epoch has random parts of its own
    "features": COMMON | {"freeze": "backbone", "views": 2, "epochs": 120, "checkpoint_every": 5},
}
BEGINS = {"pictures": "pictures go through", "features": "features of "}  # the line of the log after which steps are made
SECONDS = {"pictures": 6.0, "features": 1.5}  # the longest life after that
LONGEST = 120.0  # seconds for one life of a job on a busy machine
ENDS = {  # exit codes that a signal may lead to; 0 is a process that was done before it came
    0: {0},
    signal.SIGKILL: {-signal.SIGKILL, 0},
    signal.SIGTERM: {143, -signal.SIGTERM, 0},  # the second: before there was anything to save, or after all was
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_sample(tmp_path_factory.mktemp("data") / "photos", classes=3, train=10, valid=2, test=2, image_size=40)


SIGTERM_IN_STEP_3 = """
import os, signal
from opml.core import loop
learn = loop.Learner.learn
def stopped(self, batch):
    if self.step == 3:
        os.kill(os.getpid(), signal.SIGTERM)
    return learn(self, batch)
loop.Learner.learn = stopped
"""

THREADS_AT_EXIT = """
import atexit, pathlib
tasks = lambda: sorted(name.read_text().strip() for name in pathlib.Path("/proc/self/task").glob("*/comm"))
atexit.register(lambda: print("threads at exit:", *tasks()))
"""


def begin(place, settings, count, befores=("", "", "")):
    """The processes of one job, which share a checkpoint folder as instances share a prefix in S3."""
    words = flags(**settings)
    alone = [{}] if count == 1 else hosts(count)
    return [start("hpo.py", words, place / str(rank), befores[rank], PYTHONFAULTHANDLER="1", **env) for rank, env in enumerate(alone)]


def wait_until(process, text):
    """Read the log up to a line that has the text; all lines so far."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            break
    return lines


def end(processes):
    """(exit codes, rank 0's log); where one hangs the test fails with what each was doing."""
    try:
        logs = [process.communicate(timeout=LONGEST)[0] for process in processes]
    except subprocess.TimeoutExpired:
        for process in processes:
            process.send_signal(signal.SIGABRT)
        pytest.fail("\n\n".join(process.communicate()[0] for process in processes))
    return [process.returncode for process in processes], logs[0]


def result(place):
    """The saved weights' fingerprint, and what the epochs were like but for their speed."""
    content = json.loads((place / "0/output/metrics.json").read_text())
    history = [{name: value for name, value in row.items() if name != "images_per_second"} for row in content["history"]]
    return content["weights_sha256"], content["metrics"], history


@pytest.fixture(scope="module")
def uninterrupted(photos, tmp_path_factory):
    """kind, processes -> the result of a job that nobody disturbs and that writes no checkpoints; made once."""
    made = {}

    def get(kind, count):
        if (kind, count) not in made:
            place = tmp_path_factory.mktemp(f"whole-{kind}-{count}")
            codes, log = end(begin(place, KINDS[kind] | {"data": photos, "checkpoint_dir": "none"}, count))
            assert set(codes) == {0}, log
            made[kind, count] = result(place)
        return made[kind, count]

    return get


@pytest.mark.parametrize("kind, count", [(kind, count) for kind, counts in COUNTS.items() for count in counts])
def test_a_job_that_is_killed_again_and_again_ends_where_an_undisturbed_one_does(kind, count, photos, uninterrupted, tmp_path):
    seed = int(os.environ.get("PYTEST_SEED", time.time_ns() % 10**6))
    dice, kept, moments = random.Random(seed), tmp_path / "kept", []
    settings = KINDS[kind] | {"data": photos, "checkpoint_dir": kept}
    while True:
        processes = begin(tmp_path, settings, count)
        before = wait_until(processes[0], BEGINS[kind])
        number = 0
        if len(moments) < KILLS:
            time.sleep(dice.uniform(0, SECONDS[kind]))
            number = dice.choice([signal.SIGKILL, signal.SIGTERM])
            for process in processes:
                process.send_signal(number)
        codes, log = end(processes)
        assert set(codes) <= ENDS[number], "".join([f"seed {seed}, {codes}: ", *before, log])
        if "done in " not in log:
            moments.append(f"{signal.Signals(number).name} {(log.strip().splitlines() or ['at once'])[-1][:90]}")
            continue
        assert result(tmp_path) == uninterrupted(kind, count), (seed, moments)
        if len(moments) >= KILLS:
            break
        shutil.rmtree(kept)  # it was done before the dice fell: another job
    print(f"{kind}, {count} processes, seed {seed}:", *moments, sep="\n  ")


def test_all_processes_stop_after_the_same_step_though_only_one_was_asked(photos, uninterrupted, tmp_path):
    settings = KINDS["pictures"] | {"data": photos, "checkpoint_dir": tmp_path / "kept", "checkpoint_every": 0}
    codes, log = end(begin(tmp_path, settings, 2, [THREADS_AT_EXIT, SIGTERM_IN_STEP_3]))
    assert codes == [143, 143] and "stopped by SIGTERM after epoch 0, step " in log, log
    assert "threads at exit" in log and "gloo_" not in log, log  # one that lives on may abort the process
    codes, log = end(begin(tmp_path, settings, 1))
    assert codes == [2] and log.count("\n") == 5 and "in which 2 processes share each step, and here they are 1: start 2, or name" in log, (
        log
    )
    codes, log = end(begin(tmp_path, settings, 2, [THREADS_AT_EXIT, ""]))
    assert "threads at exit" in log and "gloo_" not in log, log
    assert codes == [0, 0] and "resuming after epoch 0, step " in log, log
    assert result(tmp_path) == uninterrupted("pictures", 2)
