"""What preprocessing makes of images, features, token ids and masks when it is ported."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from parity.ladder.tolerance import relative_error

NEAR = 1e-6
"""Relative: constants may have been rounded to float32."""


class Constants(NamedTuple):
    """What images in [0, 1] are normalised by: (x - mean) / deviation."""

    name: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


KNOWN = (
    Constants("0.5 and 0.5", (0.5,), (0.5,)),
    Constants("ImageNet's mean and deviation", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    Constants("CIFAR-10's mean and deviation", (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    Constants(
        "CIFAR-10's mean, and the mean deviation of its images",
        (0.4914, 0.4822, 0.4465),
        (0.2023, 0.1994, 0.2010),
    ),
    Constants("CIFAR-100's mean and deviation", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    Constants("MNIST's mean and deviation", (0.1307,), (0.3081,)),
    Constants(
        "CLIP's mean and deviation",
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    ),
)
PIXELS = Constants("none, from 0 to 255", (0.0,), (1 / 255,))
UNIT = Constants("none, from 0 to 1", (0.0,), (1.0,))


def explain_numbers(ours: np.ndarray, theirs: np.ndarray, raw: np.ndarray | None) -> str | None:
    """The change of PyTorch's floating-point array that gives JAX's, of the same shape."""
    if not np.isfinite(theirs).all() or not np.isfinite(ours).all():
        return explain_whole(ours, theirs)
    for dtype in ("float16", "bfloat16"):
        if np.array_equal(ours, _rounded(theirs, dtype)):
            return f"the values are rounded to {dtype}"
    for moved, place in _moves(theirs):
        if relative_error(ours, place) <= NEAR:
            return moved
    moves = [("", theirs), *_moves(theirs)]
    for text, place in moves:
        scaled = _affine(ours, place, raw)
        if scaled is not None:
            return f"{text}, and {scaled}" if text else scaled
    for text, place in moves:
        rounded = _whole_numbers(ours, place, raw)
        if rounded is not None:
            return f"{text}, and {rounded}" if text else rounded
    if np.array_equal(ours, np.clip(theirs, ours.min(), ours.max())) and ours.min() < ours.max():
        return f"the values are cut at {ours.min():g} and {ours.max():g}"
    return _standardised(ours, theirs) or explain_whole(ours, theirs)


def _moves(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The same numbers in other places."""
    if x.ndim == 4:
        n, c, h, w = x.shape
        if c == 3:
            yield "the channels are in the order blue, green, red", x[:, ::-1]
        if h == w:
            yield "height and width are swapped", x.transpose(0, 1, 3, 2)
        yield "the images are mirrored", x[..., ::-1]
        yield "the images are upside down", x[:, :, ::-1]
        yield "the images are turned by 180 degrees", x[:, :, ::-1, ::-1]
        if h == w:
            yield "the images are turned by 90 degrees", np.rot90(x, 1, (2, 3))
            yield "the images are turned by 90 degrees", np.rot90(x, -1, (2, 3))
        reshaped = "the layout is changed by a reshape and not by a transposition"
        yield reshaped, x.reshape(n, h, w, c).transpose(0, 3, 1, 2)
        yield reshaped, x.transpose(0, 2, 3, 1).reshape(n, c, h, w)
        if c == 3:
            yield (
                "the channels are in the order blue, green, red, and the images are mirrored",
                x[:, ::-1, :, ::-1],
            )
    if x.ndim == 3:
        n, t, d = x.shape
        if t == d:
            yield "the last two axes are swapped", x.transpose(0, 2, 1)
        yield (
            "the layout is changed by a reshape and not by a transposition",
            x.transpose(0, 2, 1).reshape(n, t, d),
        )
        yield "the positions are in reverse order", x[:, ::-1]
        for shift in (1, -1):
            yield "the positions are shifted by one", np.roll(x, shift, 1)
    if x.ndim == 2:
        yield "the columns are in reverse order", x[:, ::-1]
    if x.ndim:
        what = "images" if x.ndim == 4 else "rows"
        yield f"the {what} are in another order", x[::-1]
        for shift in (1, -1):
            yield f"the {what} are shifted by one", np.roll(x, shift, 0)


