"""Whether a pair can be run at all, before anything is compared: a user's first mistakes."""

import jax
import torch

from jax_impl.errors import InputError
from parity.pairs.blame import of_the_user
from parity.pairs.case import Case, precision
from parity.pairs.examples import randomised_state
from parity.pairs.pair import CROSS_ENTROPY, Batch, Pair
from parity.pairs.trees import leaves


def preflight(pair: Pair, batch: Batch, device: str) -> bool:
    """Runs each side's model once on the examples; whether JAX's runs in float64 too.

    Raises:
        InputError: one of them cannot be run, which line of the user's fails and how, or the two
            have no output in common.
    """
    case, case64 = Case(pair, "float32", device), Case(pair, "float64", device)
    state = randomised_state(pair, 0)
    with of_the_user(pair.name, "the PyTorch model"), torch.no_grad():
        outputs = case.torch_call(case.torch_model(state).eval(), case.torch_batch(batch)[0])
    theirs = {path: tuple(leaf.shape) for path, leaf in leaves(outputs).items()}
    variables = None
    with of_the_user(pair.name, "to_flax"):
        variables = case.variables(state)
    _ = pair.leaf_map, pair.mode_argument
    ours = {}
    for mode in pair.modes:
        with of_the_user(pair.name, f"jax_apply in {mode} mode"), precision("float32"):
            shapes = jax.eval_shape(
                lambda v, x, mode=mode: leaves(case.apply(v, x, mode == "train")[0]),
                variables,
                batch.inputs,
            )
        ours = {path: tuple(leaf.shape) for path, leaf in shapes.items()}
    if not ours.keys() & theirs.keys():
        raise InputError(
            f"{pair.name}: no output of the two has the same path: PyTorch's are {_told(theirs)}, "
            f"JAX's {_told(ours)}; say what to compare with outputs="
        )
    if pair.loss == CROSS_ENTROPY and "" not in theirs:
        raise InputError(
            f"{pair.name}: the outputs are {_told(theirs)}, which cross entropy does not take: "
            "say loss=, or outputs= to choose one"
        )
    try:
        with precision("float64"):
            _ = jax.eval_shape(
                lambda v, x: leaves(case64.apply(v, x, pair.trains)[0]),
                case64.variables(state),
                batch.inputs,
            )
    except TypeError:  # a carry of a scan that is float32 whatever the inputs are
        return False
    return True


def _told(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{path or 'one array'} {list(shape)}" for path, shape in shapes.items())
