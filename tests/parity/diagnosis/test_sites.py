"""What watches a model keeps nothing of it once the model has run."""

import gc
import weakref

import pytest
import torch
from torch import nn

from parity.diagnosis.sites import Change, applied, observed, watching


@pytest.fixture
def no_collector():
    """Reference counts alone free what nothing uses."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_model_is_freed_as_soon_as_it_has_run(no_collector):
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    kept = weakref.ref(model)
    with observed(), applied([Change("", "relu", make=lambda call: None)]), watching(model):
        model(torch.ones(1, 3))
    del model
    assert kept() is None
