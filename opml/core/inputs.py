"""Pictures as inputs: decoded again in each epoch, for a network that changes under training."""

from collections.abc import Iterator

import torch

from opml.core import images, system
from opml.core.batches import Batch, Photos, Pick, read
from opml.core.trunk import Trunk


class Pictures:
    """Inputs of the whole network, or of the tail behind a trunk; has the iterator that ``features.Features`` has, too."""

    def __init__(self, photos: dict[str, Photos], device: torch.device, trunk: Trunk | None = None, workers: int = 0):
        self.photos, self.device, self.trunk, self.loaders = photos, device, trunk, workers or system.cores()

    def batches(self, split: str, picks: Iterator[list[Pick]]) -> Iterator[Batch]:
        """Inputs [n, ...] on the device, class numbers and weights of each list of picks."""
        for pixels, labels, weights in read(self.photos[split], picks, self.loaders):
            yield Batch(self._inputs(pixels, self.photos[split].numbers), labels, weights)

    def _inputs(self, pixels: torch.Tensor, numbers: dict) -> torch.Tensor:
        if self.trunk:
            return self.trunk(pixels)
        return images.to_input(pixels.to(self.device, non_blocking=True), numbers)
