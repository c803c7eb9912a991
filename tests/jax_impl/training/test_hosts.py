"""Training by several processes is training by one."""

import on_devices
import pytest
from on_devices import MESHES, assert_near

from jax_impl.errors import InputError
from jax_impl.training import hosts


def test_two_processes_train_as_one_device_does():
    """Batches that their devices do not divide, and arrays of which each has a part."""
    case = {"model": on_devices.SMALL, "steps": 4, "batch": 50, "parts": 1, "last": 3}
    (found,) = on_devices.found_by(4, [case | {"meshed": ["data=2,model=2"]}], processes=2)
    assert_near(found)
    assert found["data=2,model=2"]["cut"] == {"linear/kernel": [512, 20]}


@pytest.mark.proof
@pytest.mark.parametrize("batch", [48, 50])
@pytest.mark.parametrize("model", ["resnet18", "resnet20"])
def test_a_resnet_by_two_processes_of_four_devices(model, batch):
    case = {"model": model, "steps": 30, "batch": batch, "meshed": MESHES, "parts": 1, "last": 7}
    (found,) = on_devices.found_by(8, [case], processes=2)
    print(model, batch, {text: told["state"] for text, told in found.items()})
    assert_near(found)
    assert found["data=4,model=2"]["cut"]


def test_alone_there_is_nobody_to_ask():
    alone = hosts.join(None)
    assert (alone.count, alone.rank) == (1, 0)
    assert alone.any(True) and not alone.any(False)
    assert alone.gathered({"a": 1}) == [{"a": 1}] and hosts.of_first(7) == 7
    hosts.leave()


def test_no_cluster():
    with pytest.raises(InputError, match=r"auto: the processes did not meet .*or give HOST:PORT"):
        hosts.join("auto")
