"""Faults that take several changes at once: rotary positions by halves and by pairs."""

import numpy as np
import pytest
import torch
from torch import nn

from parity.diagnosis.compound import compounds
from parity.diagnosis.search import list_suspects
from parity.diagnosis.sites import applied, watching

HEAD, LENGTH = 8, 5
ANGLES = torch.arange(LENGTH)[:, None] * 10_000.0 ** (-torch.arange(0, HEAD, 2) / HEAD)


class Halves(nn.Module):
    """Channel i turns with i + d / 2, as in GPT-NeoX and Llama."""

    def forward(self, x):
        both = torch.cat((ANGLES, ANGLES), -1)
        one, other = x[..., : HEAD // 2], x[..., HEAD // 2 :]
        return x * both.cos() + torch.cat((-other, one), -1) * both.sin()


class Chunks(nn.Module):
    def forward(self, x):
        both = ANGLES.repeat(1, 2)
        one, other = x.chunk(2, -1)
        return x * both.cos() + torch.cat((-other, one), -1) * both.sin()


class Pairs(nn.Module):
    """Channel 2 i turns with 2 i + 1, as in RoFormer and GPT-J."""

    def forward(self, x):
        both = ANGLES.repeat_interleave(2, -1)
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
        return x * both.cos() + turned * both.sin()


class Joined(nn.Module):
    """Nothing is cut where something is joined."""

    def forward(self, x):
        return torch.cat((x, -x), -1)


def turned(model, x, changes=()):
    with torch.no_grad(), applied(changes), watching(model):
        return model(x).numpy()


@pytest.mark.parametrize(
    "ours, theirs, cause",
    [
        (Halves, Pairs, "side by side"),
        (Chunks, Pairs, "side by side"),
        (Pairs, Halves, "halves of"),
    ],
)
def test_halves_and_pairs_are_exchanged_by_one_change(ours, theirs, cause):
    x = torch.randn(2, LENGTH, HEAD, generator=torch.Generator().manual_seed(0))
    model = ours()
    [change] = compounds(list_suspects(lambda: turned(model, x), None))
    assert cause in change.text
    wanted = turned(theirs(), x)
    assert not np.allclose(turned(model, x), wanted)
    np.testing.assert_allclose(turned(model, x, [change]), wanted, rtol=1e-6)


def test_nothing_is_compound_without_its_parts():
    x = torch.ones(2, LENGTH, HEAD)
    assert not list(compounds(list_suspects(lambda: turned(Joined(), x), None)))
