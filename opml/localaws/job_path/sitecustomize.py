"""Read by every Python that a training job starts: torch's rendezvous listens on loopback only, and Debugger's hook registers itself.

``TCPStore`` binds its port on all interfaces, whatever ``MASTER_ADDR`` says, and answers anybody. In AWS's network that is a job's own
affair; on this machine it would be open to the neighbours. It takes a socket that listens already, so it is given one.
The hook is for the images that had it, see ``zero_script_change``.
"""

import importlib.abc
import importlib.machinery
import os
import socket
import sys

RENDEZVOUS = "torch.distributed.rendezvous"
LOOPBACK = ("127.0.0.1", "localhost")


class Watcher(importlib.abc.MetaPathFinder):
    """Waits for the import of some modules; finds nothing itself. ``acts``: module name -> what to do with the module."""

    def __init__(self, acts: dict):
        self._acts = acts

    def find_spec(self, name, path=None, target=None):
        """The ordinary spec, whose loader acts on the module when it is done; None for every other module."""
        act = self._acts.pop(name, None)
        if act is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (run(module), act(module))
        return spec


def hook(nn) -> None:
    """Let smdebug's hook register itself."""
    import zero_script_change

    zero_script_change.install(nn)


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


ACTS = {RENDEZVOUS: tame}
if "OPML_ZERO_SCRIPT_CHANGE" in os.environ:
    ACTS["torch.nn"] = hook
sys.meta_path.insert(0, Watcher(ACTS))
