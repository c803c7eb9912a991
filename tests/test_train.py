"""Training in both packages: steps, epochs with a partial batch, evaluation."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from mutants import pairs
from torch.utils.data import DataLoader, TensorDataset

import torch_ref.errors
import torch_ref.models
import torch_ref.precision
import torch_ref.train
from jax_impl import data, lowering, optim, precision, regions, train
from jax_impl.archive import Split
from jax_impl.errors import InputError
from jax_impl.models import create_model
from parity.weights import to_arrays, to_flax, to_torch


def random_split(size: int, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, 32, 32, 3), np.uint8)
    return Split(images, rng.integers(0, 10, size).astype(np.int32))


def torch_loader(split: Split, order: np.ndarray, batch_size: int, dtype=torch.float32):
    images = torch.from_numpy(np.asarray(data.normalize(split.images)).transpose(0, 3, 1, 2).copy())
    dataset = TensorDataset(images.to(dtype), torch.from_numpy(split.labels.astype(np.int64)))
    return DataLoader(dataset, batch_size, sampler=order.tolist())


@pytest.mark.parametrize("name, batch_size", [("simple_cnn", 32), ("resnet18", 16)])
def test_training_in_float64_is_torchs(name, batch_size):
    """Two epochs with a partial last batch: losses, parameters and statistics to 1e-12.

    By SGD: Adam's first steps divide by gradients that are rounding errors.
    """
    split = random_split(2 * batch_size + 7)
    orders = [np.random.default_rng(seed).permutation(len(split.labels)) for seed in (0, 1)]
    model = create_model(name)
    variables = model.init(0)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype(float) if x.dtype == jnp.float32 else x, variables)
        optimizer = optim.sgd(0.01)
        state, epochs = train.fit(
            train.make_train_epoch(model, optimizer, batch_size),
            train.create_state(wide, optimizer),
            split,
            orders,
        )
        ours = to_arrays(state.variables, model)
    twin = torch_ref.models.create_model(name)
    twin.load_state_dict(to_torch(variables, model))
    twin.double()
    theirs = torch_ref.train.train(
        twin,
        [torch_loader(split, order, batch_size, torch.float64) for order in orders],
        torch.nn.CrossEntropyLoss(),
        torch.optim.SGD(twin.parameters(), 0.01),
        print=lambda line: None,
    )
    assert int(state.step) == 2 * 3
    for ours_epoch, theirs_epoch in zip(epochs, theirs, strict=True):
        assert abs(ours_epoch.loss - theirs_epoch.loss) <= 1e-12 * theirs_epoch.loss
    for key, value in twin.state_dict().items():
        error = np.abs(ours[key] - value.numpy()).max() / max(float(value.abs().max()), 1e-300)
        assert error <= 1e-12, key


def test_an_epoch_reports_every_step_in_chunks():
    split = random_split(24)
    order = np.arange(2 * train.CHUNK * 2 + 2 * 3 + 1) % 24
    model, optimizer = create_model("simple_cnn"), optim.sgd(0.0)
    train_epoch = train.make_train_epoch(model, optimizer, 2)
    state = train.create_state(model.init(0), optimizer)
    chunks = []
    for trained, losses in train_epoch(state, split.images, split.labels, order):
        state = trained
        chunks.append(losses)
    assert [len(chunk) for chunk in chunks] == [train.CHUNK, train.CHUNK, 3, 1]
    assert int(state.step) == 2 * train.CHUNK + 4
    logits, _ = model.apply(state.variables, data.normalize(split.images[order[-3:-1]]))
    expected = train.cross_entropy(logits, jnp.asarray(split.labels[order[-3:-1]])).mean()
    np.testing.assert_allclose(chunks[2][-1], expected, rtol=1e-5)


def test_the_given_weights_survive_training():
    model, optimizer = create_model("simple_cnn"), optim.adam()
    variables = model.init(0)
    before = jax.tree.map(np.array, variables)
    state = train.create_state(variables, optimizer)
    split = random_split(4)
    train.make_train_step(model, optimizer)(state, split.images, split.labels)
    for kept, leaf in zip(jax.tree.leaves(before), jax.tree.leaves(variables), strict=True):
        assert np.array_equal(kept, leaf)


def test_a_state_is_frozen():
    model, optimizer = create_model("simple_cnn"), optim.adam()
    state = train.create_state(model.init(0), optimizer)
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.step = jnp.zeros(())  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("size", [1, 99, 100, 101, 250])
def test_evaluation_counts_each_image_once(size):
    split = random_split(size, seed=size)
    model = create_model("simple_cnn")
    variables = model.init(0)
    logits, _ = model.apply(variables, data.normalize(split.images))
    expected = float((np.asarray(logits).argmax(1) == split.labels).mean())
    assert train.make_evaluate(model)(variables, split) == expected
    twin = torch_ref.models.create_model("simple_cnn")
    twin.load_state_dict(to_torch(variables, model))
    loader = torch_loader(split, np.arange(size), 100)
    assert torch_ref.train.test(twin, loader, print=lambda line: None) == expected


def test_evaluation_uses_the_running_statistics():
    split = random_split(40)
    model, optimizer = create_model("resnet18"), optim.sgd(0.01)
    state = train.create_state(model.init(0), optimizer)
    state, _ = train.make_train_step(model, optimizer)(state, split.images, split.labels)
    logits, _ = model.apply(state.variables, data.normalize(split.images), train=False)
    expected = float((np.asarray(logits).argmax(1) == split.labels).mean())
    assert train.make_evaluate(model, 7)(state.variables, split) == expected


def test_nothing_to_train_on_is_bad_input():
    model, optimizer = create_model("simple_cnn"), optim.adam()
    with pytest.raises(InputError, match="batch size"):
        train.make_train_epoch(model, optimizer, 0)
    train_epoch = train.make_train_epoch(model, optimizer, 4)
    state = train.create_state(model.init(0), optimizer)
    split = random_split(4)
    with pytest.raises(InputError, match="at least one image"):
        train.fit(train_epoch, state, split, [np.array([], np.int32)])


def test_the_notebooks_lines_and_numbers():
    split = random_split(8)
    model = torch_ref.models.create_model("simple_cnn")
    optimizer = torch_ref.train.create_optimizer("adam", model, 1e-3)
    lines: list[str] = []
    loader = torch_loader(split, np.arange(8), 4)
    epochs = torch_ref.train.train(
        model, [loader] * 2, torch.nn.CrossEntropyLoss(), optimizer, print=lines.append
    )
    accuracy = torch_ref.train.test(model, loader, print=lines.append)
    assert lines == [
        f"Epoch 1, Loss: {epochs[0].loss:.3f}",
        f"Epoch 2, Loss: {epochs[1].loss:.3f}",
        f"Accuracy: {100 * accuracy:.2f} %",
    ]


def test_jax_trains_where_torch_is_not_installed(tmp_path):
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.argv = ["train_jax.py", "--data", "digits", "--epochs", "1", "--out", {str(tmp_path / "run")!r}]
import runpy
runpy.run_path("scripts/train_jax.py", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Epoch 1, Loss: " in done.stdout and "Accuracy: " in done.stdout
    assert (tmp_path / "run" / "weights.safetensors").exists()


def test_the_seed_draws_the_notebooks_weights_and_batches():
    """In JAX without PyTorch's generator, after `torch.manual_seed` in PyTorch."""
    import torch_ref.data
    from parity.pair import create_pair
    from parity.rungs import replay

    ours, theirs = data.load_digits(), torch_ref.data.load("digits")[0]
    pair = create_pair("simple_cnn:channels=4,8:hidden=16")
    for find in (replay.init_exact, replay.order_exact, replay.replay):
        found = find(pair, ours, theirs, 5, 8, "cpu")
        assert found.passed, found


