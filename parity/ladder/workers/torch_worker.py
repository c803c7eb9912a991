"""`python -m parity.ladder.workers.torch_worker TASK ADDRESS RANK`: one of a training in PyTorch.

By DistributedDataParallel and gloo.
"""

import dataclasses
import os
import sys

import torch
from torch import nn

import torch_ref.models
import torch_ref.train
from jax_impl.models import registry
from parity.ladder.workers.task import LR, MOMENTUM, Task, read_task
from torch_ref import distributed
from torch_ref.data import TRANSFORM


def main(task: Task, address: str, rank: int) -> None:
    """Trains, and leaves what it came to."""
    host, port = address.rsplit(":", 1)
    os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": port, "RANK": str(rank)}
    os.environ["WORLD_SIZE"] = str(task.count)
    torch.set_num_threads(1)
    weights, images, labels, order = task.given()
    spec = registry.parse(task.model)
    net = torch_ref.models.create_model(spec.name, **dataclasses.asdict(spec.options)).double()
    net.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    rows = [order[at : at + task.batch] for at in range(0, len(order), task.batch)]
    batches = [
        (torch.stack([*map(TRANSFORM, images[own])]).double(), torch.from_numpy(labels[own]).long())
        for own in rows
    ]
    losses: list[float] = []
    with distributed.joined() as processes:
        torch_ref.train.train(
            distributed.divided(net, processes, task.batch_norm),
            [batches],
            nn.CrossEntropyLoss(),
            torch.optim.SGD(net.parameters(), LR, momentum=MOMENTUM),
            processes=processes,
            print=lambda text: None,
            on_steps=lambda progress: losses.append(progress.loss - sum(losses)),
        )
        arrays = {name: value.numpy() for name, value in net.state_dict().items()}
        task.leave(rank, arrays, losses)


if __name__ == "__main__":
    main(read_task(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
