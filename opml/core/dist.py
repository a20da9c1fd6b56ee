"""One training job on many processes: join and part, who am I, how many are we, and sums over all."""

import atexit
import gc
import hashlib
import os
import re
import sys
import warnings

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from opml.core.config import BadConfig
from opml.core.lifeline import Lifeline
from opml.core.meeting import ALONE, JOIN_TIMEOUT, find_place, instances, meet, name_interface

BROKEN = re.compile(r"[Cc]onnection (closed|reset|refused)|[Bb]roken pipe|recvValue failed|[Rr]emote process exited|NCCL.*(abort|remote)")


class Lost(RuntimeError):
    """Another process of this job is gone, so this one cannot go on."""


_lifelines: list[Lifeline] = []  # of this process: one while it is joined with others, else none
_groups: list[distributed.ProcessGroup] = []  # that this process was ever in


def join(wanted: bool = True) -> None:
    """Become one of the processes of this job; does nothing if it has only one, or if that is not ``wanted``.

    Raises
    ------
    RuntimeError : the others were not there in time.
    """
    place = find_place() if wanted else ALONE
    if device().type == "cuda":
        torch.cuda.set_device(device())
    if place.world == 1:
        return
    name_interface()
    try:
        distributed.init_process_group(
            "nccl" if device().type == "cuda" else "gloo",
            **meet(place),
            rank=place.rank,
            world_size=place.world,
            timeout=JOIN_TIMEOUT,
        )
    except (distributed.DistError, OSError) as error:
        raise RuntimeError(
            f"process {place.rank} of {place.world} could not join the others at {place.meeting}: {error}; "
            "did all instances start, and may they talk to each other?"
        ) from error
    _groups.append(distributed.group.WORLD)
    atexit.register(_end_threads)
    _lifelines.append(Lifeline(distributed.distributed_c10d._get_default_store(), place.rank, place.world))


def fail(error: Exception) -> None:
    """Before this process ends with an error: tell the others why; or find out why the connection to them broke.

    Raises
    ------
    Lost : ``error`` says that the connection broke, and this says which process is gone.
    """
    if not _lifelines:
        return
    if isinstance(error, RuntimeError) and BROKEN.search(str(error)):
        raise Lost(_lifelines[0].reason()) from error
    _lifelines[0].say(str(error) or type(error).__name__)


def part(meet: bool = True) -> None:
    """From here on no process minds if another ends; they ``meet`` once more before they go."""
    while _lifelines:
        _lifelines.pop().stop()
    if meet and distributed.is_initialized():
        distributed.barrier()


def leave() -> None:
    """Part from the other processes, in whatever state they are."""
    while _lifelines:
        _lifelines.pop().stop()
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _end_threads() -> None:
    """End the threads that spoke with the others; they live as long as anything refers to the group, as DDP and tracebacks do.

    One that asks for Python while Python ends makes C++ abort the process: exit code -6 of a job that was done. The list's reference
    has to be the last one: where that is dropped the thread may still have Python, where DDP drops it not.
    """
    for name in ("last_value", "last_traceback"):
        sys.__dict__.pop(name, None)
    gc.collect()
    _groups.clear()


def check_joined(required: bool = False) -> str:
    """Whether this job's instances work together: a sentence for the log if they do not, else nothing.

    Any script may ask, once it has set up ``torch.distributed`` or should have.

    Raises
    ------
    BadConfig : they do not, and it is ``required``.
    """
    asked = max(instances(), int(os.environ.get("WORLD_SIZE", 1)))
    if world() >= asked:
        return ""
    what = f"{asked} instances or processes were asked for and {world() - 1 or 'nothing'} of them joined this one"
    what = f"this job has {asked} instances or processes, and nothing joins them" if world() == 1 else what
    sentence = f"{what}: each trains a copy of its own on all of the data, takes as long as one alone, and is paid for"
    if required:
        raise BadConfig(f"{sentence}; use --join True, or a script that calls torch.distributed.init_process_group")
    return f"WARNING: {sentence}"


