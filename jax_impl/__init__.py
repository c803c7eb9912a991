"""CIFAR-10 classifiers in functional Flax, trained as PyTorch trains them.

Every public name is here, and its framework is loaded when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jax_impl.data.archive import Dataset as Dataset
    from jax_impl.data.archive import Split as Split
    from jax_impl.data.augmentation import Augmentation as Augmentation
    from jax_impl.data.datasets import load_dataset as load_dataset
    from jax_impl.data.datasets import normalize as normalize
    from jax_impl.errors import InputError as InputError
    from jax_impl.models.model import MODELS as MODELS
    from jax_impl.models.model import Model as Model
    from jax_impl.models.model import Variables as Variables
    from jax_impl.models.model import create_model as create_model
    from jax_impl.models.model import from_module as from_module
    from jax_impl.torch_random.generator import Generator as Generator
    from jax_impl.torch_random.loader import augmentation_draws as augmentation_draws
    from jax_impl.torch_random.loader import loader_orders as loader_orders
    from jax_impl.torch_random.loader import random_crop_flip as random_crop_flip
    from jax_impl.training import checkpoint as checkpoint
    from jax_impl.training import mesh as mesh
    from jax_impl.training import optim as optim
    from jax_impl.training import schedules as schedules
    from jax_impl.training.compilation import keep_compiled as keep_compiled
    from jax_impl.training.epoch import make_train_epoch as make_train_epoch
    from jax_impl.training.evaluate import make_evaluate as make_evaluate
    from jax_impl.training.fit import Epoch as Epoch
    from jax_impl.training.fit import fit as fit
    from jax_impl.training.precision import be_deterministic as be_deterministic
    from jax_impl.training.precision import set_precision as set_precision
    from jax_impl.training.state import TrainState as TrainState
    from jax_impl.training.state import create_state as create_state
    from jax_impl.training.step import cross_entropy as cross_entropy
    from jax_impl.training.step import make_train_step as make_train_step

_HOMES = {
    "Augmentation": "data.augmentation",
    "Dataset": "data.archive",
    "Epoch": "training.fit",
    "Generator": "torch_random.generator",
    "InputError": "errors",
    "MODELS": "models.model",
    "Model": "models.model",
    "Split": "data.archive",
    "TrainState": "training.state",
    "Variables": "models.model",
    "augmentation_draws": "torch_random.loader",
    "be_deterministic": "training.precision",
    "create_model": "models.model",
    "create_state": "training.state",
    "cross_entropy": "training.step",
    "fit": "training.fit",
    "from_module": "models.model",
    "keep_compiled": "training.compilation",
    "load_dataset": "data.datasets",
    "loader_orders": "torch_random.loader",
    "make_evaluate": "training.evaluate",
    "make_train_epoch": "training.epoch",
    "make_train_step": "training.step",
    "normalize": "data.datasets",
    "random_crop_flip": "torch_random.loader",
    "set_precision": "training.precision",
}
_MODULES = {name: f"training.{name}" for name in ("checkpoint", "mesh", "optim", "schedules")}

__all__ = sorted([*_HOMES, *_MODULES])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Imports what is asked for, and nothing before that."""
    home = _HOMES.get(name) or _MODULES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module(f"{__name__}.{home}")
    return getattr(module, name) if name in _HOMES else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
