"""What cannot be built, and what a network takes over from its layers."""

from typing import Any

import pytest
import torch
from torch import Tensor

from recurra.errors import UserError
from recurra.memory import Network, build, stack
from recurra.memory.blocks import Block, ShortConvolution
from recurra.memory.none import NoMemory, NoState


class Segments(NoMemory):
    """Tokens as they came, said to be of segments, growing, and of a team where wanted."""

    def __init__(self, dim: int, *, grain: int = 1, bounded: bool = True, team: bool = False) -> None:
        super().__init__(dim)
        self.grain, self.bounded, self.team = grain, bounded, team

    def initial_state(self, batch: int, **options: Any) -> NoState:
        return NoState()


def test_a_network_takes_over_what_its_layers_declare():
    plain = stack("gru", 8, layers=2)
    assert (plain.dim, plain.grain, plain.bounded, plain.team) == (8, 1, True, False)
    network = Network([Block(Segments(8, grain=6, bounded=False)), Segments(8, grain=3), build("none", 8)])
    assert (network.grain, network.bounded) == (6, False)
    assert Network([Block(Segments(8, team=True))]).team


def test_a_team_passes_through():
    network = Network([Block(Segments(8, team=True))])
    x = torch.randn(2, 3, 5, 8)
    present = torch.rand(2, 3, 5) < 0.5
    y, _ = network(x, first=torch.zeros(2, 5, dtype=torch.bool), present=present)
    assert y.shape == x.shape
    assert not y[~present].any()


def test_what_cannot_be_joined_is_refused():
    with pytest.raises(UserError, match="at least one layer, all of one dim"):
        Network([])
    with pytest.raises(UserError, match="at least one layer, all of one dim"):
        Network([build("gru", 8), build("gru", 6)])
    with pytest.raises(UserError, match="all of a team, or none is"):
        Network([build("none", 8), Segments(8, team=True)])
    with pytest.raises(UserError, match="must divide the largest, 3"):
        Network([Segments(8, grain=3), Segments(8, grain=2)])
    with pytest.raises(UserError, match="at least one layer, got 0"):
        stack("gru", 8, layers=0)
    with pytest.raises(UserError, match="at least 2 tokens wide, got 1"):
        ShortConvolution(8, width=1)


def test_the_first_gradients_of_a_deep_stack_are_of_one_size():
    """Residual paths and norms: neither the first nor the last of eight layers starves."""
    torch.manual_seed(0)
    network = stack("delta_net", 16, layers=8)
    y, _ = network(torch.randn(4, 20, 16))
    (y * torch.randn_like(y)).sum().backward()
    sizes = Tensor([layer.memory.projection.weight.grad.norm() for layer in network.layers])
    assert sizes.min() > sizes.max() / 30
