#!/usr/bin/env bash
# What needs a GPU, in six steps of a few minutes each, which may be cut off at any time.
#
#   CIFAR10_ARCHIVE=cifar-10-binary.tar.gz benchmarks/gpu.sh STEP [OUT]
#
# STEP: checks        numeric rungs of simple_cnn, with its trajectory, and of resnet18, and two
#                     deterministic trainings compared bit by bit; on digits, side by side, untimed
#       speed-resnet  speed of the notebook's ResNet-18 in training, alone on the machine
#       speed-cnn     speed of the small CNN
#       speed-cifar   speed of ResNet-18 with the CIFAR stem in bfloat16, 512 images a batch
#       accuracy      ResNet-18 by the notebook's recipe to its test accuracy, in both frameworks
#                     side by side, untimed
#       at-once       steps of 1 to 64 trainings in one compiled call, alone on the machine
#
# OUT/STEP.tar.gz (OUT is runs/gpu by default) holds the results. It is brought up to date every ten
# seconds while the step runs, so that a step which is killed leaves what it had. After LIMIT seconds
# it is cut off. Exit status: 0 all passed, 1 a part failed or was cut off, 2 bad input.
#
# Read from the environment: PYTHON (the interpreter; it needs what pyproject.toml lists, but for
# tensorflow-datasets), COMMIT (for the reports of a copy without git), and to rehearse without a
# GPU, or in less time: DEVICE, DATA, LIMIT, ROUNDS and BLOCK (timed blocks and their seconds), LARGE
# (the last workload), PRECISION (its own), STEPS (of the trajectory), EPOCHS (of the accuracy).
set -euo pipefail -m
cd "$(dirname "$0")/.."
steps="checks, speed-resnet, speed-cnn, speed-cifar, accuracy, at-once"
step=${1:?STEP is one of $steps}
out=${2:-runs/gpu}
python=${PYTHON:-python3} device=${DEVICE:-gpu} data=${DATA:-cifar10} limit=${LIMIT:-540}
large=${LARGE:-resnet18:stem=cifar@512} precision=${PRECISION:-bf16}
graphs="scan eager cuda_graph cuda_graph_channels_last reduce_overhead"
export PYTHONUNBUFFERED=1

case ", $steps," in
  *", $step,"*) ;;
  *)
    echo "error: no step named $step: choose one of $steps" >&2
    exit 2
    ;;
esac
mkdir -p "$out"
scratch=$(mktemp -d)
results=$scratch/$step
mkdir "$results"

keep() {  # what is there so far, in one archive; a file that changes meanwhile is no failure
  tar -czf "$scratch/archive" -C "$scratch" --exclude=weights.safetensors "$step" 2>/dev/null || true
  cp "$scratch/archive" "$out/.$step" && mv "$out/.$step" "$out/$step.tar.gz"
}

keep_on() {
  while sleep 10 && kill -0 $$ 2>/dev/null; do
    keep
    ((SECONDS < limit)) || kill -TERM $$
  done
}

finish() {
  trap - EXIT INT TERM
  kill -TERM -- "-$keeper" 2>/dev/null || true
  for signal in INT TERM KILL; do  # a part that is interrupted says so, and has a moment for it
    for job in $(jobs -p); do kill -"$signal" -- "-$job" 2>/dev/null || true; done
    for _ in {1..10}; do
      [ -z "$(jobs -r)" ] || sleep 0.5
    done
  done
  keep
  rm -rf "$scratch"
  echo "results: $out/$step.tar.gz"
}

beside() {  # NAME COMMAND...: in the background and a group of its own, its output in NAME.txt
  local name=$1
  shift
  (set +m && "$@" 2>&1 | tee "$results/$name.txt") &
  started+=($!)
}

all_of_them() {
  local status=0
  for job in "${started[@]}"; do wait "$job" || status=1; done
  started=()
  return $status
}

rungs() {  # MODEL RUNG...
  local model=$1
  shift
  beside "$model" "$python" -m parity run --data digits --device "$device" --models "$model" \
    --steps "${STEPS:-60}" --out "$results/$model" --rungs "$@"
}

speed() {  # NAME WORKLOAD VARIANT...
  local name=$1 workload=$2
  shift 2
  beside "$name" "$python" -m parity speed --data "$data" --device "$device" --modes train \
    --no-roofline --rounds "${ROUNDS:-5}" --seconds "${BLOCK:-1}" --out "$results/$name" \
    --workloads "$workload" --variants "$@"
  all_of_them
}

twice() {
  for run in first second; do
    "$python" scripts/train_jax.py --model resnet18 --data digits --device "$device" --epochs 1 \
      --deterministic --out "$scratch/$run"
  done
  "$python" - "$scratch/first" "$scratch/second" <<'END'
import sys
from safetensors.numpy import load_file
a, b = (load_file(f"{path}/weights.safetensors") for path in sys.argv[1:])
differ = [name for name in a if a[name].tobytes() != b[name].tobytes()]
print(f"{len(differ)} of {len(a)} tensors differ", *differ)
sys.exit(bool(differ))
END
}

train() {  # FRAMEWORK
  beside "$1" "$python" "scripts/train_$1.py" --model resnet18 --data "$data" --device "$device" \
    --epochs "${EPOCHS:-5}" --out "$results/$1"
}

keep_on &
keeper=$!
disown
trap finish EXIT
trap 'exit 1' INT TERM
started=()
{
  nvidia-smi 2>/dev/null || echo "no nvidia-smi"
  "$python" -m pip list 2>/dev/null | grep -iE "^(jax|flax|optax|orbax|torch|numpy|nvidia)" || true
} > "$results/machine.txt"

case $step in
  checks | accuracy) export OMP_NUM_THREADS=4 XLA_PYTHON_CLIENT_PREALLOCATE=false ;;
esac
case $step in
  checks)
    rungs simple_cnn data init init_exact order_exact forward loss gradients batch_stats \
      optimizer optimizers trajectory
    rungs resnet18 forward loss gradients batch_stats optimizer
    export -f twice
    export python device scratch
    beside deterministic bash -euc twice
    all_of_them
    ;;
  speed-resnet) speed resnet18 resnet18@16 $graphs ;;
  speed-cnn) speed simple_cnn simple_cnn@32 $graphs ;;
  speed-cifar)
    speed cifar "$large" scan eager channels_last compile_channels_last cuda_graph_channels_last \
      --precision "$precision"
    ;;
  accuracy)
    train jax
    train torch
    all_of_them
    ;;
  at-once)
    beside at-once "$python" benchmarks/at_once.py --rounds "${ROUNDS:-5}" --out "$results"
    all_of_them
    ;;
esac
