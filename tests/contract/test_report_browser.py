"""The report of a long job in a real browser."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from opml.core.records import TRAIN, Phase, Record, Summary, System
from opml.core.report import write_report
from opml.core.rules import COURSE_RULES, PROFILER_RULES, evaluate

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-logging=stderr"]


@pytest.fixture
def page(tmp_path):
    """The report of 10,000 steps on 8 cores."""
    draw, record = np.random.default_rng(0), Record(finished=True)
    for step in range(10_000):
        start, lasted = 1000 + 0.07 * step, 0.07 * draw.lognormal(0, 0.2)
        record.add("CrossEntropyLoss_output_0", TRAIN, step, Summary(mean=2.3 * np.exp(-step / 3000), size=1))
        record.phases += [Phase(step, TRAIN, phase, start, lasted) for phase in ("step", "loading", "forward", "backward", "optimizer")]
        if step % 14 == 0:
            record.system += [System(start, "algo-1", f"cpu{core}", "CPUUtilization", draw.uniform(0, 100)) for core in range(8)]
    verdicts = [evaluate(rule, record) for rule in (*COURSE_RULES, *PROFILER_RULES)]
    return write_report(record, verdicts, tmp_path / "report.html", title="10,000 steps")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_opens_it_within_a_second_and_its_console_stays_empty(page, tmp_path):
    probe = page.with_name("probe.html")  # shows the report in a frame, and times it
    script = "const t=performance.now(); const done=()=>document.title='ms '+Math.round(performance.now()-t)"
    probe.write_text(f'<title>probe</title><script>{script}</script><iframe src="report.html" onload="done()"></iframe>')
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}/profile", "--dump-dom", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ":CONSOLE" not in done.stderr, done.stderr
    assert int(re.search(r"<title>ms (\d+)</title>", done.stdout)[1]) < 1000
    assert page.stat().st_size < 2_000_000