def _affine(ours: np.ndarray, theirs: np.ndarray, raw: np.ndarray | None) -> str | None:
    """Whether JAX's are a x + b of PyTorch's, of one a and b or of one for each channel."""
    one = _fit(ours.reshape(1, -1), theirs.reshape(1, -1))
    channels = theirs.shape[1] if theirs.ndim == 4 else 1
    if one is not None:
        factors, summands = np.repeat(one[0], channels), np.repeat(one[1], channels)
    elif theirs.ndim == 4:
        fitted = _fit(_by_channel(ours), _by_channel(theirs))
        if fitted is None:
            return None
        factors, summands = fitted
    else:
        return None
    if theirs.ndim == 4 and (text := _normalised(factors, summands, theirs, raw)) is not None:
        return text
    return _linear(factors, summands)


def _by_channel(x: np.ndarray) -> np.ndarray:
    return x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)


def _fit(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(factors, summands) of each row, [c, m] -> [c], if ours = factor x theirs + summand."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    if a.shape[1] < 3:
        return None
    centre, ours_centre = b.mean(1, keepdims=True), a.mean(1, keepdims=True)
    power = np.square(b - centre).sum(1)
    if not power.all():
        return None
    factors = ((b - centre) * (a - ours_centre)).sum(1) / power
    summands = ours_centre[:, 0] - factors * centre[:, 0]
    fitted = factors[:, None] * b + summands[:, None]
    if not factors.all() or relative_error(a, fitted) > NEAR:
        return None
    summands = np.where(np.abs(summands) <= NEAR * np.abs(a).max(1), 0.0, summands)
    return factors, summands


def _normalised(
    factors: np.ndarray, summands: np.ndarray, theirs: np.ndarray, raw: np.ndarray | None
) -> str | None:
    """Whether both sides' constants are known, or PyTorch's numbers are pixels or normalised ones.

    PyTorch's x = (u - m) / s with u in [0, 1] and JAX's a x + b = (u - (m - s b / a)) / (s / a).
    """
    channels = len(factors)
    for base in _bases(theirs, raw):
        mean, deviation = (np.resize(v, channels) for v in (base.mean, base.deviation))
        our_mean, our_deviation = mean - deviation * summands / factors, deviation / factors
        text = _named(our_mean, our_deviation, base)
        if text is not None:
            return text
    base = _of_raw(theirs, raw)
    if base is None:
        return None
    mean, deviation = np.array(base.mean), np.array(base.deviation)
    our_mean, our_deviation = mean - deviation * summands / factors, deviation / factors
    return (
        f"JAX normalises by mean {_numbers(our_mean)} and deviation {_numbers(our_deviation)} "
        f"where PyTorch's does by {_numbers(mean)} and {_numbers(deviation)}"
    )


def _bases(theirs: np.ndarray, raw: np.ndarray | None) -> Iterator[Constants]:
    """What PyTorch's images may have been normalised by, with pixels in [0, 1] then."""
    found = _of_raw(theirs, raw)
    if found is not None:
        yield _known(np.array(found.mean), np.array(found.deviation)) or found
        return
    for base in (*KNOWN, UNIT, PIXELS):
        if len(base.mean) not in (1, theirs.shape[1]):
            continue
        shape = (1, -1, 1, 1)
        unit = theirs * np.reshape(base.deviation, shape) + np.reshape(base.mean, shape)
        if unit.min() >= -NEAR and unit.max() <= 1 + NEAR:
            yield base


def _of_raw(theirs: np.ndarray, raw: np.ndarray | None) -> Constants | None:
    """PyTorch's constants, where the raw images of both sides are known."""
    if raw is None or raw.ndim != 4 or theirs.ndim != 4:
        return None
    for images in (raw, raw.transpose(0, 3, 1, 2)):
        if images.shape == theirs.shape:
            unit = images / 255.0 if raw.dtype == np.uint8 else images
            fitted = _fit(_by_channel(theirs), _by_channel(unit))
            if fitted is not None and (raw.dtype == np.uint8 or np.ptp(fitted[0]) > NEAR):
                deviation = 1 / fitted[0]
                return Constants("", tuple(-fitted[1] * deviation), tuple(deviation))
    return None


def _known(mean: np.ndarray, deviation: np.ndarray) -> Constants | None:
    """The set of constants that these are."""
    for known in (*KNOWN, UNIT, PIXELS):
        if len(known.mean) in (1, len(mean)):
            wanted = [np.resize(v, len(mean)) for v in (known.mean, known.deviation)]
            if np.allclose(mean, wanted[0], 1e-5, 1e-6) and np.allclose(deviation, wanted[1], 1e-5):
                return known
    return None


def _named(mean: np.ndarray, deviation: np.ndarray, base: Constants) -> str | None:
    """A sentence where the constants of JAX's side say something, of images in [0, 1]."""
    own, wanted = (np.resize(v, len(mean)) for v in (base.mean, base.deviation))

    def near(a: np.ndarray, b: np.ndarray | float) -> bool:
        return np.allclose(a, b, 1e-5, 1e-6)

    ours = _known(mean, deviation)
    if ours is not None and ours not in (UNIT, PIXELS):
        theirs = f"{_numbers(own)} and {_numbers(wanted)}"
        return (
            f"the inputs are normalised by {ours.name}: JAX normalises by mean "
            f"{_numbers(mean)} and deviation {_numbers(deviation)} where PyTorch's does by {theirs}"
        )
    if ours is UNIT:
        return "the inputs are not normalised: from 0 to 1"
    if ours is PIXELS:
        text = "the inputs are not divided by 255"
        return text if base is UNIT else f"{text}, and not normalised"
    if near(mean, own * 256 / 255) and near(deviation, wanted * 256 / 255):
        return "the inputs are divided by 256 and not by 255"
    if near(mean, own / 255) and near(deviation, wanted / 255):
        return "the inputs are not divided by 255 before they are normalised"
    if near(mean, own * 255) and near(deviation, wanted * 255):
        return "the inputs are divided by 255 twice"
    # (x - m) / s of x = (u - m) / s is (u - m - s m) / s^2.
    if near(mean, own + wanted * own) and near(deviation, wanted * wanted):
        return "the inputs are normalised twice"
    if near(mean, own) and near(deviation, 1.0):
        return "the mean is subtracted and nothing divided"
    if near(mean, 0.0) and near(deviation, wanted):
        return "the inputs are divided by the deviation, and no mean is subtracted"
    if near(mean, own) and near(deviation, wanted**2):
        return "the inputs are divided by the variance and not by the deviation"
    if near(mean, own[::-1]) and near(deviation, wanted[::-1]):
        return "the mean and the deviation are in the order blue, green, red"
    if near(mean, wanted) and near(deviation, own):
        return "mean and deviation are exchanged"
    return None


def _linear(factors: np.ndarray, summands: np.ndarray) -> str:
    """In numbers alone."""
    if np.ptp(factors) <= NEAR * np.abs(factors).max():
        factors = factors[:1]
    if np.ptp(summands) <= NEAR * max(np.abs(summands).max(), 1e-300):
        summands = summands[:1]
    text = f"the values are {_numbers(factors)} times PyTorch's"
    plain = len(factors) == 1 and np.allclose(factors, 1, NEAR)
    if not summands.any():
        special = {255.0: "they are not divided by 255", 1 / 255: "they are divided by 255",
                   255 / 256: "they are divided by 256 and not by 255",
                   -1.0: "the sign is wrong"}  # fmt: skip
        for number, meaning in special.items():
            if len(factors) == 1 and np.allclose(factors, number, NEAR, 0):
                return meaning
        return text
    return f"{_numbers(summands)} is added" if plain else f"{text} plus {_numbers(summands)}"


def _numbers(values: np.ndarray) -> str:
    """One number, or several in brackets."""
    rounded = [f"{value:.6g}" for value in np.ravel(values)]
    return rounded[0] if len(set(rounded)) == 1 else f"({', '.join(rounded)})"


def _whole_numbers(ours: np.ndarray, theirs: np.ndarray, raw: np.ndarray | None) -> str | None:
    """Whether JAX's are made of pixels that were rounded, or cut, to whole numbers."""
    if theirs.ndim != 4:
        return None
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "rounded": np.round,
        "cut": np.floor,
    }
    for base in _bases(theirs, raw):
        shape = (1, -1, 1, 1)
        deviation, mean = np.reshape(base.deviation, shape), np.reshape(base.mean, shape)
        unit = theirs * deviation + mean
        for word, way in ways.items():
            for scale in (255.0, 1.0):
                whole = (
                    way(unit * scale + (1e-9 if way is np.floor else 0)) / scale - mean
                ) / deviation
                if relative_error(ours, whole) <= NEAR:
                    return f"the pixels, from 0 to {scale:g}, are {word} to whole numbers"
    return None


