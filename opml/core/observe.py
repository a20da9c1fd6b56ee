"""What the training loop tells whoever listens, and may hear from them: stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch


class Observer:
    """Listens to a training job. This one does nothing; others override what they need.

    The order of calls: ``start``; then for each pass ``mode``, and for each step of it ``begin`` (a batch is asked for), ``loaded``,
    ``forward``, in training ``backward``, and ``end``; ``finish`` at last, also when training failed.
    """

    stop = False  # whether training should end early; the same on all processes of a job

    def start(self, network: torch.nn.Module, facts: dict[str, Any]) -> None:
        """Training begins: the network itself, not DDP's wrapper, and what is known of the job (see ``Record.facts``)."""

    def mode(self, mode: str) -> None:
        """What follows are steps of TRAIN or EVAL."""

    def begin(self) -> None:
        """A batch is asked for."""

    def loaded(self) -> None:
        """It is here."""

    def forward(self, loss: torch.Tensor) -> None:
        """The mean loss of this process's part of the batch is computed."""

    def backward(self) -> None:
        """The gradients are computed, and not yet used."""

    def end(self) -> None:
        """The step is over."""

    def finish(self) -> None:
        """Nothing more will come."""


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, *observers: Observer):
        self.observers = observers

    @property
    def stop(self) -> bool:
        """Whether one of them wants training to end."""
        return any(observer.stop for observer in self.observers)

    def start(self, network: torch.nn.Module, facts: dict[str, Any]) -> None:
        for observer in self.observers:
            observer.start(network, facts)

    def mode(self, mode: str) -> None:
        for observer in self.observers:
            observer.mode(mode)

    def begin(self) -> None:
        for observer in self.observers:
            observer.begin()

    def loaded(self) -> None:
        for observer in self.observers:
            observer.loaded()

    def forward(self, loss: torch.Tensor) -> None:
        for observer in self.observers:
            observer.forward(loss)

    def backward(self) -> None:
        for observer in self.observers:
            observer.backward()

    def end(self) -> None:
        for observer in self.observers:
            observer.end()

    def finish(self) -> None:
        for observer in self.observers:
            observer.finish()


def steps(batches: Iterable, observer: Observer) -> Iterator:
    """The batches of one pass, with word to the observer of each; ends early when it says stop."""
    source = iter(batches)
    while not observer.stop:
        observer.begin()
        try:
            batch = next(source)
        except StopIteration:
            return
        observer.loaded()
        yield batch
        observer.end()
