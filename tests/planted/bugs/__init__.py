"""The planted bugs, a file for each kind."""

from planted.bugs import (
    activations,
    attention,
    convolutions,
    inputs_and_dropout,
    losses,
    normalisation,
    optimizers,
    pooling_and_resizing,
    precision,
    recurrent,
    several,
    training_steps,
    weights,
)

BUGS = (
    *convolutions.BUGS,
    *pooling_and_resizing.BUGS,
    *activations.BUGS,
    *attention.BUGS,
    *recurrent.BUGS,
    *normalisation.BUGS,
    *weights.BUGS,
    *inputs_and_dropout.BUGS,
    *losses.BUGS,
    *optimizers.BUGS,
    *training_steps.BUGS,
    *precision.BUGS,
    *several.BUGS,
)
