"""Statistics of tensors on their device, cheap enough to be taken while training."""

from __future__ import annotations

import math

import torch

from opml.core.records import SAMPLE, Summary, stride

CANCELLED = 0.01  # of the mean square: a variance smaller than that is a difference of two sums of 32 bits of which little is left


def summaries(tensors: dict[str, torch.Tensor]) -> dict[str, Summary]:
    """A summary of each tensor, in three passes over it and one transfer from the device for all.

    Counts of zeros, the smallest and the largest element are those of tensors up to ``records.SAMPLE`` elements: looking at all of a
    large one again would cost as much as the rest. nan and inf are counted where a sum shows that there are any.
    """
    if not tensors:
        return {}
    with torch.no_grad():
        # Floats of 32 bits at least: sums of smaller ones overflow.
        wide = [each.detach() if each.dtype in (torch.float32, torch.float64) else each.detach().float() for each in tensors.values()]
        sums = torch.stack([_sums(each) for each in wide]).double().tolist()
    return {name: _summary(each, *of_it) for name, each, of_it in zip(tensors, wide, sums, strict=True)}


def _sample(tensor: torch.Tensor) -> torch.Tensor:
    """The elements that ``records.sample`` takes, whatever the memory layout is (channels last, mostly), without copying the tensor."""
    step = stride(tensor.numel())
    if tensor.is_contiguous():
        return tensor.view(-1)[::step]
    index, places = torch.arange(0, tensor.numel(), step, device=tensor.device), []
    for size in reversed(tensor.shape):
        places.append(index % size)
        index = index // size
    return tensor[tuple(reversed(places))]


def _sums(tensor: torch.Tensor) -> torch.Tensor:
    """Mean, mean of absolute values, root of the sum of squares, 5th and 95th percentile, smallest, largest, number of zeros."""
    ordered = _sample(tensor).sort().values
    last = ordered.numel() - 1
    marks = [_between(ordered, 0.05 * last), _between(ordered, 0.95 * last), ordered[0], ordered[-1]]
    zeros = (ordered == 0).sum().to(tensor.dtype)
    norms = [tensor.abs().mean(), torch.linalg.vector_norm(tensor, 2)]  # vector_norm(tensor, 1) takes twice the time
    return torch.stack([tensor.mean(), *norms, *marks, zeros])


def _between(ordered: torch.Tensor, place: float) -> torch.Tensor:
    """Linear interpolation, as numpy's percentile."""
    low = int(place)
    high = min(low + 1, ordered.numel() - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _summary(tensor: torch.Tensor, mean, absolute, l2, p5, p95, low, high, zeros) -> Summary:
    size = tensor.numel()
    whole, finite = size <= SAMPLE, absolute - absolute == 0
    nan = 0 if finite else int(tensor.isnan().sum())
    inf = 0 if finite else int(tensor.isinf().sum())
    std = math.nan if nan or inf else _deviation(tensor, mean, l2)
    return Summary(
        mean=mean, std=std, abs_mean=absolute, l2=l2, p5=p5, p95=p95,
        min=low if whole else None, max=high if whole else None, zeros=size if absolute == 0 else int(zeros) if whole else None,
        nan=nan, inf=inf, size=size,
    )  # fmt: skip


def _deviation(tensor: torch.Tensor, mean: float, l2: float) -> float:
    """The standard deviation, from the sums where they have enough digits for it: else, which is rare, in a pass of its own."""
    square = l2 * l2 / tensor.numel()
    variance = square - mean * mean
    if variance > CANCELLED * square:
        return variance**0.5
    return tensor.double().std(correction=0).item() if l2 > 0 and tensor.numel() > 1 else 0.0


def activity(tensor: torch.Tensor) -> tuple[float, ...]:
    """For each neuron (a channel, of feature maps [n, c, h, w]) the share of its samples that are above 0."""
    with torch.no_grad():
        above = (tensor > 0).to(torch.float32)
        return tuple(above.mean(dim=[0, *range(2, tensor.dim())]).tolist())
