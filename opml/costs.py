"""A dated price table and its arithmetic. Every number here is USD, us-east-1, on demand, before tax.

Prices change. The table says when it was read (``AS_OF``) and from where (``SOURCE``), and every amount prints that date.
The binding numbers are on AWS's own price pages and, after the fact, in the account's bill.
"""

import math
from dataclasses import dataclass

import pandas as pd

from opml.errors import BadInput

AS_OF = "2026-09-24"
SOURCE = "AWS public price files (SageMaker, EC2), us-east-1, on demand"
HOURS_A_MONTH = 730  # 365 * 24 / 12, what AWS's own calculator uses

S3_GB_MONTH = 0.023  # Standard class
LAMBDA_GB_SECOND = 0.0000166667  # x86
LAMBDA_REQUEST = 0.20e-6


class Usd(float):
    """An amount in USD that prints with the date of its price."""

    def __str__(self) -> str:
        digits = 2 if abs(self) >= 1 else 4
        return f"{float(self):.{digits}f} USD (prices of {AS_OF})"

    __repr__ = __str__


@dataclass(frozen=True)
class Price:
    """One instance type: what it has and what an hour costs, USD."""

    vcpu: int
    memory_gib: int
    usd_hour: float
    use: str


PRICES: dict[str, Price] = {
    "ml.t3.medium": Price(2, 4, 0.050, "notebook; burstable"),
    "ml.t2.medium": Price(2, 4, 0.056, "endpoint; burstable, so it cannot scale"),
    "ml.m5.large": Price(2, 8, 0.115, "endpoint, training"),
    "ml.m5.xlarge": Price(4, 16, 0.230, "training, endpoint"),
    "ml.m5.2xlarge": Price(8, 32, 0.461, "training, endpoint"),
    "ml.m7i.xlarge": Price(4, 16, 0.242, "training, endpoint"),
    "ml.c7i.xlarge": Price(4, 8, 0.214, "training, endpoint"),
    "ml.g4dn.xlarge": Price(4, 16, 0.736, "training; one T4 GPU, 16 GB; quota 0 in new accounts"),
    "ml.g6.xlarge": Price(4, 16, 1.127, "training; one L4 GPU, 24 GB"),
    "ml.g5.xlarge": Price(4, 16, 1.408, "training; one A10G GPU, 24 GB"),
    "t3.medium": Price(2, 4, 0.0416, "burstable"),
    "t3.xlarge": Price(4, 16, 0.1664, "burstable"),
    "t2.xlarge": Price(4, 16, 0.1856, "burstable; price not confirmed"),
    "c7i.xlarge": Price(4, 8, 0.1785, "CPU training"),
    "m5.xlarge": Price(4, 16, 0.192, "CPU training; price not confirmed"),
    "m7i.xlarge": Price(4, 16, 0.2016, "CPU training"),
    "g4dn.xlarge": Price(4, 16, 0.526, "one T4 GPU, 16 GB; spot seen at 0.2204"),
    "g5.xlarge": Price(4, 16, 1.006, "one A10G GPU, 24 GB; spot seen at 0.5006"),
}


def price(instance_type: str) -> Price:
    """The table's entry of an instance type.

    Raises
    ------
    BadInput
        The table has no price of it.
    """
    if instance_type not in PRICES:
        raise BadInput(f"no price of {instance_type!r} in the table of {AS_OF}: choose one of {', '.join(PRICES)}")
    return PRICES[instance_type]


def hourly(instance_type: str) -> Usd:
    """What one instance costs in an hour, USD. SageMaker types start with ``ml.``, all others are EC2's."""
    return Usd(price(instance_type).usd_hour)


def job_cost(instance_type: str, seconds: float, count: int = 1) -> Usd:
    """What a training job costs, USD: instances x billable seconds (AWS bills by the second).

    Parameters
    ----------
    seconds : float
        The job's billable seconds (``BillableTimeInSeconds``), of one instance.
    count : int
        Number of instances; each is billed for the whole time.
    """
    _not_negative(seconds=seconds, count=count)
    return Usd(hourly(instance_type) * seconds / 3600 * count)


def endpoint_month(instance_type: str, count: int = 1) -> Usd:
    """What an endpoint costs that stands for a month of 730 hours, USD, whether it is called or not."""
    _not_negative(count=count)
    return Usd(hourly(instance_type) * HOURS_A_MONTH * count)


def lambda_cost(requests: int, seconds: float, memory_mb: int) -> Usd:
    """What a function's calls cost, USD, without the free tier: memory x time, plus a price for each request.

    Parameters
    ----------
    seconds : float
        Mean billed duration of one call.
    """
    _not_negative(requests=requests, seconds=seconds, memory_mb=memory_mb)
    return Usd(requests * (seconds * memory_mb / 1024 * LAMBDA_GB_SECOND + LAMBDA_REQUEST))


def table(family: str = "ml.") -> pd.DataFrame:
    """The prices as a table, cheapest first: SageMaker's (``ml.``) or those of EC2 (``ec2``)."""
    chosen = {name: p for name, p in PRICES.items() if name.startswith("ml.") == (family == "ml.")}
    rows = [
        {"instance": name, "vCPU": p.vcpu, "memory (GiB)": p.memory_gib, "USD/hour": p.usd_hour, "use": p.use, "as of": AS_OF}
        for name, p in sorted(chosen.items(), key=lambda item: item[1].usd_hour)
    ]
    return pd.DataFrame(rows).set_index("instance")


def _not_negative(**numbers: float) -> None:
    for name, value in numbers.items():
        if not (math.isfinite(value) and value >= 0):
            raise BadInput(f"{name} must be 0 or more, not {value}")
