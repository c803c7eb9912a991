#!/usr/bin/env bash
# Every check and benchmark that needs a GPU, in steps of less than ten minutes each.
#
#   CIFAR10_ARCHIVE=cifar-10-binary.tar.gz benchmarks/gpu.sh STEP [OUT]
#
# STEP: checks   the numeric rungs of both models on the GPU
#       cnn      the small CNN trained in full in both frameworks
#       replay   the small CNN from three seeds alone, in both frameworks
#       resnet   ResNet-18 trained for as many steps as eight minutes allow
# Results go to OUT/STEP (by default benchmarks/gpu). PYTHON names the interpreter; it needs what
# pyproject.toml lists, but for tensorflow-datasets: without it the python layout is read.
set -euo pipefail
cd "$(dirname "$0")/.."
step=${1:?STEP is one of checks, cnn, replay, resnet}
out=${2:-benchmarks/gpu}
python=${PYTHON:-python3}
device=${DEVICE:-gpu}

parity() {
  "$python" -m parity run --data cifar10 --device "$device" --out "$out/$step" "$@"
}

case $step in
  checks)
    parity --rungs data init init_exact order_exact forward loss gradients batch_stats optimizer \
      optimizers trajectory
    ;;
  replay)
    mkdir -p "$out/$step"
    "$python" benchmarks/replay.py --out "$out/$step"
    ;;
  cnn) parity --models simple_cnn --rungs accuracy ;;
  resnet) parity --models resnet18 --rungs accuracy --budget 8 ;;
  *)
    echo "error: no step named $step: choose one of checks, cnn, replay, resnet" >&2
    exit 2
    ;;
esac
