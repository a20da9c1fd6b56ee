"""CloudWatch's percentiles and periods as arithmetic."""

from datetime import datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from opml.localaws.metrics_api import buckets, percentile


@pytest.mark.parametrize("name", ["p0", "p50", "p90", "p99", "p99.9", "p100"])
def test_percentiles_are_numpys(name):
    values = list(np.random.default_rng(0).exponential(size=57))
    assert percentile(values, name) == pytest.approx(np.percentile(values, float(name[1:])))


@pytest.mark.parametrize("name", ["p101", "tm99", "p", "90"])
def test_what_is_no_percentile_is_refused(name):
    with pytest.raises(ValueError, match="no percentile"):
        percentile([1.0], name)


def test_periods_begin_at_whole_minutes():
    start = datetime(2026, 11, 21, 10, 0, 30)
    data = [SimpleNamespace(timestamp=start + timedelta(seconds=offset)) for offset in (29, 30, 100)]
    found = buckets(data, start, 60)
    assert [(begin.minute, begin.second, len(group)) for begin, group in found.items()] == [(0, 0, 1), (1, 0, 1), (2, 0, 1)]
