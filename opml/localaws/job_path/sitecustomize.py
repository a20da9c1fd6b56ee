"""Read by every Python that a training job starts: torch's rendezvous listens on loopback only.

``TCPStore`` binds its port on all interfaces, whatever ``MASTER_ADDR`` says, and answers anybody. In AWS's network that is a job's own
affair; on this machine it would be open to the neighbours. It takes a socket that listens already, so it is given one.
"""

import importlib.abc
import importlib.machinery
import socket
import sys

RENDEZVOUS = "torch.distributed.rendezvous"
LOOPBACK = ("127.0.0.1", "localhost")


class Watcher(importlib.abc.MetaPathFinder):
    """Waits for the import of torch's rendezvous; finds nothing itself."""

    def find_spec(self, name, path=None, target=None):
        """The ordinary spec, whose loader calls ``tame`` when it is done; None for every other module."""
        if name != RENDEZVOUS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (run(module), tame(module))
        return spec


def tame(rendezvous) -> None:
    """Put a store that listens on loopback in the place of torch's."""
    store = rendezvous.TCPStore

    class TCPStore(store):
        """torch's own store; its server listens on 127.0.0.1 if that is the address that it was given."""

        def __init__(self, host_name, port, world_size=None, is_master=False, *rest, **options):
            if is_master and host_name in LOOPBACK and len(rest) < 4 and options.get("master_listen_fd") is None:
                listening = listen(port)
                if listening is not None:
                    port = listening.getsockname()[1]
                    options["master_listen_fd"] = listening.detach()
            super().__init__(host_name, port, world_size, is_master, *rest, **options)

    rendezvous.TCPStore = sys.modules["torch.distributed"].TCPStore = TCPStore


def listen(port: int) -> socket.socket | None:
    """A socket that listens on loopback; None if the port is taken, as by an earlier store of this process, which torch then shares."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        return None
    sock.listen(2048)
    return sock


sys.meta_path.insert(0, Watcher())
