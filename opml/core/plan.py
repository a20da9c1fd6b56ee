"""What a job will do, decided from its settings and its weights: what is frozen, in which precision, and what is computed once."""

import torch

from opml.core import dist, features, images, trunk
from opml.core.batches import Photos
from opml.core.config import TrainConfig
from opml.core.inputs import Pictures
from opml.core.progress import Progress, say


def frozen_part(config: TrainConfig, source: str | None) -> str:
    """What ``--freeze`` comes to: without weights ``auto`` freezes nothing, because random features stay as they are for ever."""
    return config.freeze if config.freeze != "auto" else "none" if source is None else "backbone"


def describe(config: TrainConfig, source: str | None, freeze: str) -> str:
    """The line of the log about weights and what is frozen."""
    kept = {"none": "nothing is frozen", "backbone": "only its last layer is trained"}.get(freeze, f"it is frozen up to {freeze}")
    if source is not None:
        return f"{config.arch} starts from weights: {source}; {kept}"
    why = {"none": "none were asked for", "auto": "ImageNet's could not be had"}[config.weights]
    so = f"so {kept}" if freeze == "none" else f"{kept}; WARNING: --freeze {freeze} freezes random weights"
    return f"{config.arch} starts without pretrained weights ({why}), {so}"


def trained_in(config: TrainConfig, freeze: str, device: torch.device) -> torch.dtype:
    """The precision of what is trained: float32 for a head; for more of it mixed on a GPU, on a CPU float32 unless asked otherwise."""
    if freeze == "backbone":
        return torch.float32
    if config.precision == "auto":
        return trunk.DTYPES[trunk.fastest_precision(device) if device.type == "cuda" else "float32"]
    return trunk.DTYPES[config.precision]


def views(config: TrainConfig) -> int:
    """How many views of a training image go through the frozen part."""
    return config.views if config.augment else 1


def inputs(
    config: TrainConfig,
    network: torch.nn.Module,
    freeze: str,
    precision: str,
    photos: dict[str, Photos],
    device: torch.device,
    progress: Progress,
    whole: bool = False,
) -> tuple[features.Features | Pictures, torch.nn.Module]:
    """What the trained part sees, and the trained part: features computed once, or pictures in each epoch; the log says which, and why.

    Parameters
    ----------
    precision : of the frozen part, as :func:`frozen_in` or a checkpoint says: also float16, which no setting asks for.
    whole : an observer (smdebug's hook) sees only what runs through the network, so all of it must run in each step.
    """
    if freeze == "none":
        say("pictures go through the whole network in each epoch: nothing is frozen, so nothing can be computed once")
        return Pictures(photos, device, workers=config.workers), network.to(memory_format=torch.channels_last)
    body, tail = trunk.cut(network, freeze)
    body.requires_grad_(False)
    if whole:
        say(f"pictures go through the whole network in each epoch, though {freeze} is frozen: smdebug's hook sees nothing else")
        return Pictures(photos, device, workers=config.workers), network.to(memory_format=torch.channels_last)
    tail.to(memory_format=torch.channels_last)  # convolutions are faster in this layout
    frozen = trunk.Trunk(body, images.preprocessing(config.image_size), device, precision)
    if why := _why_not_once(config, frozen, photos):
        say(f"features computed in each epoch: {why} ({_how(config, freeze, frozen)})")
        return Pictures(photos, device, frozen, config.workers), tail
    return _once(config, frozen, photos, progress, _how(config, freeze, frozen)), tail


def frozen_in(config: TrainConfig, freeze: str, device: torch.device) -> str:
    """The precision of the frozen part; ``auto`` is measured by rank 0, so that all processes compute alike."""
    if config.precision != "auto" or freeze == "none":
        return config.precision
    return dist.from_main(trunk.fastest_precision(device) if dist.is_main() else "")


def _why_not_once(config: TrainConfig, frozen: trunk.Trunk, photos: dict[str, Photos]) -> str:
    if config.features == "each_epoch":
        return "--features each_epoch asks for it"
    need = features.bytes_needed(frozen, photos, views(config))
    return f"to keep them would take {need / 1e9:.1f} GB, at most {features.MOST / 1e9:.1f} GB are kept" if need > features.MOST else ""


def _how(config: TrainConfig, freeze: str, frozen: trunk.Trunk) -> str:
    seen = "no augmentation"
    if config.augment:
        seen = f"{config.views} views of each training image" if config.views > 1 else "one view of each image, --views N makes more"
    return f"{freeze} frozen, {seen}, {str(frozen.dtype).removeprefix('torch.')}"


def _once(config: TrainConfig, frozen: trunk.Trunk, photos: dict[str, Photos], progress: Progress, how: str) -> features.Features:
    count, begun = len(features.jobs(photos, views(config))), progress.seconds()
    say(f"features computed once ({how}): {count} pictures")
    done = features.extract(frozen, photos, views(config), lambda *numbers: progress.within("features", *numbers), config.workers)
    seconds = progress.seconds() - begun
    say(f"features of {count} pictures in {seconds:.2f} s, {count / seconds:.1f} images/s{progress.cost()}")
    return done
