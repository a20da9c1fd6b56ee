"""Five ways to make a training job ill, and the rule that catches each: settings of our own job, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from opml.core import model
from opml.core.config import TrainConfig
from opml.core.sample import make_sample


@dataclass(frozen=True)
class Recipe:
    """One illness.

    Attributes
    ----------
    wrong : what is wrong, in words for the reader.
    changes : settings that differ from the healthy job's.
    images : images a class of another, smaller sample to train on (None: the healthy job's data).
    weights : makes the state dictionary to start from out of a healthy one (None: the seed's).
    """

    rule: str
    wrong: str
    changes: dict[str, Any] = field(default_factory=dict)
    images: int | None = None
    weights: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None

    def config(self, healthy: TrainConfig, folder: str | Path, classes: int = 10) -> TrainConfig:
        """The ill job's settings; what it needs (a sample, a weights file) is written into ``folder``."""
        folder, changes = (
            Path(folder),
            {"model_dir": str(Path(folder) / "model"), "output_dir": str(Path(folder) / "output"), **self.changes},
        )
        folder.mkdir(parents=True, exist_ok=True)
        if self.images:
            make_sample(folder / "data", classes, train=self.images, image_size=healthy.image_size)
            changes["data"] = str(folder / "data")
        if self.weights:
            network, _ = model.build(healthy.replace(weights="none"), classes)
            torch.save(self.weights(network.state_dict()), folder / "weights.pth")
            changes |= {"weights": str(folder / "weights.pth"), "freeze": "none"}
        return healthy.replace(**changes)


def uneven(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The scales of every second block's batch norms are 8 times too large: layers begin with very different variances."""
    return {name: 8 * value if ".1.bn" in name and name.endswith("weight") else value for name, value in state.items()}


RECIPES = {
    "vanishing": Recipe("VanishingGradient", "the learning rate is 10,000 times too large: units die, and gradients with them",
                        {"learning_rate": 10.0, "schedule": "constant"}),
    "overfit": Recipe("Overfit", "the training set is tiny (3 images a class), and nothing is augmented",
                      {"augment": False, "epochs": 10, "schedule": "constant"}, images=3),
    "overtrained": Recipe("Overtraining", "training goes on long after there is nothing left to learn",
                          {"epochs": 18, "augment": False}, images=8),
    "uneven": Recipe("PoorWeightInitialization", "the initial weights differ in scale from layer to layer", {"epochs": 1}, weights=uneven),
    "stuck": Recipe("LossNotDecreasing", "the learning rate is far too small, 1e-9: the loss stays where it was",
                    {"learning_rate": 1e-9, "augment": False, "batch_size": 1000, "epochs": 4}),
}  # fmt: skip
