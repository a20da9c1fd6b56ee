"""Statistics of tensors on their device, cheap enough to be taken while training."""

from __future__ import annotations

import torch

from opml.core.records import SAMPLE, Summary


def summaries(tensors: dict[str, torch.Tensor]) -> dict[str, Summary]:
    """A summary of each tensor, in three passes over it and one transfer from the device for all.

    Counts of zeros, the smallest and the largest element are those of tensors up to ``records.SAMPLE`` elements: looking at all of a
    large one again would cost as much as the rest. nan and inf are counted where a sum shows that there are any.
    """
    if not tensors:
        return {}
    with torch.no_grad():
        flat = [_flat(tensor) for tensor in tensors.values()]
        sums = torch.stack([_sums(each) for each in flat]).double().tolist()
    return {name: _summary(each, *of_it) for name, each, of_it in zip(tensors, flat, sums, strict=True)}


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """All elements in one row, in memory order if that is another (channels last): no copy. Floats of 32 bits at least."""
    tensor = tensor.detach()
    tensor = tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
    if tensor.is_contiguous():
        return tensor.view(-1)
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1).reshape(-1)
    return tensor.reshape(-1)


def _sums(flat: torch.Tensor) -> torch.Tensor:
    """Mean, sum of absolute values, root of the sum of squares, 5th and 95th percentile, smallest, largest, number of zeros."""
    ordered = flat[:: -(-flat.numel() // SAMPLE)].sort().values
    last = ordered.numel() - 1
    marks = [_between(ordered, 0.05 * last), _between(ordered, 0.95 * last), ordered[0], ordered[-1]]
    zeros = (ordered == 0).sum().to(flat.dtype)
    norms = [torch.linalg.vector_norm(flat, 1), torch.linalg.vector_norm(flat, 2)]
    return torch.stack([flat.mean(), *norms, *marks, zeros])


def _between(ordered: torch.Tensor, place: float) -> torch.Tensor:
    """Linear interpolation, as numpy's percentile."""
    low = int(place)
    high = min(low + 1, ordered.numel() - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _summary(flat: torch.Tensor, mean, absolute, l2, p5, p95, low, high, zeros) -> Summary:
    size = flat.numel()
    whole, finite = size <= SAMPLE, absolute - absolute == 0
    nan = 0 if finite else int(flat.isnan().sum())
    inf = 0 if finite else int(flat.isinf().sum())
    return Summary(
        mean=mean, std=max(0.0, l2 * l2 / size - mean * mean) ** 0.5, abs_mean=absolute / size, l2=l2, p5=p5, p95=p95,
        min=low if whole else None, max=high if whole else None, zeros=size if absolute == 0 else int(zeros) if whole else None,
        nan=nan, inf=inf, size=size,
    )  # fmt: skip


def activity(tensor: torch.Tensor) -> tuple[float, ...]:
    """For each neuron (a channel, of feature maps [n, c, h, w]) the share of its samples that are above 0."""
    with torch.no_grad():
        above = (tensor > 0).to(torch.float32)
        return tuple(above.mean(dim=[0, *range(2, tensor.dim())]).tolist())
