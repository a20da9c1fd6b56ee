"""What an observer costs: the same steps with and without it, in turns, so that whatever else slows the machine slows both."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Sequence

import torch
import torchvision
from torch.nn import functional

from opml.core import hook
from opml.core.config import TrainConfig
from opml.core.judge import Judge, parameters
from opml.core.observer import Observer, steps
from opml.core.recorder import Recorder

Seconds = tuple[float, float]
EPOCH = 40  # steps between two passes of validation, for the rules


def main(arguments: Sequence[str]) -> int:
    """``watcher pairs steps image_size batch_size``: prints the ratios as one JSON line."""
    watcher, *numbers = arguments
    pairs, length, image_size, batch_size = (int(number) for number in numbers)
    with tempfile.TemporaryDirectory() as folder:
        bare = _Run(Observer(), image_size, batch_size)
        watched = _Run(_observer(watcher, folder), image_size, batch_size)
        for run in (bare, watched):
            run.stretch(length)  # the first steps of a process are slow
        times = [_pair(bare, watched, length, number % 2 == 1) for number in range(pairs)]
        watched.observer.end(None)
    walls, processors = ([seen[kind] / unseen[kind] for unseen, seen in times] for kind in (0, 1))
    without = statistics.median(unseen[0] for unseen, _ in times) / length
    print(json.dumps({"ratios": walls, "cpu_ratios": processors, "ms_per_step_without": 1000 * without}))
    return 0


def _observer(watcher: str, folder: str) -> Observer:
    if watcher == "recorder":
        return Recorder(folder, judge=Judge(parameters(EPOCH, 2, 3), folder, say=lambda line: None))
    if watcher == "hook":
        return hook.SmdebugHook(hook.write_configuration(folder))
    return Observer()


def _pair(bare: _Run, watched: _Run, length: int, turned: bool) -> tuple[Seconds, Seconds]:
    """Times of one stretch (without, with); every second time the other goes first."""
    first, second = (watched, bare) if turned else (bare, watched)
    one, other = first.stretch(length), second.stretch(length)
    return (other, one) if turned else (one, other)


class _Run:
    """A ResNet-18 in training on noise: what the pictures are does not matter to the time."""

    def __init__(self, observer: Observer, image_size: int, batch_size: int):
        generator = torch.Generator().manual_seed(0)
        pictures = torch.randn(batch_size, 3, image_size, image_size, generator=generator)
        self.pictures = pictures.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(0, 10, (batch_size,), generator=generator)
        self.network = torchvision.models.resnet18(num_classes=10).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, fused=True)
        self.observer = observer
        observer.start(TrainConfig(), self.network, self.optimizer, (EPOCH, 2))
        observer.phase("train")

    def stretch(self, length: int) -> Seconds:
        """Train for some steps; seconds by the clock, and of the processor, which other processes do not lengthen as much."""
        begun = time.perf_counter(), time.process_time()
        for _ in steps(range(length), self.observer):
            loss = functional.cross_entropy(self.network(self.pictures), self.labels)
            self.observer.forward(loss.detach())
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.observer.backward()
            self.optimizer.step()
        return time.perf_counter() - begun[0], time.process_time() - begun[1]
