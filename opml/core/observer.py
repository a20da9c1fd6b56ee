"""Who looks at a training job while it runs: the events of the loop, in their order. The class itself looks at nothing."""

import torch


class Observer:
    """Override what you want to see; every method is called in every process.

    Order: start, then for each epoch phase("train"), (before_step, after_step) for each step, phase("eval"), epoch; at last end.
    """

    def start(self, config, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Everything is built; ``model`` is the part of the network that is trained (its modules keep the network's names)."""

    def phase(self, name: str) -> None:
        """From now on ``train`` (gradients) or ``eval`` (validation and test)."""

    def before_step(self, step: int) -> None:
        """A batch is ready; ``step`` counts from 0 over all epochs."""

    def after_step(self, step: int, loss: torch.Tensor) -> None:
        """The weights are updated, the gradients still there; ``loss`` (detached) is this process's part of the batch's mean."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is over; its metrics by their names in ``core.metrics``."""

    def end(self, final: dict[str, float] | None) -> None:
        """The job is over; its final metrics, or None if it ends with an exception."""
