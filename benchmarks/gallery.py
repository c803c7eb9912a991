"""What goes wrong in a port: planted bugs, what the suite says of each, and what mends it."""

import textwrap
from typing import Any

from benchmarks.speed_figures import load, table

CURES = {
    "same padding in the stem": "`padding=((3, 3), (3, 3))`, PyTorch's numbers, in the place of "
    "`'SAME'`, which puts the odd pixel behind",
    "a true convolution": "`lax.conv_general_dilated`, which correlates as PyTorch does, of the "
    "kernel as it is",
    "kernel in the order w h": "`weight.transpose(2, 3, 1, 0)`: OIHW to HWIO",
    "kernel in the order h w o i": "`weight.transpose(2, 3, 1, 0)`: OIHW to HWIO",
    "bottleneck stride on the 1x1": "the stride is on the 3x3 convolution (torchvision's V1.5)",
    "dilation ignored": "`kernel_dilation=2`, with `padding=((2, 2), (2, 2))` for a 3x3 "
    "kernel of the same size of output",
    "groups interleaved": "`feature_group_count`, and the weights' groups one after the other",
    "flattened h w c": "transpose to NCHW before the reshape, or permute `fc1`'s rows",
    "square weight left as it is": "`kernel = weight.T`: a square one fits either way",
    "gelu by tanh": "`jax.nn.gelu(x, approximate=False)`; Flax's default is the approximation",
    "dropout in eval mode": "`deterministic=True` (Linen), `model.eval()` (NNX), "
    "`eqx.nn.inference_mode(model)` in evaluation",
    "ceil mode": "`padding='VALID'`: PyTorch leaves out what does not fill a window, unless "
    "`ceil_mode=True`",
    "same pooling": "`nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))`",
    "eps 1e-3": "`epsilon=1e-5`, PyTorch's; Keras's default is 1e-3",
    "frozen statistics": "`use_running_average=not train`, from the caller to the layer",
    "batch statistics in eval mode": "`use_running_average=True` in evaluation",
    "unbiased variance of the batch": "divide by n within the normalisation; by n - 1 only for the "
    "running variance",
    "biased running variance": "`flax` keeps the biased one: multiply by n / (n - 1) where it is "
    "updated, or accept it by name",
    "momentum of Flax": "`momentum=0.9`: Flax's is one less PyTorch's 0.1",
    "momentum the other way": "`momentum=0.9`: Flax's is one less PyTorch's 0.1",
    "running mean not kept": "`mutable=['batch_stats']`, and carry what comes back",
    "statistics without gradient": "no `stop_gradient` around the batch's mean and variance",
    "layer norm eps": "`epsilon=1e-5`: Flax's default is 1e-6",
    "relu before the addition": "`relu(F(x) + x)`: add, then ReLU",
    "projection without norm": "the shortcut's 1x1 convolution has a BatchNorm of its own",
    "channels reversed": "OpenCV reads BGR: `image[..., ::-1]`",
    "only divided by 255": "`(x / 255 - 0.5) / 0.5`, as ToTensor and Normalize do",
    "reshaped in the place of transposed": "`x.transpose(0, 2, 3, 1)` for NCHW to NHWC",
    "flax default init": "`variance_scaling(1 / 3, 'fan_in', 'uniform')` for the kernel, and for "
    "the bias U(+-1 / sqrt(fan_in)) with the kernel's fan_in",
    "zero biases": "draw biases from U(+-1 / sqrt(fan_in))",
    "he normal of fan in": "`variance_scaling(2, 'fan_out', 'normal')`, and not truncated",
    "summed loss": "`.mean()` over the examples",
    "softmax twice": "give logits to `softmax_cross_entropy`",
    "smoothed by default": "no `optax.smooth_labels` before the loss, or `label_smoothing` in "
    "PyTorch too",
    "shared ties": "`nn.max_pool`, whose gradient goes to one maximum, as PyTorch's does; that of "
    "`jnp.max` over windows is shared",
    "adam eps inside the root": "`eps_root=0`, and `eps` outside",
    "adamw with coupled decay": "`optax.adamw(lr, weight_decay=1e-2)`: the decay does not pass "
    "through the moments, and 1e-2 is PyTorch's default where Optax's is 1e-4",
    "adam with decoupled decay": "`optax.chain(optax.add_decayed_weights(d), optax.adam(lr))` for "
    "PyTorch's `Adam(weight_decay=d)`",
    "momentum as an average": "`optax.trace(decay=0.9)`, not `optax.ema`",
    "statistics not carried on": "return `batch_stats` from the step, and pass them to the next",
    "optimizer state made anew": "`opt.init` once, before the loop",
    "gradients not zeroed": "call `zero_grad()` in PyTorch's loop; JAX has nothing to set to zero",
    "training in eval mode": "`train=True` in the step",
    "convolutions in tf32": "`jax.config.update('jax_default_matmul_precision', 'highest')`, and "
    "`torch.backends.cudnn.allow_tf32 = False`",
    "convolutions in bfloat16": "`dtype=jnp.float32` of the layer, or bfloat16 in both frameworks",
}
"""What mends a bug of this name, in Markdown."""


def gallery() -> str:
    """A table for each kind of bug: the fault, what one sees, the cause that is told, the cure."""
    bugs = [bug for bug in load("mutants")["mutants"] if bug["name"] in CURES]
    parts = []
    for group in dict.fromkeys(bug["group"] for bug in bugs):
        rows = [_row(bug) for bug in bugs if bug["group"] == group]
        head = ("fault", "what one sees", "the cause that is told", "what mends it")
        parts.append(f"## {group.capitalize()}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def _row(bug: dict[str, Any]) -> tuple[str, str, str, str]:
    seen = bug["text"].partition(". Cause: ")[0].replace("first departs: ", "")
    told = textwrap.shorten(bug["found_cause"], 160, placeholder=" ...")
    cells = (bug["name"], f"`{bug['found_rung']}` fails: {seen}", told, CURES[bug["name"]])
    return tuple(cell.replace("|", "\\|") for cell in cells)  # pyright: ignore[reportReturnType]
