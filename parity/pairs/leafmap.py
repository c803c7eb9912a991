"""Where each number of a state_dict goes in the variables of a JAX model.

Found by sending numbered entries through the pair's own `to_flax` (`probing`): whatever that
transposes, reshapes, splits, joins, scales or shifts, gradients and updated variables find the way
back.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jax_impl.errors import InputError
from parity.pairs.probing import Found, numbers, probe
from parity.pairs.trees import key_name

COPY = "#"
"""A weight that the variables hold again is NAME#2, NAME#3, ..."""


@dataclasses.dataclass(frozen=True)
class LeafMap:
    """What each leaf of the variables holds of the state_dict, and whether it is trained.

    Args:
        shapes: of the entries, by name.
        offsets: of the entries in the concatenated state_dict.
        leaves: what is in each leaf, in order.
        names: of the leaves, as JAX prints their paths.
        trainable: of each leaf.
        structure: of the variables.
        parameters: names of the entries that are trained.
    """

    shapes: dict[str, tuple[int, ...]]
    offsets: dict[str, int]
    leaves: tuple[Found, ...]
    names: tuple[str, ...]
    trainable: tuple[bool, ...]
    structure: Any
    parameters: frozenset[str]

    def split(self, variables: Any) -> tuple[list[Any], list[Any]]:
        """(trainable leaves, other leaves)."""
        leaves = jax.tree.leaves(variables)
        pairs = list(zip(leaves, self.trainable, strict=True))
        return [leaf for leaf, yes in pairs if yes], [leaf for leaf, yes in pairs if not yes]

    def join(self, trainable: list[Any], others: list[Any]) -> Any:
        """The inverse of `split`."""
        first, second = iter(trainable), iter(others)
        leaves = [next(first) if yes else next(second) for yes in self.trainable]
        return jax.tree.unflatten(self.structure, leaves)

    def to_torch(self, leaves: list[Any], which: bool | None = None) -> dict[str, np.ndarray]:
        """Leaves as entries of a state_dict, in PyTorch's names and layout.

        Args:
            leaves: of the variables, in order, those that `which` says.
            which: all of them (None), the trainable (True) or the other ones (False).
        """

        def values(found: Found, array: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
            if len(found.terms) == 1:
                term = found.terms[0]
                with np.errstate(over="ignore"):
                    yield term.indices, (array - found.constant) / term.factor

        return self._scattered(leaves, which, values)

    def gradients_to_torch(self, leaves: list[Any]) -> dict[str, np.ndarray]:
        """Gradients by the trainable leaves as gradients by the entries, by the chain rule."""

        def values(found: Found, array: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
            for term in found.terms:
                yield term.indices, array * term.factor

        return self._scattered(leaves, True, values)

    def gradients_to_jax(self, gradients: Mapping[str, np.ndarray], dtype: Any) -> list[Any]:
        """Gradients by the entries as gradients by the trainable leaves; zeros where unknown."""
        flat = np.concatenate(
            [np.empty(0)]
            + [
                np.asarray(gradients.get(name, np.zeros(shape)), np.float64).ravel()
                for name, shape in self.shapes.items()
            ]
        )
        made = []
        for found, yes in zip(self.leaves, self.trainable, strict=True):
            if not yes:
                continue
            value = np.zeros(found.shape)
            if len(found.terms) == 1:
                value = flat[found.terms[0].indices] / found.terms[0].factor
            made.append(jax.numpy.asarray(value, dtype))
        return made

    @property
    def held(self) -> list[tuple[tuple[str, ...], frozenset[str]]]:
        """Of each leaf the path, and the entries whose numbers it holds."""
        names, starts = list(self.offsets), list(self.offsets.values())
        numbered = jax.tree.unflatten(self.structure, range(len(self.leaves)))
        held = []
        for path, i in jax.tree_util.tree_flatten_with_path(numbered)[0]:
            places = [term.indices.ravel() for term in self.leaves[i].terms]
            owners = np.unique(np.searchsorted(starts, np.concatenate([[], *places]), "right"))
            held.append((tuple(map(key_name, path)), frozenset(names[k - 1] for k in owners)))
        return held

    @property
    def uncompared(self) -> tuple[str, ...]:
        """Leaves whose numbers the converter makes of several or changes, and dropped entries."""
        made = [
            f"{name}: the converter {found.problem}"
            for name, found in zip(self.names, self.leaves, strict=True)
            if found.problem
        ]
        held = np.zeros(sum(map(math.prod, self.shapes.values())), bool)
        for found in self.leaves:
            for term in found.terms:
                held[term.indices.ravel()] = True
        lost = [
            name
            for name in self.shapes
            if name in self.parameters
            and not held[self.offsets[name] :][: math.prod(self.shapes[name])].all()
        ]
        if made and lost:
            made.append(f"not compared but in the outputs and the loss: {', '.join(lost)}")
        elif lost:
            made.append(f"in no leaf of the variables, and not compared: {', '.join(lost)}")
        return tuple(made)

    @property
    def constants(self) -> dict[str, float]:
        """By entry the largest number that the converter adds to it, in the entry's units."""
        added: dict[str, float] = {}
        for found in self.leaves:
            if len(found.terms) == 1 and found.constant.any():
                value = float(np.abs(found.constant / found.terms[0].factor).max())
                added |= {name: max(value, added.get(name, 0.0)) for name in self._owners(found)}
        return added

    @property
    def rescaled(self) -> frozenset[str]:
        """Entries that the variables hold a multiple of: an equal step is another one there."""
        return frozenset(
            name
            for found in self.leaves
            if len(found.terms) == 1 and (np.abs(found.terms[0].factor) != 1).any()
            for name in self._owners(found)
        )

    @property
    def trains_otherwise(self) -> str | None:
        """Why training cannot be compared number by number, if it cannot."""
        for name, found, yes in zip(self.names, self.leaves, self.trainable, strict=True):
            if yes and found.problem:
                return f"the converter {found.problem} for {name}, which is trained as it is in JAX"
            if yes and len(found.terms) > 1:
                return f"{name} is the sum of two parameters of PyTorch's, which trains both"
            if yes and found.terms and (np.abs(found.terms[0].factor) != 1).any():
                return f"{name} is a multiple of PyTorch's parameter: an equal step is another one"
        return None

    @property
    def copies(self) -> tuple[str, ...]:
        """Parameters that more than one trainable leaf holds: PyTorch ties them."""
        seen: dict[str, None] = {}
        doubled: dict[str, None] = {}
        for found, yes in zip(self.leaves, self.trainable, strict=True):
            for name in dict.fromkeys(self._owners(found)) if yes else ():
                (doubled if name in seen and self._overlaps(name) else seen)[name] = None
        return tuple(doubled)

    def _overlaps(self, name: str) -> bool:
        count = np.zeros(math.prod(self.shapes[name]), int)
        start = self.offsets[name]
        for found, yes in zip(self.leaves, self.trainable, strict=True):
            for term in found.terms if yes else ():
                inside = term.indices[(term.indices >= start) & (term.indices < start + len(count))]
                count[inside - start] += 1
        return bool((count > 1).any())

    def _owners(self, found: Found) -> Iterable[str]:
        names, starts = list(self.offsets), list(self.offsets.values())
        for term in found.terms:
            if term.indices.size:
                place = np.searchsorted(starts, term.indices.ravel()[0], side="right") - 1
                yield names[int(place)]

    def _scattered(
        self,
        leaves: list[Any],
        which: bool | None,
        values: Callable[[Found, np.ndarray], Iterable[tuple[np.ndarray, np.ndarray]]],
    ) -> dict[str, np.ndarray]:
        """Entries that are found whole; the second holder of a number goes to NAME#2, and so on."""
        chosen = [
            found
            for found, yes in zip(self.leaves, self.trainable, strict=True)
            if which is None or yes is which
        ]
        names, starts = list(self.offsets), list(self.offsets.values())
        layers: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for found, leaf in zip(chosen, leaves, strict=True):
            if not found.terms:
                continue
            array = np.asarray(leaf)
            if found.shape != array.shape:
                raise InputError(
                    f"the JAX model returned variables of shape {array.shape} in the place of "
                    f"{found.shape}"
                )
            for indices, parts in values(found, array.astype(np.float64)):
                if not indices.size:
                    continue
                places = indices.ravel()
                numbers = np.broadcast_to(parts, indices.shape).ravel()
                ends = places.min(), places.max()
                first, last = np.searchsorted(starts, ends, side="right") - 1
                for name in names[first : last + 1]:
                    start, size = self.offsets[name], math.prod(self.shapes[name])
                    part, its = places, numbers
                    if first != last:
                        mine = (places >= start) & (places < start + size)
                        part, its = places[mine], numbers[mine]
                    if part.size:
                        _put(layers.setdefault(name, []), size, part - start, its)
        entries: dict[str, np.ndarray] = {}
        for name, shape in self.shapes.items():
            empty = [] if math.prod(shape) else [(np.empty(0), np.ones(0, bool))]
            for depth, (flat, held) in enumerate(layers.get(name, empty)):
                if held.all():
                    suffix = f"{COPY}{depth + 1}" if depth else ""
                    entries[name + suffix] = flat.reshape(shape)
        return entries


def _put(
    layers: list[tuple[np.ndarray, np.ndarray]], size: int, places: np.ndarray, numbers: np.ndarray
) -> None:
    """Numbers at their places in the first layer of an entry that holds none of them yet."""
    layer = next((layer for layer in layers if not layer[1][places].any()), None)
    if layer is None:
        layer = np.full(size, np.nan), np.zeros(size, bool)
        layers.append(layer)
    layer[0][places], layer[1][places] = numbers, True


def leaf_map(
    to_flax: Callable[[dict[str, np.ndarray]], Any],
    state: Mapping[str, np.ndarray],
    parameters: Iterable[str],
    aliases: Mapping[str, str] | None = None,
) -> LeafMap:
    """The map of the converter `to_flax` for state_dicts like `state`.

    Args:
        to_flax: a state_dict of NumPy arrays -> the variables.
        state: names, shapes and dtypes of the state_dicts, with an example of their values.
        parameters: the names that are trained; the others are statistics or frozen.
        aliases: the names of tied entries, each to the one that `parameters` has.
    """
    aliases = dict(aliases or {})
    own = {name: value for name, value in state.items() if name not in aliases}
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    sizes = [math.prod(shape) for shape in shapes.values()]
    offsets = dict(zip(shapes, itertools.accumulate([0, *sizes]), strict=False))

    def convert(entries: dict[str, np.ndarray]) -> list[Any]:
        tied = {name: entries[first] for name, first in aliases.items()}
        return jax.tree.leaves(to_flax({name: {**entries, **tied}[name] for name in state}))

    trained = frozenset(parameters)
    leaves, depends = probe(convert, own, offsets, trained)
    variables, again = to_flax(_copied(state)), to_flax(_copied(state))
    pairs = zip(jax.tree.leaves(variables), jax.tree.leaves(again), strict=False)
    if not all(np.array_equal(_plain(a), _plain(b), equal_nan=True) for a, b in pairs):
        raise InputError("to_flax gives other values each time that it is called")
    paths = jax.tree_util.tree_flatten_with_path(variables)[0]
    names = tuple(jax.tree_util.keystr(path) or "the variables" for path, _ in paths)
    trainable = tuple(_is_trained(f, d, n) for f, d, n in zip(leaves, depends, names, strict=True))
    structure = jax.tree.structure(variables)
    return LeafMap(shapes, offsets, tuple(leaves), names, trainable, structure, trained)


def _copied(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in state.items()}


def _plain(leaf: Any) -> np.ndarray:
    return np.asarray(numbers(leaf))


def _is_trained(found: Found, depends: Sequence[bool], name: str) -> bool:
    on_parameters, on_others = depends
    if on_parameters and on_others and not found.problem:
        raise InputError(f"to_flax mixes parameters with statistics in {name} of the variables")
    return on_parameters
