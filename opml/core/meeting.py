"""Where a process of a job stands, and where it meets the others."""

import ipaddress
import json
import os
import socket
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

from torch import distributed

JOIN_TIMEOUT = timedelta(minutes=10)  # instances of one job start, and have their data, minutes apart
DEFAULT_PORT = "7777"  # what SageMaker's training toolkit uses


class Place(NamedTuple):
    """Where this process stands: ``rank`` of ``world``, and the URL at which they meet."""

    rank: int
    world: int
    meeting: str


ALONE = Place(0, 1, "")


def find_place(env: dict[str, str] | None = None) -> Place:
    """Read this process's place from torchrun's variables, else from SageMaker's list of hosts; alone if there is neither."""
    env = os.environ if env is None else env
    hosts = json.loads(env.get("SM_HOSTS", "[]"))
    if "RANK" in env and "WORLD_SIZE" in env:  # torchrun holds MASTER_PORT open itself; env:// knows about that
        return Place(int(env["RANK"]), int(env["WORLD_SIZE"]), "env://")
    if len(hosts) > 1:
        meeting = f"tcp://{env.get('MASTER_ADDR', hosts[0])}:{env.get('MASTER_PORT', DEFAULT_PORT)}"
        return Place(hosts.index(env["SM_CURRENT_HOST"]), len(hosts), meeting)
    return ALONE


def instances() -> int:
    """How many instances the job was given, whether or not they work together."""
    return max(1, len(json.loads(os.environ.get("SM_HOSTS", "[]"))))


def meet(place: Place) -> dict:
    """Where ``init_process_group`` meets the others.

    Its own store listens on all interfaces and asks nobody who they are. Where all processes are on this machine it must not: rank 0
    hands it a socket that is bound to the loopback interface.
    """
    url = urlsplit(place.meeting)
    if url.scheme != "tcp" or not ipaddress.ip_address(socket.gethostbyname(url.hostname)).is_loopback:
        return {"init_method": place.meeting}
    options = {"world_size": place.world, "is_master": place.rank == 0, "timeout": JOIN_TIMEOUT}
    if place.rank == 0:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((url.hostname, url.port))
        options["master_listen_fd"] = listener.detach()  # the store closes it
    return {"store": distributed.TCPStore(url.hostname, url.port, **options)}


def name_interface() -> None:
    """Gloo guesses the network interface from the host's name; SageMaker says which one it is."""
    name = os.environ.get("SM_NETWORK_INTERFACE_NAME")
    if name in {known for _, known in socket.if_nameindex()}:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
