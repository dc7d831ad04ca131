#!/usr/bin/env bash
# Promises of sequence-chunked training: every layout computes what one rank computes, no token moves an earlier logit,
# carried streams survive a change of the layout, and a rank that is killed, stopped or started with another config never
# leaves the others waiting. Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
on_ranks() { local ranks=$1; shift; timeout 120 mpirun --bind-to none --oversubscribe -n "$ranks" "$fwl" "$@"; }
settings_of() { # A=1 B=2 -> --set A=1 --set B=2
  local s
  for s in "$@"; do printf -- '--set\n%s\n' "$s"; done
}
check() { # CODE RANKS COMMAND SETTINGS...: fwl verify COMMAND on the small config
  local want=$1 ranks=$2 command=$3 code=0
  shift 3
  mapfile -t set < <(settings_of "$@")
  on_ranks "$ranks" verify "$command" "$work/small.yaml" "${set[@]}" >"$work/out" 2>&1 || code=$?
  [[ $code == "$want" ]] || { cat "$work/out" >&2; fail "verify $command on $ranks ranks, $*: exit code $code, not $want"; }
  echo "ok: $ranks ranks, $command $* -> $code $(grep -o 'worst [0-9.e+-]*' "$work/out" || true)"
}
cat >"$work/small.yaml" <<'Y'
model: {layers: 2, width: 24, heads: 4, context: 48, window: 10, vocab_size: 61, fast_weight: {chunk: 7, step_size_init: 5, decay_init: 0.98, fast_layers: both, hessian_threshold: 0}}
train: {global_batch: 4, device: cpu, dtype: fp64, warmup_steps: 10, steps: 100}
Y

echo "== parallel = serial: layouts x attention x decay, documents at and across shard edges, unscored rows"
for layout in "2 1 2" "2 2 1" "4 2 2" "4 1 4" "3 1 3"; do
  read -r ranks data sequence <<<"$layout"
  check 0 "$ranks" parallel parallel.data="$data" parallel.sequence="$sequence"
  check 0 "$ranks" parallel parallel.data="$data" parallel.sequence="$sequence" train.dtype=fp32 model.window=0
  check 0 "$ranks" parallel parallel.data="$data" parallel.sequence="$sequence" model.fast_weight.decay_init=1 train.micro_batch=1
  check 0 "$ranks" causality parallel.data="$data" parallel.sequence="$sequence"
done
check 0 4 causality parallel.sequence=2 model.window=0 train.dtype=fp32
check 0 4 parallel parallel.sequence=4 train.stream=true
check 0 4 parallel parallel.sequence=2 train.stream=true model.window=40 train.micro_batch=1
check 0 3 parallel parallel.sequence=3 train.stream=true model.window=0 parallel.state_exchange=all_to_all
check 0 4 parallel parallel.sequence=4 parallel.attention=all_gather parallel.state_exchange=all_to_all model.fast_weight.fast_norm=true model.fast_weight.fast_biases=true
check 0 4 parallel parallel.sequence=4 train.stream=true model.fast_weight.decay_heads=3 model.fast_weight.fast_biases=true
check 0 2 causality parallel.sequence=2 model.fast_weight.decay_heads=3
check 0 4 parallel parallel.sequence=4 train.stream=true model.fast_weight.key_norm=l2_both model.fast_weight.learned_start=true model.fast_weight.write_gate=both
check 0 4 parallel parallel.sequence=4 train.stream=true model.fast_weight.inner_steps=2 model.fast_weight.fast_biases=true model.fast_weight.decay_heads=3
check 0 4 parallel parallel.sequence=2 parallel.data=2 model.fast_weight.hessian_threshold=0.0165
check 0 4 parallel parallel.sequence=4 train.stream=true model.fast_weight.fast_layers=second model.fast_weight.hessian_threshold=0.01 model.fast_weight.query_gain=true
check 0 3 causality parallel.sequence=3 model.fast_weight.fast_layers=second
check 0 3 causality parallel.sequence=3 model.fast_weight.inner_steps=3
check 2 2 parallel parallel.sequence=2 model.fast_weight.inner_steps=2 model.fast_weight.fast_norm=true
check 0 2 causality parallel.sequence=2 model.fast_weight.key_norm=l2 model.fast_weight.learned_start=true
check 0 4 parallel parallel.sequence=4 model.fast_weight.update=none
check 5 2 parallel parallel.sequence=2 parallel.state_wire=bf16 train.dtype=fp32 model.fast_weight.step_size_init=50
# Rounding at the squared ReLU's kink is no difference between layouts; a bfloat16 wire is, at the same sizes.
kink=(parallel.sequence=4 train.dtype=fp32 train.seed=4 train.global_batch=8 model.width=128 model.heads=8 model.context=512 model.window=100 model.vocab_size=512
  model.fast_weight.chunk=64 model.fast_weight.step_size_init=0.25 model.fast_weight.decay_init=0.998)
check 0 4 parallel "${kink[@]}"
check 5 4 parallel "${kink[@]}" parallel.state_wire=bf16
check 2 3 parallel parallel.sequence=3 model.context=50
grep -q "Use 48 or 51" "$work/out" || fail "a length that the ranks do not divide: no advice"
check 2 4 parallel parallel.sequence=3
grep -q "1x4, 2x2, 4x1" "$work/out" || fail "an impossible layout: no advice"

