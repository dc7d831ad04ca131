#!/usr/bin/env bash
# The promises of end_to_end/parallel_test.sh on two GPUs over NCCL: parallel = serial without TF32, causality, and nobody
# hangs when a rank is stopped or killed while the other's GPU waits for it. Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
fwl=$1 source=$2
gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true)
[[ $gpus -ge 2 ]] || { echo "SKIPPED: two GPUs are needed, $gpus found"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fail() { echo "FAILED: $*" >&2; exit 1; }
cat >"$work/small.yaml" <<'Y'
model: {layers: 2, width: 128, heads: 4, context: 512, window: 100, vocab_size: 512, fast_weight: {chunk: 64}}
train: {global_batch: 4, device: cuda, dtype: fp32, warmup_steps: 10, steps: 100}
Y
check() { # COMMAND SETTINGS...
  local command=$1 s set=()
  shift
  for s in "$@"; do set+=(--set "$s"); done
  timeout 120 mpirun --bind-to none -n 2 "$fwl" verify "$command" "$work/small.yaml" "${set[@]}" >"$work/out" 2>&1 ||
    { cat "$work/out" >&2; fail "verify $command $*"; }
  echo "ok: $command $* $(grep -o 'worst [0-9.e+-]*' "$work/out" || true)"
}
for layout in "parallel.data=2" "parallel.sequence=2"; do
  check parallel $layout
  check parallel $layout train.dtype=fp64 model.window=0
  check parallel $layout train.stream=true parallel.state_exchange=all_to_all
  check parallel $layout train.dtype=bf16
  check parallel $layout train.dtype=bf16 parallel.shard_optimizer=true
  check parallel $layout train.dtype=bf16 parallel.gradient_wire=bf16
  check causality $layout
done
check parallel parallel.sequence=2 model.window=0 parallel.attention=all_gather
check causality parallel.sequence=2 train.dtype=bf16

python3 "$source/tests/support/write_corpus.py" "$work/text" --documents 100
"$fwl" tokenize "$work/text" --tokenizer byte --out "$work/data" --split test=0.1 >/dev/null
for layout in data sequence; do
  for signal in STOP KILL; do
    timeout 90 mpirun --bind-to none -n 2 "$fwl" train "$source/launch/configs/tiny.yaml" --set data.path="$work/data" --set run.dir="$work/fault" \
      --set train.device=cuda --set train.steps=1000000 --set parallel.$layout=2 --set parallel.timeout_s=4 >"$work/out" 2>&1 &
    job=$! pid='' code=0
    for _ in $(seq 200); do
      sleep 0.2
      grep -q '^{' "$work/fault/log.jsonl" 2>/dev/null && break
    done
    for p in $(pgrep -f "run.dir=$work/fault"); do
      grep -qzx OMPI_COMM_WORLD_RANK=1 "/proc/$p/environ" 2>/dev/null && pid=$p
    done
    [[ -n $pid ]] || { cat "$work/out"; fail "rank 1 not found"; }
    start=$SECONDS
    kill "-$signal" "$pid"
    wait "$job" || code=$?
    seconds=$((SECONDS - start))
    [[ $code != 0 && $code != 124 && $seconds -le 16 ]] || { cat "$work/out"; fail "SIG$signal: exit code $code after $seconds s"; }
    if [[ $signal == STOP ]]; then
      [[ $code == 4 ]] || { cat "$work/out"; fail "SIGSTOP: exit code $code, not 4"; }
      grep -q "rank 1 (host .*) is stopped" "$work/out" || { cat "$work/out"; fail "the stopped rank is not named"; }
    fi
    echo "ok: $layout, SIG$signal to rank 1 of 2 -> $code after $seconds s"
    rm -rf "$work"/fault*
  done
done
echo "all passed"