def agree(what: str, value: str, words: str) -> None:
    """Make sure that all processes have the same value, say of a fingerprint; ``words`` describe it to a reader.

    Raises
    ------
    BadConfig : they have not; every process raises it.
    """
    everybody = everybodys((value, words))
    for other, (theirs, their_words) in enumerate(everybody):
        if theirs != everybody[0][0]:
            raise BadConfig(
                f"the processes of this job disagree about {what}: process 0 has {everybody[0][1]}, process {other} has {their_words}; "
                "give all of them the same (S3 data: FullyReplicated)"
            )


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the one process that prints and writes."""
    return rank() == 0


def device() -> torch.device:
    """The GPU of this process (torchrun's LOCAL_RANK), else the CPU."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")


def describe() -> str:
    """One line for the log: how many processes joined, and on what they compute."""
    gpus = torch.cuda.device_count()
    unused = f"; {gpus} GPUs are here and 1 is used: torchrun uses all" if gpus > 1 and "LOCAL_RANK" not in os.environ else ""
    threads = f" with {torch.get_num_threads()} threads" if gpus == 0 else ""
    together = f"{world()} processes joined ({distributed.get_backend()}), each" if world() > 1 else "1 process,"
    return f"{together} on {device().type}{threads}{unused}"


def gather_dealt(parts: list[torch.Tensor], groups: int, shape: tuple[int, ...]) -> torch.Tensor:
    """All groups in their order, on all ranks; rank r of N brought the groups r::N as ``parts``, each of ``shape``.

    Returns
    -------
    Tensor [groups * shape[0], *shape[1:]].
    """
    if world() == 1:
        return torch.cat(parts)
    slots = -(-groups // world())
    mine = torch.zeros(slots, *shape)
    for slot, part in enumerate(parts):
        mine[slot] = part
    mine = mine.to(device())
    dealt = [torch.empty_like(mine) for _ in range(world())]
    distributed.all_gather(dealt, mine)
    return torch.stack(dealt, dim=1).flatten(0, 2)[: groups * shape[0]].cpu()


def total(*numbers: float) -> list[float]:
    """Sums over all processes, in double precision."""
    sums = torch.tensor(numbers, dtype=torch.float64, device=device())
    if world() > 1:
        distributed.all_reduce(sums)
    return sums.tolist()


def from_main(value: object) -> object:
    """Rank 0's value, on all ranks."""
    values = [value]
    if world() > 1:
        distributed.broadcast_object_list(values, src=0, device=device())
    return values[0]


def everybodys(value: object) -> list:
    """The values of all ranks, on all ranks."""
    values = [value] * world()
    if world() > 1:
        distributed.all_gather_object(values, value)
    return values


def copy_from_main(model: torch.nn.Module) -> None:
    """Give all ranks rank 0's weights and batch-norm statistics (DDP would copy the weights only)."""
    if world() > 1:
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, src=0)


def wrap(model: torch.nn.Module) -> torch.nn.Module:
    """The model as DDP trains it, which averages the gradients over all ranks; the model itself if there is one process."""
    if world() == 1:
        return model
    with warnings.catch_warnings():  # the new name of broadcast_buffers is missing in the containers' older torch
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        # DDP puts gradients into other buckets after its first step unless it looks for unused ones; of more than two processes the order
        # of a sum, and so its last bit, depends on the bucket: a job that resumes would differ from one that went on.
        return DistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=world() > 2)


def average_buffers(model: torch.nn.Module) -> None:
    """Give all ranks the mean of their batch-norm statistics, which DDP leaves as each rank saw them."""
    if world() == 1:
        return
    for buffer in model.buffers():
        if buffer.is_floating_point():
            distributed.all_reduce(buffer)
            buffer /= world()


def fingerprint(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over the names and bytes of all tensors."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_equal(state: dict[str, torch.Tensor]) -> str:
    """The fingerprint of the weights, after making sure that all ranks hold the same.

    Raises
    ------
    RuntimeError : they differ, so they did not train one model.
    """
    mine = fingerprint(state)
    prints = everybodys(mine)
    if len(set(prints)) > 1:
        raise RuntimeError(f"the processes hold different weights, so they did not train one model: {', '.join(p[:12] for p in prints)}")
    return mine