def _standardised(ours: np.ndarray, theirs: np.ndarray) -> str | None:
    """Whether each example, or each column, has a mean and a deviation of its own."""
    rows = [x.reshape(len(x), -1) for x in (ours, theirs)] if theirs.ndim > 1 else []
    if rows and _fit(*rows) is not None:
        return "each example is scaled by numbers of its own, as by its mean and deviation"
    if rows and theirs.ndim == 2 and len(theirs) > 2:
        fitted = _fit(ours.T, theirs.T)
        if fitted is not None:
            return "each column is scaled by numbers of its own, as by its mean and deviation"
    return None


def _rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    return np.asarray(jnp.asarray(x).astype(dtype)).astype(x.dtype)


def explain_whole(ours: np.ndarray, theirs: np.ndarray) -> str | None:
    """The change of PyTorch's ids or mask that gives JAX's, of the same shape."""
    if _mask(theirs) or _mask(ours) or not np.isfinite(theirs).all():
        return _masks(ours, theirs)
    for shift in (1, -1, 2, -2):
        if np.array_equal(ours, theirs + shift):
            return f"every number is {'greater' if shift > 0 else 'less'} by {abs(shift)}"
    for axis in range(theirs.ndim - 1, 0, -1):
        for shift in (1, -1):
            rolled = np.roll(theirs, shift, axis)
            kept = [slice(None)] * theirs.ndim
            kept[axis] = slice(1, None) if shift > 0 else slice(None, -1)
            if np.array_equal(ours[tuple(kept)], rolled[tuple(kept)]):
                return "the positions are shifted by one"
        if np.array_equal(ours, np.flip(theirs, axis)):
            return "the positions are in reverse order"
    if np.array_equal(ours, theirs[::-1]):
        return "the rows are in another order"
    for shift in (1, -1):
        if np.array_equal(ours, np.roll(theirs, shift, 0)):
            return "the rows are shifted by one"
    for bound, cut in ((ours.max(), np.minimum), (ours.min(), np.maximum)):
        if np.array_equal(ours, cut(theirs, bound)):
            return f"the numbers are cut at {bound:g}"
    departing = np.unique(theirs[ours != theirs])
    made = np.unique(ours[ours != theirs])
    if len(departing) == len(made) == 1:
        return f"{made[0]:g} stands in the place of {departing[0]:g}"
    return None


