"""PyTorch's training by several processes: that of one, and JAX's on as many devices."""

import jax
import numpy as np
import pytest
import torch
from on_processes import made_up, trained

import torch_ref.models
from jax_impl.models import registry
from jax_impl.models.model import from_spec
from jax_impl.training import optim
from jax_impl.training.state import create_state
from jax_impl.training.step import make_train_step
from parity.pairs.weights import to_arrays, to_flax
from torch_ref.distributed import ALONE, Processes
from torch_ref.errors import InputError

SMALL = {"model": "resnet18", "width": 2, "steps": 2, "batch": 25, "last": 15}
LARGE = {"model": "resnet18", "width": 64, "steps": 29, "batch": 33, "last": 17}
# Of two values in a channel, as shares of two images have them where a map is one pixel, a batch
# normalisation is little but their signs: rounding is soon the size of the weights.
NEAR = 1e-10


def apart(one, other):
    """The largest difference of a tensor, relative to its largest number."""
    assert one.keys() == other.keys()
    return max(
        float(np.abs(one[name] - value).max() / max(np.abs(value).max(), 1e-300))
        for name, value in other.items()
    )


def in_jax(told, parts):
    """The same training on one device, which normalises a batch in so many parts."""
    width = told["width"]
    model = from_spec(registry.parse(f"{told['model']}:width={width}"), parts)
    optimizer = optim.sgd(0.01, momentum=0.9)
    torch.manual_seed(0)
    twin = torch_ref.models.create_model(told["model"], width=width).double()
    arrays = {name: value.numpy() for name, value in twin.state_dict().items()}
    with jax.enable_x64(True):
        state = create_state(to_flax(arrays, model), optimizer)
        step, losses = make_train_step(model, optimizer), []
        for images, labels in made_up(told["steps"], told["batch"], told["last"]):
            state, loss = step(state, images, labels)
            losses.append(float(loss))
        return to_arrays(state.variables, model), np.mean(losses)


def test_a_share_is_a_part_of_the_batch():
    batch = torch.arange(10)
    parts = [Processes(3, rank).share(batch).tolist() for rank in range(3)]
    assert parts == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert ALONE.share(batch) is batch or ALONE.share(batch).tolist() == batch.tolist()
    with pytest.raises(InputError, match="a batch of 2 images has not one for each of 3"):
        Processes(3, 0).share(batch[:2])


def test_two_processes_train_as_one_does(tmp_path):
    """By the statistics of the whole batch, of shares that are not of one size."""
    for count in (1, 2):
        (tmp_path / str(count)).mkdir()
    one, two = (trained(tmp_path / str(n), n, batch_norm="global", **SMALL) for n in (1, 2))
    assert apart(two, one) <= 1e-12  # float64, three steps; another learning rate is 1e-2 apart


@pytest.mark.proof
@pytest.mark.parametrize(("batch_norm", "parts"), [("global", 1), ("local", 2)])
def test_two_processes_train_as_jax_does_on_two_devices(batch_norm, parts, tmp_path):
    theirs = trained(tmp_path, 2, batch_norm=batch_norm, **LARGE)
    loss, _ = theirs.pop("loss"), theirs.pop("accuracy")
    ours, own_loss = in_jax(LARGE, parts)
    found = apart({name: ours[name] for name in theirs}, theirs)
    print(batch_norm, found, abs(own_loss - loss) / loss)
    assert found <= NEAR and abs(own_loss - loss) <= NEAR * loss
