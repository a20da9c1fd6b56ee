"""CloudWatch's statistics with percentiles, and with periods that begin where AWS's do."""

import re
from datetime import datetime, timedelta

from moto.cloudwatch import models, urls
from moto.cloudwatch.exceptions import InvalidParameterCombination, InvalidParameterValue
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult

PERCENTILE = re.compile(r"p(\d{1,2}(\.\d{1,10})?|100)")


def percentile(values: list[float], name: str) -> float:
    """The percentile called ``p90``, say, with linear interpolation between the two nearest values.

    Raises
    ------
    ValueError
        ``name`` is no percentile, or there are no values.
    """
    if not PERCENTILE.fullmatch(name) or not values:
        raise ValueError(f"no percentile {name} of {len(values)} values")
    ordered = sorted(values)
    place = float(name[1:]) / 100 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


class Statistics(models.Statistics):
    """moto's, which also knows percentiles of single values and of what `state.count_metric` kept."""

    @property
    def values(self) -> list[float]:
        """All values whose distribution is known."""
        kept = [value for datum in self.metric_aggregated_list for value in getattr(datum, "samples", ())]
        return [*self.metric_single_values_list, *kept]

    def get_statistics_for_type(self, stat: str):
        """Also ``p<number>``."""
        if PERCENTILE.fullmatch(stat):
            return percentile(self.values, stat) if self.values else None
        return super().get_statistics_for_type(stat)

    @property
    def extended_statistics(self) -> dict[str, float] | None:
        """Name -> value of the percentiles that were asked for."""
        return {name: percentile(self.values, name) for name in self.stats if PERCENTILE.fullmatch(name)} if self.values else None


def buckets(data: list, start: datetime, period: int) -> dict[datetime, list]:
    """The data by the beginning of their period, oldest first; periods begin at whole minutes (at whole periods below a minute)."""
    grid = timedelta(seconds=min(60, period))
    origin = start - (start - datetime.min) % grid
    step, found = timedelta(seconds=period), {}
    for datum in sorted(data, key=lambda one: one.timestamp):
        begin = origin + (datum.timestamp - origin) // step * step
        found.setdefault(begin, []).append(datum)
    return found


class CloudWatch(CloudWatchResponse):
    """moto's CloudWatch, with GetMetricStatistics as AWS has it."""

    def get_metric_statistics(self) -> ActionResult:
        """Statistics and percentiles of one metric."""
        names = [*(self._get_param("Statistics") or []), *(self._get_param("ExtendedStatistics") or [])]
        if not names:
            raise InvalidParameterCombination("Must specify either Statistics or ExtendedStatistics")
        for name in self._get_param("ExtendedStatistics") or []:
            if not PERCENTILE.fullmatch(name):
                raise InvalidParameterValue(f"The value {name} for parameter ExtendedStatistics is not supported.")
        points = []
        for begin, data in buckets(self._matching(), self._moment("StartTime"), self._get_int_param("Period")).items():
            point = Statistics(names, begin, data[0].unit)
            point.metric_data = data
            points.append(point)
        return ActionResult({"Label": self._get_param("MetricName"), "Datapoints": points})

    def _moment(self, name: str) -> datetime:
        return self._get_param(name).replace(microsecond=0, tzinfo=None)

    def _matching(self) -> list:
        start, end = self._moment("StartTime"), self._moment("EndTime")
        if start >= end:
            raise InvalidParameterValue("The parameter StartTime must be less than the parameter EndTime.")
        namespace, metric, unit = (self._get_param(name) for name in ("Namespace", "MetricName", "Unit"))
        dimensions = self._get_param("Dimensions") or []
        return [
            datum
            for datum in self.cloudwatch_backend.get_all_metrics()
            if datum.filter(namespace, metric, dimensions) and start <= datum.timestamp < end and unit in (None, datum.unit)
        ]


def install() -> None:
    """Put ours in the place of moto's; call before the first request."""
    models.Statistics = Statistics
    urls.url_paths["{0}/$"] = CloudWatch.dispatch
