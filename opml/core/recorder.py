"""Our own light recorder: what the rules need, written while training, with no smdebug.

Into its folder go lines of JSON, a few at a time and each whole, so that another process may follow. The figures are also kept in a
:class:`~opml.core.records.Record`, at which the rules look while training goes on. At default settings it costs less than 3 %
(``python -m opml bench recorder``).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from opml.core import dist, statistics, system
from opml.core.config import TrainConfig
from opml.core.observer import Observer
from opml.core.progress import say
from opml.core.records import EVAL, TRAIN, Record, Summary
from opml.core.sources import RECORD_FILE, take_line

LOSS = "CrossEntropyLoss_output_0"  # smdebug's name of the loss that the training loop computes
GRADIENT = "gradient/ResNet_"  # its names of gradients begin with the class of the network, of which ``model`` may be the tail
ACTIVITY = 10  # every tenth of these looks counts each neuron's activity, too: 4000 numbers, for a ResNet-18
SECONDS = 1.0  # between two samples of the system
CHECK, GROWTH = 50, 1.1  # steps from one judgement to the next, and their growth: judging all there is takes longer and longer


class Recorder(Observer):
    """Records one training job into ``folder``, and has it judged.

    Losses are recorded at each step; at each ``interval``-th step of training statistics of the gradients, and of the inputs of all
    ReLU layers. On a GPU the phases of a step are timed at these steps only, because timing them makes the host wait for the GPU.

    Parameters
    ----------
    folder : where ``record.jsonl`` is written; None: nowhere, as in all processes of a job but the first.
    interval : steps of training.
    seconds : between two samples of the system; 0: none are taken.
    judge : is given the record every now and then; when it returns True training stops early, on all processes.
    """

    def __init__(
        self,
        folder: str | Path | None,
        interval: int = TrainConfig.record_interval,
        seconds: float = SECONDS,
        judge: Callable[[Record], bool] | None = None,
    ):
        self.record, self.interval, self.seconds, self.judge = Record(), interval, seconds, judge
        self.folder = Path(folder) if folder is not None else None
        self._step, self._mode, self._mode_steps = -1, TRAIN, {TRAIN: -1, EVAL: -1}
        self._loaders: int | None = None
        self._losses: list[tuple[int, str, int, torch.Tensor]] = []
        self._samples: list[tuple] = []
        self._rows: list[list] = []
        self._summaries: dict[str, Summary] = {}
        self._looking, self._after_eval, self._over, self._next_check = False, False, False, CHECK
        self._lock, self._watch, self._file, self._hooks = threading.Lock(), None, None, []

    def loading(self, threads: int) -> None:
        self._loaders = threads

    def start(self, config: TrainConfig, model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: tuple[int, int]) -> None:
        self._model, self._cuda = model, next(model.parameters()).is_cuda
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = (self.folder / RECORD_FILE).open("w")  # a record of another run would be mixed up with this one's
        except OSError as error:
            self._give_up(error)
            return
        self._put([{"facts": self._facts(config)}])
        relus = [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.ReLU)]
        self._hooks = [module.register_forward_pre_hook(self._listener(name)) for name, module in relus]
        if self.seconds:
            self._watch = system.Watch(self.seconds, self._sampled)
            self._watch.start()

    def _facts(self, config: TrainConfig) -> dict[str, Any]:
        return {
            "instance": os.environ.get("SM_CURRENT_HOST", "algo-1"),
            "instances": dist.instances(),
            "cores": system.cores(),
            "loaders": config.workers or system.cores() if self._loaders is None else self._loaders,
            "batch_size": config.batch_size,
            "device": "gpu" if self._cuda else "cpu",
            "price_per_hour": config.price_per_hour,
        }

    def _listener(self, name: str) -> Callable:
        """Listens to one ReLU before it runs, since torchvision's overwrite their input; a module that is used twice counts its calls."""

        def listen(_, inputs: tuple) -> None:
            if self._looking:
                call = self._calls[name] = self._calls.get(name, -1) + 1
                if self._mode_steps[TRAIN] % (self.interval * ACTIVITY) == 0:
                    self._summaries[f"{name}_output_{call}"] = Summary(active=statistics.activity(inputs[0]))
                self._summaries |= statistics.summaries({f"{name}_input_{call}": inputs[0]})

        return listen

    def _sampled(self, timestamp: float, samples: list[system.Sample]) -> None:
        with self._lock:
            self._samples += [(round(timestamp, 3), *sample) for sample in samples]

    def phase(self, name: str) -> None:
        self._over = name == "test"  # the last look is no part of training
        self._after_eval = self._mode == EVAL and name == "train"
        self._mode = {"train": TRAIN, "eval": EVAL}.get(name, self._mode)

    def waiting(self) -> None:
        self._begun, self._last, self._parts = time.time(), time.perf_counter(), []

    def loaded(self) -> None:
        if self._over:
            return
        self._step += 1
        self._mode_steps[self._mode] += 1
        self._looking = self._mode == TRAIN and self._file is not None and self._mode_steps[TRAIN] % self.interval == 0
        self._calls: dict[str, int] = {}
        self._mark()

    def forward(self, loss: torch.Tensor) -> None:
        if self._over:
            return
        self._losses.append((self._step, self._mode, self._mode_steps[self._mode], loss.detach()))
        self._mark()

    def backward(self) -> None:
        self._mark()
        if self._looking:
            gradients = {GRADIENT + name: p.grad for name, p in self._model.named_parameters() if p.grad is not None}
            self._summaries |= statistics.summaries(gradients)
            self._last = time.perf_counter()  # looking at them is no part of the optimizer's time

    def _mark(self) -> None:
        """One phase is over. On a GPU it is over when the GPU is through with it."""
        if self._cuda and self._looking:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self._parts.append(None if self._cuda and not self._looking else round(now - self._last, 6))
        self._last = now

    def after_step(self) -> None:
        if self._over:
            return
        self._mark()
        if self._mode == EVAL:
            self._parts[1:] = [self._parts[1], None, None]
        whole = round(time.time() - self._begun, 6)
        self._rows.append([self._step, self._mode, round(self._begun, 6), *self._parts, whole])
        if self._looking or self._mode == EVAL:
            self.flush()
        self._looking = False
        if self._mode == TRAIN:
            self._check()

    def _check(self) -> None:
        """Have the record judged now and then, at the same steps on all processes."""
        due, self._after_eval = self._after_eval or self._mode_steps[TRAIN] >= self._next_check, False
        if not due or self.judge is None:
            return
        self._next_check = max(self._mode_steps[TRAIN] + CHECK, int(self._mode_steps[TRAIN] * GROWTH))
        self.flush()
        self.stop = dist.from_main(self._file is not None and self.judge(self.record))

    def flush(self) -> None:
        """Put what was gathered into the record and, as whole lines, into the file."""
        lines: list[dict[str, Any]] = []
        if self._losses:
            values = torch.stack([loss for *_, loss in self._losses]).tolist()  # one wait for the GPU, for all of them
            lines.append({"losses": [[*place, value] for (*place, _), value in zip(self._losses, values, strict=True)], "name": LOSS})
        if self._summaries:
            place = {"step": self._step, "mode": self._mode, "mode_step": self._mode_steps[self._mode]}
            lines.append({"tensors": {name: known(summary) for name, summary in self._summaries.items()}, **place})
        if self._rows:
            lines.append({"steps": self._rows})
        with self._lock:
            samples, self._samples = self._samples, []
        if samples:
            lines.append({"system": samples})
        self._losses, self._summaries, self._rows = [], {}, []
        self._put(lines)

    def _put(self, lines: list[dict[str, Any]]) -> None:
        if self._file is None:
            return
        for line in lines:
            take_line(self.record, line)
        try:
            self._file.write("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
            self._file.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """A full disk, mostly: training is worth more than its record."""
        say(f"{self.folder / RECORD_FILE} cannot be written ({error.strerror or error}), so nothing more is recorded: free some space")
        self._file = None

    def end(self, final: dict[str, float] | None) -> None:
        for hook in self._hooks:
            hook.remove()
        if self._watch:
            self._watch.end()
        self.flush()
        self._put([{"finished": True}])
        if self._file:
            self._file.close()
            self._file = None


def known(summary: Summary) -> dict[str, Any]:
    """The figures of a summary that were taken; activities in thousandths, which is what they are worth."""
    figures = {name: value for name, value in asdict(summary).items() if value is not None}
    if summary.active is not None:
        figures["active"] = [round(share, 3) for share in summary.active]
    return figures
