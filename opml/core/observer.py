"""Who looks at a training job while it runs: the events of the loop, in their order."""

from collections.abc import Iterable, Iterator

import torch


class Observer:
    """Override what you want to see; every method is called in every process. The class itself looks at nothing.

    Order: loading, start; then phase("train"), for each step of it waiting, loaded, forward, backward, after_step; phase("eval"), for each
    of its steps waiting, loaded, forward, after_step; epoch. At last phase("test") and its steps, and end.
    """

    stop = False  # whether training should end early; the same in all processes
    whole = False  # whether each step must run through the whole network, also where a part of it is frozen

    def loading(self, threads: int) -> None:
        """So many threads of this process decode the batches; 0: none, the batches lie in memory."""

    def start(self, config, model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: tuple[int, int]) -> None:
        """Everything is built; ``model`` is the part of the network that is trained (its modules keep the network's names).

        ``steps`` are those of one epoch, in training and in validation.
        """

    def phase(self, name: str) -> None:
        """From now on ``train`` (gradients), ``eval`` (validation) or ``test``."""

    def waiting(self) -> None:
        """A batch is asked for."""

    def loaded(self) -> None:
        """It is here; another step begins."""

    def forward(self, loss: torch.Tensor) -> None:
        """``loss`` (detached) is the mean over this process's part of the batch."""

    def backward(self) -> None:
        """The gradients are computed, and not yet used."""

    def after_step(self) -> None:
        """The step is over; in training the weights are updated."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is over; its metrics by their names in ``core.metrics``."""

    def end(self, final: dict[str, float] | None) -> None:
        """The job is over; its final metrics, or None if it ends with an exception."""


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, *observers: Observer):
        self.observers = observers
        for name in ("loading", "start", "phase", "waiting", "loaded", "forward", "backward", "after_step", "epoch", "end"):
            setattr(self, name, self._all(name))

    def _all(self, name: str):
        methods = [getattr(observer, name) for observer in self.observers]

        def tell(*words) -> None:
            for method in methods:
                method(*words)

        return tell

    @property
    def stop(self) -> bool:
        """Whether one of them wants training to end."""
        return any(observer.stop for observer in self.observers)

    @property
    def whole(self) -> bool:
        """Whether one of them must see the whole network."""
        return any(observer.whole for observer in self.observers)


def steps(batches: Iterable, observer: Observer, until_stopped: bool = False) -> Iterator:
    """The batches of one phase, each as a step of which the observer is told; ``until_stopped``: it may end them."""
    source = iter(batches)
    while not (until_stopped and observer.stop):
        observer.waiting()
        try:
            batch = next(source)
        except StopIteration:
            return
        observer.loaded()
        yield batch
        observer.after_step()
