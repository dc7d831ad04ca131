#!/usr/bin/env bash
# Scaling on this machine's GPUs, in one call of under ten minutes: every layout against one rank, weak, strong and sequence
# scaling, exchange algorithms against what `auto` takes, a rank killed in the middle of a step, resuming on half the ranks.
#
#   tests/benchmarks/scaling.sh [--out DIR] [--ranks N] [--seconds S] [--cpu] [FWL_BINARY]
#
# Writes DIR/scaling.json (read by `fwl report` and `fwl plan --calibrate`) and DIR/scaling.txt. --ranks: at most so many (default:
# all GPUs; 4 on the CPU, with tiny models: for correctness). What the time does not reach is listed as skipped. Ends with 1 when a
# check failed.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=scaling ranks='' seconds=560 cpu='' fwl=$source/build/bin/fwl
while [[ $# -gt 0 ]]; do
  case $1 in
    --out) out=$2; shift 2 ;;
    --ranks) ranks=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --cpu) cpu=yes; shift ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "unknown option '$1' (see --help). Leave it out." >&2; exit 2 ;;
    *) fwl=$1; shift ;;
  esac
done
[[ -x $fwl ]] || { echo "no program at '$fwl' (it is what is measured). Build it, or name it." >&2; exit 2; }
gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true)
[[ $gpus -gt 0 ]] || cpu=yes
[[ -n $ranks ]] || ranks=${cpu:+4}
ranks=${ranks:-$gpus}
[[ -n $cpu || $ranks -le $gpus ]] || { echo "$ranks ranks need $ranks GPUs, $gpus are there. Ask for fewer." >&2; exit 2; }
for ((n = 1; 2 * n <= ranks; n *= 2)); do :; done
ranks=$n # layouts are powers of two
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
[[ -z $cpu ]] || export OMP_NUM_THREADS=1 OMPI_MCA_mpi_yield_when_idle=1
left() { echo $((seconds - SECONDS)); }

# One line of index.tsv a measurement: file, section, kind, model, GPUs, layout, context, exit code, seconds. Others read it.
index=$work/index.tsv
: >"$index"
: >"$work/skipped"
steps=(--steps 5 --warmup 2 --repetitions 3)
[[ -z $cpu ]] || steps=(--steps 2 --warmup 1 --repetitions 1)
on_ranks() { # RANKS COMMAND...
  local n=$1
  shift
  timeout 120 mpirun --bind-to none --oversubscribe -n "$n" "$fwl" "$@"
}
record() { # SECTION KIND MODEL RANKS LAYOUT CONTEXT COMMAND...: one measurement or check, if there is time for it
  local section=$1 kind=$2 model=$3 n=$4 layout=$5 context=$6 code=0 start=$SECONDS
  shift 6
  local name
  name=$section-$kind-$model-$layout-$context-$(wc -l <"$index")
  if [[ $(left) -lt 25 ]]; then
    echo "$section $kind $model $layout $context" >>"$work/skipped"
    return 0
  fi
  on_ranks "$n" "$@" --json "$work/$name.json" >"$work/$name.txt" 2>&1 || code=$?
  printf '%s\t' "$name" "$section" "$kind" "$model" "$n" "$layout" "$context" "$code" >>"$index"
  printf '%s\n' $((SECONDS - start)) >>"$index"
  printf '%4d s  %-9s %-10s %-5s %-5s T %-7s -> %s\n' "$SECONDS" "$section" "$kind" "$model" "$layout" "$context" "$code"
  [[ $code == 0 ]] || tail -n 2 "$work/$name.txt" | cut -c1-300
}

config() { # NAME LAYERS WIDTH HEADS VOCABULARY WINDOW
  cat >"$work/$1.yaml" <<Y
model: {layers: $2, width: $3, heads: $4, vocab_size: $5, window: $6, norm: layer}
train: {device: $([[ -n $cpu ]] && echo cpu || echo cuda), dtype: $([[ -n $cpu ]] && echo fp32 || echo bf16), steps: 1000, warmup_steps: 100}
parallel: {timeout_s: 60}
Y
}
if [[ -n $cpu ]]; then
  small=tiny-2x64 large=tiny-3x96 # the names say what is measured
  config $small 2 64 8 512 32 && config $large 3 96 8 512 32
  context=128 rows=8 large_rows=4 lengths=(256 512 1024)
else
  small=124m large=350m
  config $small 12 768 12 50304 512 && config $large 24 1024 16 50304 512
  context=1024 rows=32 large_rows=16 lengths=(16384 65536 262144)
fi
cat >"$work/small.yaml" <<Y
model: {layers: 2, width: 128, heads: 8, context: 512, window: 100, vocab_size: 512, fast_weight: {chunk: 64}}
train: {global_batch: 8, device: $([[ -n $cpu ]] && echo cpu || echo cuda), dtype: fp64, warmup_steps: 10, steps: 100}
Y
bench() { # SECTION KIND MODEL RANKS SEQUENCE CONTEXT BATCH SETTINGS...
  local section=$1 kind=$2 model=$3 n=$4 s=$5 t=$6 batch=$7 setting set=()
  shift 7
  for setting in "$@"; do set+=(--set "$setting"); done
  record "$section" "$kind" "$model" "$n" "$((n / s))x$s" "$t" bench train "$work/$model.yaml" "${steps[@]}" --set model.context="$t" \
    --set train.global_batch="$batch" --set parallel.sequence="$s" "${set[@]}"
}
verify() { # RANKS: all layouts
  local s
  for ((s = 1; s <= $1; s *= 2)); do
    record verify parallel small "$1" "$(($1 / s))x$s" 512 verify parallel "$work/small.yaml" --set parallel.sequence=$s
  done
}
exchanges() { # RANKS CONTEXT: state exchanges; attention with and without a window
  local n=$1 t=$2 name
  bench exchange state-auto "$small" "$n" "$n" "$t" 2
  for name in all_gather all_to_all; do bench exchange "state-$name" "$small" "$n" "$n" "$t" 2 parallel.state_exchange=$name; done
  for name in all_gather all_to_all; do bench exchange "window-$name" "$small" "$n" "$n" "$t" 2 parallel.attention=$name; done
  bench exchange full-auto "$small" "$n" "$n" "$t" 2 model.window=0
  for name in all_gather all_to_all; do bench exchange "full-$name" "$small" "$n" "$n" "$t" 2 model.window=0 parallel.attention=$name; done
}