def test_other_draws_are_seen(monkeypatch):
    import torch_ref.data
    from jax_impl.torch_rng import Generator
    from parity.pair import create_pair
    from parity.rungs import replay

    ours, theirs = data.load_digits(), torch_ref.data.load("digits")[0]
    pair = create_pair("simple_cnn:channels=4,8:hidden=16")
    monkeypatch.setattr(replay, "Generator", lambda seed: Generator(seed + 1))
    for find in (replay.order_exact, replay.replay):
        assert not find(pair, ours, theirs, 5, 3, "cpu").passed
    other = pair.model._replace(init=lambda seed: pair.model.init(seed + 1))
    assert not replay.init_exact(
        dataclasses.replace(pair, model=other), ours, theirs, 5, 3, "cpu"
    ).passed


def test_flaxs_initialisation_is_an_option():
    model = create_model("resnet20")
    ours, again = (model.init(3, "flax").params for _ in range(2))
    kernel = np.asarray(ours["layer2"]["0"]["conv1"]["kernel"])
    assert abs(kernel.std() * np.sqrt(9 * 16) - 1) < 0.05  # LeCun: 1 / sqrt(fan_in)
    assert np.array_equal(kernel, again["layer2"]["0"]["conv1"]["kernel"])
    assert not np.array_equal(kernel, model.init(3).params["layer2"]["0"]["conv1"]["kernel"])
    assert not np.asarray(ours["fc"]["bias"]).any()
    with pytest.raises(InputError, match="no initialisation 'keras': choose torch or flax"):
        model.init(3, "keras")


