"""Who watches a training job: our recorder with its rules, and smdebug's hook where the job has a configuration of it."""

from __future__ import annotations

from pathlib import Path

import torch

from opml.core import dist, hook
from opml.core.config import TrainConfig
from opml.core.judge import Judge, parameters
from opml.core.observer import Observer, Observers
from opml.core.progress import say
from opml.core.recorder import Recorder
from opml.core.report import write_report

REPORT_FILE = "report.html"
FOLDER = "record"  # of the record, in the job's output folder


def observers(config: TrainConfig) -> Observer:
    """The observers that the settings and the job's configuration files ask for, now that all processes have joined.

    Only the first process writes; all of them run through the whole network if that one's hook needs it.
    """
    watching: list[Observer] = [Watch(config)] if config.record else []
    smdebug = hook.observer(say) if dist.is_main() else None
    if dist.from_main(smdebug is not None):
        watching.append(smdebug or _Follower())
    return Observers(*watching)


def end(observer: Observer, final: dict[str, float] | None) -> None:
    """Have the observers end. Where the job ends with an error (``final`` is None), that one counts: theirs is only said."""
    try:
        observer.end(final)
    except Exception as error:
        if final is not None:
            raise
        say(f"WARNING: what watched this job ended with {type(error).__name__}: {error}")


class _Follower(Observer):
    """Beside a process with smdebug's hook: does as that one does."""

    whole = True


class Watch(Recorder):
    """The recorder of one training job, the judge of what it records, and the report at its end."""

    def __init__(self, config: TrainConfig):
        self.config, output = config, Path(config.output_dir)
        super().__init__(output / FOLDER if dist.is_main() else None, config.record_interval)
        self.judge = Judge({}, output, config.on_finding, say)

    def start(self, config: TrainConfig, model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: tuple[int, int]) -> None:
        self.judge.rules = parameters(*steps, config.epochs)
        super().start(config, model, optimizer, steps)

    def end(self, final: dict[str, float] | None) -> None:
        """Close the record; the verdicts of all rules, and the report."""
        super().end(final)
        if not self.record.times:
            return  # it ended before its first step: there is nothing to judge
        verdicts = self.judge.conclude(self.record)
        path = Path(self.config.output_dir, REPORT_FILE)
        title = f"Training report: {self.config.arch}, {self.config.epochs} epochs"
        try:
            write_report(self.record, verdicts.values(), path, title=title, price_per_hour=self.config.price_per_hour or None)
            say(f"report: {path}")
        except OSError as error:  # the job's own end is worth more
            say(f"the report {path} cannot be written ({error.strerror or error}): free some space")
