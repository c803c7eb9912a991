"""The ladder: one module a rung."""

from parity.ladder.rungs import batch_stats, forward, gradients, loss, optimizer

NUMERIC = {
    "forward": forward,
    "loss": loss,
    "gradients": gradients,
    "batch_stats": batch_stats,
    "optimizer": optimizer,
}
