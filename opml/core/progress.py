"""What a job says while it runs: from one process only, at once, and with its speed, the time left and what it has cost."""

import time

from opml.core import dist

REPORT_EVERY = 15.0  # seconds between two lines within an epoch: a slow job is seen to live, a quick one does not flood the log


def say(text: str) -> None:
    """A line of the job's log, from one process only, and at once: the reader may be waiting."""
    if dist.is_main():
        print(text, flush=True)


class Progress:
    """The clock of a job.

    Parameters
    ----------
    price_per_hour : of one instance, USD; 0 if it is not known, and then no cost is shown.
    """

    def __init__(self, price_per_hour: float = 0.0):
        self.price, self.started, self.spoken = price_per_hour * dist.instances(), time.perf_counter(), time.perf_counter()

    def seconds(self) -> float:
        """Since the job began to work."""
        return time.perf_counter() - self.started

    def cost(self) -> str:
        """What the job has cost so far, in words; nothing if nobody said what an hour costs."""
        return f", {self.price * self.seconds() / 3600:.4f} USD so far" if self.price else ""

    def within(self, what: str, done: int, everything: int, seconds: float, before: int = 0) -> None:
        """A line now and then within long work: ``done`` of ``everything`` images, all but ``before`` of them in ``seconds``."""
        if time.perf_counter() - self.spoken > REPORT_EVERY:
            self.spoken = time.perf_counter()
            rate = (done - before) / seconds
            left = (everything - done) / rate
            say(f"{what}: {done} of {everything} images, {rate:.0f} images/s, about {left:.0f} s left{self.cost()}")
