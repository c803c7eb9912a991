"""Planted bugs of data."""

# pyright: reportArgumentType=false, reportIndexIssue=false

import dataclasses
from collections.abc import Callable

import numpy as np

from jax_impl.data import datasets
from mutants import pairs
from mutants.catalogue.common import mutant


def inputs(change: Callable) -> Callable:
    def changed(make):
        pair = make()
        return dataclasses.replace(
            pair, jax_inputs=lambda x, dtype: change(datasets.normalize(x, dtype))
        )

    return changed


def data_mutant(cause: str):
    return mutant("data", pairs.cnn, "data", "the inputs", cause)


@data_mutant("blue, green, red")
def channels_reversed(patch, make):
    return inputs(lambda x: x[..., ::-1])(make)


@data_mutant("not normalised")
def only_divided_by_255(patch, make):
    return inputs(lambda x: (x + 1) / 2)(make)


@data_mutant("ImageNet")
def normalised_by_imagenet(patch, make):
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return inputs(lambda x: ((x + 1) / 2 - mean) / std)(make)


@data_mutant("256")
def divided_by_256(patch, make):
    return inputs(lambda x: ((x + 1) / 2 * 255 / 256 - 0.5) / 0.5)(make)


@data_mutant("height and width")
def height_and_width_swapped(patch, make):
    return inputs(lambda x: x.transpose(0, 2, 1, 3))(make)


@data_mutant("reshape")
def reshaped_in_the_place_of_transposed(patch, make):
    def change(x):
        n, h, w, c = x.shape
        return x.transpose(0, 3, 1, 2).reshape(n, h, w, c)

    return inputs(change)(make)


@data_mutant("normalised twice")
def normalised_twice(patch, make):
    return inputs(lambda x: (x - 0.5) / 0.5)(make)


@data_mutant("another order")
def images_in_another_order(patch, make):
    return inputs(lambda x: x[::-1])(make)
