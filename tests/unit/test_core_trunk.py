"""opml.core.trunk: a ResNet cut in two, and its frozen part folded."""

import pytest
import torch
from torch import nn

from opml.core import model, trunk
from opml.core.config import FREEZE, TrainConfig

PARTS = [part for part in FREEZE if part not in ("auto", "none")]


@pytest.fixture(scope="module")
def network():
    """A ResNet whose batch norms have something to do."""
    network = model.build(TrainConfig(weights="none"), 3)[0]
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.mark.parametrize("part", PARTS)
def test_trunk_and_tail_are_the_network_and_keep_its_names(network, part):
    body, tail = trunk.cut(network, part)
    pictures = torch.rand(2, 3, 40, 40)
    with torch.inference_mode():
        assert torch.equal(tail(body(pictures)), network(pictures))
    assert [*body.state_dict(), *tail.state_dict()] == list(network.state_dict())


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("side", [32, 50])
def test_the_shape_of_the_features_is_known_before_they_are(network, part, side):
    body, _ = trunk.cut(network, part)
    with torch.inference_mode():
        assert trunk.output_shape(body, side) == tuple(body(torch.rand(1, 3, side, side)).shape[1:])


def test_a_folded_trunk_computes_the_same_without_batch_norm_and_leaves_the_network_alone(network):
    body, _ = trunk.cut(network, "backbone")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded, pictures = trunk.fold(body), torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(folded(pictures), body(pictures), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_the_precision_is_measured_and_one_of_two(monkeypatch):
    seconds = {"float32": 2.0, "bfloat16": 1.0}
    monkeypatch.setattr(trunk, "_seconds", seconds.__getitem__)
    assert trunk.fastest_precision(torch.device("cpu")) == "bfloat16"
    seconds["bfloat16"] = 1.9  # hardly faster: not native
    assert trunk.fastest_precision(torch.device("cpu")) == "float32"


def test_one_thread_is_given_back():
    before = torch.get_num_threads()
    with trunk.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
