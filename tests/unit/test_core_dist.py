"""opml.core.dist: who am I, and how many are we."""

import json
import os
import socket

import pytest
import torch

from opml.core import dist

HOSTS = {"SM_HOSTS": json.dumps(["algo-1", "algo-2"]), "SM_CURRENT_HOST": "algo-2"}


@pytest.mark.parametrize(
    "env, place",
    [
        ({}, (0, 1, "")),
        ({"SM_HOSTS": '["algo-1"]', "SM_CURRENT_HOST": "algo-1"}, (0, 1, "")),
        (HOSTS, (1, 2, "tcp://algo-1:7777")),
        (HOSTS | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "4242"}, (1, 2, "tcp://127.0.0.1:4242")),
        (HOSTS | {"RANK": "3", "WORLD_SIZE": "8"}, (3, 8, "env://")),
    ],
    ids=["alone", "one instance", "two instances", "another port", "torchrun on two instances"],
)
def test_a_process_finds_its_place(env, place):
    assert dist.find_place(env) == place


def test_alone_one_joins_nobody(monkeypatch):
    for name in ("SM_HOSTS", "RANK"):
        monkeypatch.delenv(name, raising=False)
    dist.join()
    assert (dist.rank(), dist.world(), dist.is_main()) == (0, 1, True)
    assert dist.total(1, 2.5) == [1.0, 2.5]
    dist.leave()


def test_an_interface_that_this_machine_lacks_is_not_named_to_gloo(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("SM_NETWORK_INTERFACE_NAME", "no-such-0")
    dist._name_interface()
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    monkeypatch.setenv("SM_NETWORK_INTERFACE_NAME", socket.if_nameindex()[0][1])
    dist._name_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == socket.if_nameindex()[0][1]
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")


def test_a_fingerprint_sees_the_last_bit_of_a_weight():
    weights = {"w": torch.ones(3)}
    changed = {"w": torch.tensor([1.0, 1.0, 1.0 + 2**-23])}
    assert dist.fingerprint(weights) == dist.fingerprint({"w": torch.ones(3)}) != dist.fingerprint(changed)