@pytest.mark.parametrize("given", [None, "elsewhere"])
def test_compiled_programs_are_kept(tmp_path, given):
    code = (
        "import jax; from jax_impl.compilation import keep_compiled; keep_compiled(); "
        "print(jax.config.jax_compilation_cache_dir)"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if given is not None:
        environment["JAX_COMPILATION_CACHE_DIR"] = given
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    expected = str(tmp_path / "jax-torch-parity" / "compiled") if given is None else given
    assert ran.stdout.strip() == expected


def test_bfloat16_computes_and_float32_remembers():
    model, split = create_model("resnet18", width=4), random_split(16)
    optimizer = optim.adam(1e-3)
    losses = {}
    for dtype in (None, jnp.bfloat16):
        state = train.create_state(model.init(0), optimizer)
        step = train.make_train_step(model, optimizer, dtype)
        state, loss = step(state, split.images, split.labels)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {"float32", "int32"}
        losses[dtype] = float(loss)
        accuracy = train.make_evaluate(model, dtype=dtype)(state.variables, split)
        assert 0 <= accuracy <= 1
    assert 1e-6 < abs(losses[jnp.bfloat16] / losses[None] - 1) < 0.06
    inputs = jax.ShapeDtypeStruct((16, 32, 32, 3), jnp.bfloat16)
    text = str(jax.make_jaxpr(model.apply)(model.init(0), inputs))
    products = [line for line in text.splitlines() if "dot_general[" in line]
    assert products and all(":bf16[" in line for line in products)


def test_a_chunk_of_known_length_trains_the_same(monkeypatch):
    """What a GPU runs: the loop's length is a constant."""
    model, split, optimizer = create_model("simple_cnn"), random_split(30), optim.sgd(0.01)
    found = []
    for on_cpu in (lambda: True, lambda: False):
        with monkeypatch.context() as patched:
            patched.setattr(lowering, "on_cpu", on_cpu)
            train_epoch = train.make_train_epoch(model, optimizer, 4)
            state = train.create_state(model.init(0), optimizer)
            _, epochs = train.fit(train_epoch, state, split, [np.arange(30)] * 2)
        found.append([epoch.loss for epoch in epochs])
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_the_weights_that_are_read():
    """Of resnet18 on 32x32 images a gradient is zero outside of the regions, and only there."""
    model, split = create_model("resnet18", width=8), random_split(8)
    state = train.create_state(model.init(0), optim.sgd(0.1))
    images = jnp.asarray(split.images)
    read = train._regions(model, optim.sgd(0.1), state, images, None).params
    inputs = data.normalize(images, jnp.float32)
    gradients = jax.grad(train.loss_and_stats, has_aux=True)(
        state.params, model, state.batch_stats, inputs, jnp.asarray(split.labels)
    )[0]
    assert regions.zero_outside(gradients, read)
    parts = [r for r in jax.tree.leaves(read) if not r.whole]
    assert [r.shape[:2] for r in parts] == [(3, 3)] * 4
    assert [(r.start[:2], r.stop[:2]) for r in parts] == [((1, 1), (3, 3))] + [((1, 1), (2, 2))] * 3
    inside = regions.cut(gradients, read)
    assert all(np.count_nonzero(part) > 0.5 * part.size for part in jax.tree.leaves(inside))


@pytest.mark.parametrize(
    "function, start, stop",
    [
        (lambda w, x: (x @ w[1:3]).sum(), (1, 0), (3, 4)),
        (lambda w, x: (x @ w[:2]).sum() + (x[:, :1] @ w[3:4]).sum(), (0, 0), (4, 4)),
        (lambda w, x: (x @ w[1:3]).sum() + w.sum(), (0, 0), (5, 4)),
        (lambda w, x: (x.sum(), w), (0, 0), (5, 4)),
        (lambda w, x: x.sum(), (0, 0), (5, 4)),
        (lambda w, x: jax.jit(lambda w: x @ w[1:3])(w), (0, 0), (5, 4)),
    ],
)
def test_what_is_read_is_told_by_slices_alone(function, start, stop):
    shapes = jax.ShapeDtypeStruct((5, 4), jnp.float32), jax.ShapeDtypeStruct((3, 2), jnp.float32)
    assert regions.read_by(function, *shapes) == regions.Region((5, 4), start, stop)


@pytest.mark.parametrize(
    "optimizer",
    [optim.adam(0.01, amsgrad=True), optim.sgd(0.1, momentum=0.9, nesterov=True)],
    ids=["adam", "sgd"],
)
def test_weights_that_are_not_read_are_passed_over(optimizer):
    """Training is the same as when they are visited."""
    model, split, found = pairs.residual().model, random_split(16), []
    variables = to_arrays(model.init(0), model)
    with jax.enable_x64(True):
        wide = {k: v.astype(float) if v.dtype == np.float32 else v for k, v in variables.items()}
        for chosen in (optimizer, optax.GradientTransformation(*optimizer)):
            state = train.create_state(to_flax(wide, model), chosen)
            train_epoch = train.make_train_epoch(model, chosen, 8)
            found += train_epoch(state, split.images, split.labels, np.arange(16))
        for ours, whole in zip(*map(jax.tree.leaves, found), strict=True):
            np.testing.assert_allclose(ours, whole, rtol=1e-8, atol=1e-10)
    name = "layer4.0.conv2.weight"
    unread = np.ones((3, 3), bool)
    unread[1, 1] = False
    after = to_arrays(found[0][0].variables, model)[name]
    assert np.array_equal(after[..., unread], variables[name][..., unread])
    assert not np.array_equal(after[..., 1, 1], variables[name][..., 1, 1])


@pytest.mark.parametrize(
    "optimizer, lazy",
    [
        (optim.adam(0.01), True),
        (optim.sgd(0.1), True),
        (optim.rmsprop(0.01, momentum=0.9, centered=True), True),
        (optim.adamw(0.01, weight_decay=0), True),
        (optim.adamw(0.01), False),
        (optim.sgd(0.1, weight_decay=1e-4), False),
        (optim.adam(0.01, eps=0), False),  # 0 / 0
        (optax.adam(0.01), False),
    ],
)
def test_which_optimizers_let_unread_weights_be(optimizer, lazy):
    assert isinstance(optimizer, optim.Lazy) is lazy
    weights = {"a": jnp.ones(3), "b": jnp.ones(2)}
    state = optimizer.init(weights)
    updates, after = optimizer.update(jax.tree.map(jnp.zeros_like, weights), state, weights)
    if lazy:
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates))
        region = regions.Region((3,), (1,), (1,))
        boxes = regions.of_state(optimizer, after, {"a": region, "b": region})
        assert regions.zero_outside(after, boxes)


