"""Five ways to make a training job ill, and the rule that catches each: settings of our own job, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opml.core.config import TrainConfig
from opml.core.sample import make_sample


@dataclass(frozen=True)
class Recipe:
    """One illness.

    Attributes
    ----------
    rule : the rule that catches it.
    wrong : what is wrong, in words for the reader.
    changes : settings that differ from the healthy job's.
    images : training images a class of another, smaller sample (None: the healthy job's data).
    """

    rule: str
    wrong: str
    changes: dict[str, Any] = field(default_factory=dict)
    images: int | None = None

    def config(self, healthy: TrainConfig, **more: Any) -> TrainConfig:
        """The ill job's settings; ``more`` counts most."""
        return healthy.replace(**{**self.changes, **more})

    def data(self, folder: str | Path, classes: int = 10) -> Path | None:
        """The smaller sample, drawn into ``folder``; None if the job is ill on the healthy one's data."""
        return make_sample(folder, classes, train=self.images, valid=4, test=4) if self.images else None


RECIPES = {
    "vanishing": Recipe("VanishingGradient", "the learning rate is 10,000 times too large: units die, and gradients with them",
                        {"learning_rate": 10.0, "schedule": "constant", "epochs": 5}),
    "overfit": Recipe("Overfit", "the training set is tiny (3 images a class), and nothing is augmented",
                      {"augment": False, "epochs": 13, "batch_size": 8, "schedule": "constant"}, images=3),
    "overtrained": Recipe("Overtraining", "training goes on long after there is nothing left to learn",
                          {"epochs": 16, "augment": False, "schedule": "onecycle"}, images=8),
    "uneven": Recipe("PoorWeightInitialization", "the initial weights differ in scale from layer to layer",
                     {"init": "uneven", "epochs": 5}),
    "stuck": Recipe("LossNotDecreasing", "the learning rate is far too small, 1e-9: the loss stays where it was",
                    {"learning_rate": 1e-9, "augment": False, "batch_size": 1000, "epochs": 4}),
}  # fmt: skip
