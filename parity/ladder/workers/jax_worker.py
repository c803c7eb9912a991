"""`python -m parity.ladder.workers.jax_worker TASK ADDRESS RANK`: one of a training in JAX.

By its distributed runtime.
"""

import sys

import jax

from jax_impl.models import registry
from jax_impl.models.model import from_spec
from jax_impl.training import hosts, optim
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.mesh import fetched, make_mesh, put, put_state
from jax_impl.training.state import create_state
from parity.ladder.workers.task import LR, MOMENTUM, Task, read_task
from parity.pairs.weights import to_arrays, to_flax


def main(task: Task, address: str, rank: int) -> None:
    """Trains, and leaves what it came to."""
    hosts.join(address, task.count, rank)
    weights, images, labels, order = task.given()
    mesh = make_mesh({"data": task.count}, jax.devices())
    parts = task.count if task.batch_norm == "local" else 1
    model, optimizer = (
        from_spec(registry.parse(task.model), parts),
        optim.sgd(LR, momentum=MOMENTUM),
    )
    state = put_state(mesh, create_state(to_flax(weights, model), optimizer))
    epoch, losses = make_train_epoch(model, optimizer, task.batch, mesh=mesh), []
    for after, steps in epoch(state, *put(mesh, (images, labels)), order):
        state = after
        losses += steps.losses.tolist()
    task.leave(rank, to_arrays(fetched(mesh, state.variables), model), losses)
    hosts.leave()


if __name__ == "__main__":
    main(read_task(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