stop_a_rank() { # SIGNAL: to the last rank in the middle of a step; how long the others live, who is named
  local signal=$1 pid='' code=0 victim=$((ranks - 1)) p
  rm -rf "$work/run"
  timeout 120 mpirun --bind-to none --oversubscribe -n "$ranks" "$fwl" train "$source/launch/configs/tiny.yaml" --set data.path="$work/data" \
    --set run.dir="$work/run" --set train.device="$([[ -n $cpu ]] && echo cpu || echo cuda)" --set train.steps=1000000 --set train.save_every=5 \
    --set train.log_every=1 --set train.global_batch=$((2 * ranks)) --set parallel.sequence=$((ranks / 2)) --set parallel.timeout_s=4 >"$work/stop.txt" 2>&1 &
  local job=$!
  for _ in $(seq 200); do
    sleep 0.2
    compgen -G "$work/run/checkpoints/step-*" >/dev/null && break
  done
  for p in $(pgrep -f "run.dir=$work/run"); do
    tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qx OMPI_COMM_WORLD_RANK=$victim && pid=$p
  done
  [[ -n $pid ]] || { echo "rank $victim was not found"; tail -n 5 "$work/stop.txt"; kill "$job" 2>/dev/null || true; wait "$job" || true; return 1; }
  local start ended
  start=$(date +%s.%N)
  kill "-$signal" "$pid"
  wait "$job" || code=$?
  while pgrep -f "run.dir=$work/run" >/dev/null && [[ $(left) -gt 0 ]]; do sleep 0.05; done
  ended=$(date +%s.%N)
  cp "$work/stop.txt" "$work/stop-$signal.txt"
  printf '%s\t%s\t%s\t%s\t%s\n' "$signal" "$victim" "$code" "$start" "$ended" >>"$work/stops.tsv"
  echo "$SECONDS s  SIG$signal to rank $victim of $ranks -> $code"
}
resume_on_half() { # goes on from what the stopped run has saved
  local half=$((ranks / 2)) code=0 last
  last=$(basename "$(find "$work/run/checkpoints" -maxdepth 1 -name 'step-*' | sort | tail -n 1)" | tr -dc 0-9)
  on_ranks "$half" train "$source/launch/configs/tiny.yaml" --set data.path="$work/data" --set run.dir="$work/run" \
    --set train.device="$([[ -n $cpu ]] && echo cpu || echo cuda)" --set train.steps=$((10#$last + 5)) --set train.save_every=5 --set train.log_every=1 \
    --set train.global_batch=$((2 * ranks)) --set parallel.sequence=1 --set train.resume=auto --allow-changes >"$work/resume.txt" 2>&1 || code=$?
  printf '%s\t%s\t%s\t%s\n' "$half" "$((10#$last))" "$code" "$(tail -n 1 "$work/run/log.jsonl")" >"$work/resume.tsv"
  echo "$SECONDS s  resumed at step $((10#$last)) on $half ranks -> $code"
  [[ $code == 0 ]] || tail -n 3 "$work/resume.txt"
}

python3 "$source/tests/support/write_corpus.py" "$work/text" --documents 100
"$fwl" tokenize "$work/text" --tokenizer byte --out "$work/data" --split test=0.1 >"$work/tokenize.txt" 2>&1
[[ $ranks == 1 ]] || verify "$ranks"
for ((n = 1; n <= ranks; n *= 2)); do bench scaling weak "$small" "$n" 1 "$context" $((rows * n)); done
if [[ $ranks -gt 1 ]]; then
  stop_a_rank KILL && resume_on_half
  stop_a_rank STOP || true
fi
for ((n = 1; n <= ranks; n *= 2)); do
  for t in "${lengths[@]}"; do
    # One GPU holds no more than the middle length; few ranks no longest one.
    [[ $n -ge 4 || $t -lt ${lengths[2]} ]] || continue
    bench scaling sequence "$small" "$n" "$n" "$t" 1
  done
done
for ((n = 1; n <= ranks; n *= 2)); do bench scaling strong "$small" "$n" 1 "$context" $((2 * rows)) train.micro_batch=$rows; done
for ((n = 1; n <= ranks; n *= 2)); do bench scaling weak "$large" "$n" 1 "$context" $((large_rows * n)); done
for ((n = ranks; n >= 2; n /= 2)); do exchanges "$n" "${lengths[0]}"; done
for ((n = ranks / 2; n >= 2; n /= 2)); do verify "$n"; done
for ((n = 1; n <= ranks; n *= 2)); do bench scaling strong "$large" "$n" 1 "$context" $((2 * large_rows)) train.micro_batch=$large_rows; done

python3 "$source/tests/benchmarks/scaling_table.py" "$work" "$fwl" "${cpu:-no}" "$ranks" "$SECONDS" "$out/scaling.json" | tee "$out/scaling.txt"
exit "${PIPESTATUS[0]}"
