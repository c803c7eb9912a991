#!/usr/bin/env bash
# Every check and benchmark that needs a GPU, in steps of less than ten minutes each.
#
#   CIFAR10_ARCHIVE=cifar-10-binary.tar.gz benchmarks/gpu.sh STEP [OUT]
#
# STEP: checks         the numeric rungs of both models on the GPU
#       cnn            the small CNN trained in full in both frameworks
#       replay         the small CNN from three seeds alone, in both frameworks
#       resnet         ResNet-18 trained for as many steps as eight minutes allow
#       deterministic  two deterministic trainings of each model, compared bit by bit
#       speed-cnn      speed of the small CNN, and the notebook's five epochs of it
#       speed-resnet   speed of the notebook's ResNet-18
#       speed-cifar    speed of ResNet-18 with the CIFAR stem, in float32 and bfloat16
# Results go to OUT/STEP (by default benchmarks/gpu). PYTHON names the interpreter; it needs what
# pyproject.toml lists, but for tensorflow-datasets: without it the python layout is read.
set -euo pipefail
cd "$(dirname "$0")/.."
steps="checks, cnn, replay, resnet, deterministic, speed-cnn, speed-resnet, speed-cifar"
step=${1:?STEP is one of $steps}
out=${2:-benchmarks/gpu}
python=${PYTHON:-python3}
device=${DEVICE:-gpu}

parity() {
  "$python" -m parity run --data cifar10 --device "$device" --out "$out/$step" "$@"
}

speed() {
  "$python" -m parity speed --data cifar10 --device "$device" --rounds 5 --out "$out/$step" "$@"
}

twice() {
  for run in first second; do
    "$python" scripts/train_jax.py --model "$1" --data cifar10 --device "$device" --epochs 1 \
      --deterministic --out "$scratch/$1-$run"
  done
  "$python" - "$scratch/$1-first" "$scratch/$1-second" <<'END'
import sys
from safetensors.numpy import load_file
a, b = (load_file(f"{path}/weights.safetensors") for path in sys.argv[1:])
differ = [name for name in a if a[name].tobytes() != b[name].tobytes()]
print(f"{len(differ)} of {len(a)} tensors differ")
sys.exit(bool(differ))
END
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
  deterministic)
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    mkdir -p "$out/$step"
    { twice simple_cnn && twice resnet18; } 2>&1 | tee "$out/$step/deterministic.txt"
    ;;
  speed-cnn) speed --workloads simple_cnn@32 --notebook ;;
  speed-resnet) speed --workloads resnet18@16 --modes train ;;
  speed-cifar) speed --workloads resnet18:stem=cifar@128 resnet18:stem=cifar@512 --modes train ;;
  cnn) parity --models simple_cnn --rungs accuracy ;;
  resnet) parity --models resnet18 --rungs accuracy --budget 8 ;;
  *)
    echo "error: no step named $step: choose one of $steps" >&2
    exit 2
    ;;
esac
