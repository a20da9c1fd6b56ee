"""The store at which the processes of one job meet, as torch opens it."""

import os
import socket

import psutil

from opml.core import meeting


def test_processes_of_one_machine_meet_on_the_loopback_interface_only():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    met = meeting.meet(meeting.Place(0, 1, f"tcp://127.0.0.1:{port}"))
    listening = [c.laddr for c in psutil.Process(os.getpid()).net_connections() if c.status == psutil.CONN_LISTEN and c.laddr.port == port]
    assert [address.ip for address in listening] == ["127.0.0.1"]
    met["store"].set("key", "value")
    assert met["store"].get("key") == b"value"


def test_processes_of_several_machines_meet_as_torch_does(monkeypatch):
    monkeypatch.setattr(socket, "gethostbyname", lambda _name: "10.0.0.7")
    assert meeting.meet(meeting.Place(1, 2, "tcp://algo-1:7777")) == {"init_method": "tcp://algo-1:7777"}
    assert meeting.meet(meeting.Place(1, 2, "env://")) == {"init_method": "env://"}