def test_a_state_that_moves_unread_weights_moves_them_on():
    """Momentum from larger images: where those taps were read."""
    model, split, optimizer = pairs.residual().model, random_split(8), optim.adam(0.01)
    state = train.create_state(model.init(0), optimizer)
    moved = jax.tree.map(lambda leaf: leaf + jnp.ones_like(leaf), state.opt_state)
    state = dataclasses.replace(state, opt_state=moved)
    before = np.array(state.params["layer4"]["0"]["conv2"]["kernel"])
    train_epoch = train.make_train_epoch(model, optimizer, 8)
    ((state, _),) = train_epoch(state, split.images, split.labels, np.arange(8))
    after = np.array(state.params["layer4"]["0"]["conv2"]["kernel"])
    assert (before != after).all()


@pytest.mark.parametrize(
    "name, platform, message",
    [("float16", "gpu", "no precision 'float16': choose one of float32, tf32, bf16"),
     ("tf32", "cpu", "tf32: a CPU has none: choose float32 or bf16")],
)  # fmt: skip
def test_a_precision_that_is_not_there(name, platform, message):
    with pytest.raises(InputError, match=message):
        precision.set_precision(name, platform)
    with pytest.raises(torch_ref.errors.InputError, match=message):
        torch_ref.precision.set_precision(torch.nn.Linear(1, 1), name, platform)


@pytest.mark.parametrize(
    "name, products, dtype",
    [("float32", "highest", "float32"), ("tf32", "tensorfloat32", "float32"),
     ("bf16", "default", "bfloat16")],
)  # fmt: skip
def test_precision_is_pinned(name, products, dtype, monkeypatch):
    pinned = {}
    monkeypatch.setattr(jax.config, "update", pinned.__setitem__)
    assert precision.set_precision(name, "gpu") == jnp.dtype(dtype)
    assert pinned == {"jax_default_matmul_precision": products}


def test_determinism_is_asked_of_xla_beside_other_flags(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=true")
    precision.be_deterministic()
    assert os.environ["XLA_FLAGS"].split() == [
        "--xla_cpu_multi_thread_eigen=true",
        "--xla_gpu_deterministic_ops=true",
    ]