corpus "$work/text" 100
"$fwl" tokenize "$work/text" --tokenizer byte --out "$work/data" --split test=0.1 >/dev/null
train() { # RANKS RUN SETTINGS...
  local ranks=$1 run=$2
  shift 2
  mapfile -t set < <(settings_of data.path="$work/data" run.dir="$work/$run" train.device=cpu train.log_every=1 "$@")
  on_ranks "$ranks" train "$source/launch/configs/tiny.yaml" "${set[@]}" >"$work/out" 2>&1
}
same_log() { # RUN RUN FIRST_STEP: losses agree to rounding
  python3 - "$work/$1/log.jsonl" "$work/$2/log.jsonl" "$3" <<'P' || fail "the logs of $1 and $2 differ"
import json, sys
a, b = [{l["step"]: l["loss"] for l in map(json.loads, open(p))} for p in sys.argv[1:3]]
steps = [s for s in a if s >= int(sys.argv[3])]
assert steps and all(abs(a[s] - b[s]) < 2e-5 * a[s] for s in steps), [(s, a[s], b.get(s)) for s in steps]
P
}

echo "== streams: every layout is one rank's run, and a checkpoint goes on in another layout"
stream=(train.stream=true train.steps=8 train.save_every=4 checkpoints.keep=0 train.dtype=fp32)
train 1 one "${stream[@]}" || { cat "$work/out"; fail "one rank"; }
train 4 four "${stream[@]}" parallel.sequence=4 || { cat "$work/out"; fail "1x4"; }
same_log one four 1
for layout in "2 2" "4 2" "1 1"; do
  read -r ranks sequence <<<"$layout"
  run=resumed-$ranks-$sequence
  mkdir -p "$work/$run/checkpoints"
  cp -r "$work"/four/checkpoints/step-*4 "$work/$run/checkpoints/"
  train "$ranks" "$run" "${stream[@]}" parallel.sequence="$sequence" train.resume=auto || { cat "$work/out"; fail "resume on $ranks ranks"; }
  same_log four "$run" 5
  echo "ok: a stream saved on 1x4 goes on on $ranks ranks, $sequence a sequence"
done
train 1 plain train.steps=8 train.dtype=fp32 || fail "no stream"
python3 - "$work/one/log.jsonl" "$work/plain/log.jsonl" <<'P' || fail "streams read what shuffled windows read"
import json, sys
a, b = [[json.loads(l)["loss"] for l in open(p)] for p in sys.argv[1:]]
assert any(abs(x - y) > 1e-4 for x, y in zip(a, b))
P

echo "== carried evaluation"
"$fwl" eval "$work/one" --device cpu --data "$work/data/test" --max-documents 3 --modes slow,fast,carried --json "$work/eval.json" >/dev/null
python3 - "$work/eval.json" <<'P' || fail "carried evaluation"
import json, sys
m = json.load(open(sys.argv[1]))["modes"]
assert m["carried"]["tokens"] == m["fast"]["tokens"] == m["slow"]["tokens"]
assert abs(m["carried"]["nats_per_token"] - m["fast"]["nats_per_token"]) > 1e-6
P

echo "== nobody hangs"
fault() { # SIGNAL SECONDS: a signal to rank 2 of a long run
  local signal=$1 limit=$2 code=0 pid=
  mapfile -t set < <(settings_of data.path="$work/data" run.dir="$work/fault" train.device=cpu train.steps=100000 parallel.sequence=2 parallel.timeout_s=2)
  timeout 120 mpirun --bind-to none --oversubscribe -n 4 "$fwl" train "$source/launch/configs/tiny.yaml" "${set[@]}" >"$work/out" 2>&1 &
  local job=$!
  for _ in $(seq 400); do
    sleep 0.2
    grep -q '^{' "$work/fault/log.jsonl" 2>/dev/null && break
  done
  for p in $(pgrep -f "run.dir=$work/fault"); do
    grep -qzx OMPI_COMM_WORLD_RANK=2 "/proc/$p/environ" 2>/dev/null && pid=$p
  done
  [[ -n $pid ]] || { cat "$work/out"; fail "rank 2 not found"; }
  local start=$SECONDS
  kill "-$signal" "$pid"
  wait "$job" || code=$?
  local seconds=$((SECONDS - start))
  [[ $code != 0 && $code != 124 && $seconds -le $limit ]] || { cat "$work/out"; fail "SIG$signal: exit code $code after $seconds s"; }
  ! pgrep -f "run.dir=$work/fault" >/dev/null || fail "SIG$signal: processes are left"
  rm -rf "$work"/fault*
  last_code=$code
  echo "ok: SIG$signal to rank 2 of 4 -> $code after $seconds s"
}
fault STOP 14
[[ $last_code == 4 ]] || fail "a stopped rank must end the job with exit code 4"
grep -q "rank 2 (host .*) is stopped" "$work/out" || { cat "$work/out"; fail "the stopped rank is not named"; }
fault KILL 12
c=("$fwl" train "$source/launch/configs/tiny.yaml" --set data.path="$work/data" --set run.dir="$work/other" --set train.device=cpu)
code=0
timeout 60 mpirun --bind-to none --oversubscribe -n 3 "${c[@]}" : -n 1 "${c[@]}" --set train.learning_rate=0.5 --set parallel.timeout_s=5 >"$work/out" 2>&1 || code=$?
[[ $code == 2 ]] || { cat "$work/out"; fail "another config on one rank: exit code $code"; }
grep -q "of rank(s) 3 differs" "$work/out" || { cat "$work/out"; fail "the rank with another config is not named"; }
echo "ok: a rank with another config is named -> 2"
echo "all passed"
