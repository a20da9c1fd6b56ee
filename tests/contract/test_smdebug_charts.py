"""smdebug's notebook charts on the pinned bokeh, in a plain Python whose path ``local env`` has set."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opml.localaws import imports
from opml.localaws.client import CLIENT_PATH
from opml.localaws.system_metrics import Sampler

DRAW = """
import sys
import bokeh.plotting
figure = bokeh.plotting.figure
from smdebug.profiler.analysis.notebook_utils.heatmap import Heatmap
from smdebug.profiler.analysis.notebook_utils.metrics_histogram import MetricsHistogram
from smdebug.profiler.analysis.notebook_utils.timeline_charts import TimelineCharts
from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader
reader = LocalSystemMetricsReader(sys.argv[1])
chart = TimelineCharts(reader, None, select_dimensions=["CPU", "GPU"], select_events=["total"])
Heatmap(reader, None, select_dimensions=["CPU"], select_events=["total"], plot_height=450)
MetricsHistogram(reader).plot(select_dimensions=["CPU"], select_events=["total"])
glyphs = [type(drawn.glyph).__name__ for drawn in chart.figures[0].renderers]
print("drawn", chart.figures[0].height, glyphs, bokeh.plotting.figure is figure)
"""


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """What a job of less than a second leaves."""
    folder = tmp_path_factory.mktemp("profile")
    sampler = Sampler(folder, ("algo-1",), milliseconds=50)
    while len([line for path in folder.rglob("*.json") for line in path.read_text().splitlines() if '"cpu0"' in line]) < 8:
        time.sleep(0.05)  # until it has looked again
    sampler.close()
    return folder


def test_a_plain_python_draws_the_profile_of_a_short_job(profile, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(CLIENT_PATH)}
    done = subprocess.run([sys.executable, "-c", DRAW, profile], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "drawn 200 ['Line', 'Scatter'] True", done.stderr


def test_a_module_is_changed_when_it_is_imported_or_at_once_if_it_has_been(tmp_path, monkeypatch):
    (tmp_path / "to_be_changed.py").write_text("value = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    changed = []
    imports.once_imported("to_be_changed", lambda module: changed.append(module.value))
    assert changed == []
    import to_be_changed  # noqa: F401

    imports.once_imported("to_be_changed", lambda module: changed.append("again"))
    assert changed == [1, "again"] and Path(to_be_changed.__file__).parent == tmp_path
    assert not any(isinstance(finder, imports.Watcher) and finder._name == "to_be_changed" for finder in sys.meta_path)
    monkeypatch.delitem(sys.modules, "to_be_changed")