def _mask(x: np.ndarray) -> bool:
    return bool(((x == 0) | (x == 1)).all())


def _masks(ours: np.ndarray, theirs: np.ndarray) -> str | None:
    """0 and 1, or 0 and a number as good as minus infinity, of what is kept or left out."""
    our_mask, their_mask = _kept(ours), _kept(theirs)
    if our_mask is None or their_mask is None:
        return None
    (ours_kept, ours_kind), (theirs_kept, theirs_kind) = our_mask, their_mask
    inverted = np.array_equal(ours_kept, ~theirs_kept)
    if not inverted and not np.array_equal(ours_kept, theirs_kept):
        if ours_kept.all():
            return "the mask leaves nothing out"
        for axis in range(theirs.ndim):
            for shift in (1, -1):
                if np.array_equal(ours_kept, np.roll(theirs_kept, shift, axis)):
                    return "the mask is shifted by one"
        return None
    text = "the mask is inverted"
    if ours_kind == theirs_kind:
        return text if inverted else None
    kinds_text = f"the mask is {ours_kind} and not {theirs_kind}"
    return f"{text}, and {kinds_text}" if inverted else kinds_text


def _kept(x: np.ndarray) -> tuple[np.ndarray, str] | None:
    """(what a mask keeps, in what numbers); None of what is no mask."""
    if _mask(x):
        return x == 1, "0 and 1"
    lowest = x.min()
    if lowest <= -1e3 and bool(((x == 0) | (x == lowest)).all()):
        return x == 0, f"0 and {lowest:.3g}, which is added"
    return None
