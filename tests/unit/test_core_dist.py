"""opml.core.dist: who am I, and how many are we."""

import json
import os
import socket

import pytest
import torch

from opml.core import dist, meeting
from opml.core.config import BadConfig

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
    assert meeting.find_place(env) == place


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
    meeting.name_interface()
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    monkeypatch.setenv("SM_NETWORK_INTERFACE_NAME", socket.if_nameindex()[0][1])
    meeting.name_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == socket.if_nameindex()[0][1]
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")


def test_a_fingerprint_sees_the_last_bit_of_a_weight():
    weights = {"w": torch.ones(3)}
    changed = {"w": torch.tensor([1.0, 1.0, 1.0 + 2**-23])}
    assert dist.fingerprint(weights) == dist.fingerprint({"w": torch.ones(3)}) != dist.fingerprint(changed)


@pytest.mark.parametrize(
    "env, said",
    [
        ({}, ""),
        (
            {"SM_HOSTS": '["algo-1", "algo-2"]'},
            "WARNING: this job has 2 instances or processes, and nothing joins them: each trains a copy",
        ),
        ({"SM_HOSTS": '["algo-1", "algo-2"]', "WORLD_SIZE": "1", "RANK": "0"}, "WARNING: this job has 2 instances"),
        ({"WORLD_SIZE": "4"}, "WARNING: this job has 4 instances or processes"),
    ],
)
def test_instances_that_nothing_joins_are_noticed(env, said, monkeypatch):
    for name in ("SM_HOSTS", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert dist.check_joined().startswith(said) and bool(dist.check_joined()) == bool(said)
    if said:
        with pytest.raises(BadConfig, match="use --join True, or a script that calls"):
            dist.check_joined(required=True)


def test_alone_one_agrees_with_oneself_and_keeps_what_one_computed():
    dist.agree("the data", "abc", "106 images")
    assert dist.gather_dealt([torch.ones(2, 3), torch.zeros(2, 3)], 2, (2, 3)).tolist() == [[1.0] * 3] * 2 + [[0.0] * 3] * 2
