"""A metric is the line it prints and the regular expression that reads it (standard library only)."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One number of the log: ``name`` as SageMaker shows it, ``label`` as the line prints it."""

    name: str
    label: str
    direction: str = "Minimize"  # what a tuner does with it: Minimize or Maximize

    def line(self, value: float) -> str:
        """The text that carries the value; nine significant digits, so that reading it back loses nothing of a float32."""
        return f"{self.label}={value:.9g};"

    @property
    def regex(self) -> str:
        """The expression with one group that SageMaker applies to each line of the job's log."""
        return re.escape(self.label).replace(r"\ ", " ") + r"=([-+0-9.eE]+|nan|inf|-inf);"

    def definition(self) -> dict[str, str]:
        """The entry of an estimator's ``metric_definitions``."""
        return {"Name": self.name, "Regex": self.regex}

    def read(self, text: str) -> list[float]:
        """All values of this metric in a log, in order."""
        return [float(value) for value in re.findall(self.regex, text)]


TRAIN_LOSS = Metric("train:loss", "train loss")
VALID_LOSS = Metric("validation:loss", "validation loss")
VALID_ACCURACY = Metric("validation:accuracy", "validation accuracy", "Maximize")
TEST_LOSS = Metric("test:loss", "test loss")
TEST_ACCURACY = Metric("test:accuracy", "test accuracy", "Maximize")
METRICS = (TRAIN_LOSS, VALID_LOSS, VALID_ACCURACY, TEST_LOSS, TEST_ACCURACY)


def read_history(log: str) -> list[tuple[str, float, int]]:
    """Every metric value in a log as (metric, value, epoch); the best epoch's, printed twice, count once; test's belong to that epoch."""
    rows, epoch = [], 0
    for line in log.splitlines():
        if said := re.search(r"(best )?epoch (\d+)(?:/\d+)?: ", line):
            epoch = int(said.group(2))
        if not (said and said.group(1)):
            rows += [(metric.name, value, epoch) for metric in METRICS for value in metric.read(line)]
    return rows
