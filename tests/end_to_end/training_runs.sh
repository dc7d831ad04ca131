# Starting, watching and comparing small training runs. Sourced by tests with their own arguments, as support/shell_test.sh.
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"

corpus "$work/text" 145
"$fwl" tokenize "$work/text" --tokenizer byte --out "$work/data" --split test=0.1 >/dev/null

# The command of a run into $command. Words with = are settings, others flags. $preload, $environment: for the ranks alone.
training_command() { # RANKS RUN WORDS...
  local ranks=$1 run=$2 word
  shift 2
  command=(mpirun --bind-to none --oversubscribe -n "$ranks")
  [[ -z ${preload:-} ]] || command+=(-x LD_PRELOAD="$preload")
  for word in ${environment:-}; do command+=(-x "$word"); done
  command+=("$fwl" train "$source/launch/configs/tiny.yaml" --set data.path="$work/data" --set run.dir="${runs:-$work}/$run"
    --set train.device=cpu --set train.log_every=1)
  for word in "$@"; do
    case $word in *=*) command+=(--set "$word") ;; *) command+=("$word") ;; esac
  done
}
start() { # RANKS RUN WORDS...: runs to its end
  code=0
  training_command "$@"
  "${command[@]}" >"$work/out" 2>&1 || code=$?
}
expect() { # CODE DESCRIPTION
  [[ $code == "$1" ]] || fail "$2: exit code $code, not $1"
  echo "ok: $2 -> $code"
}
start_in_background() { # RANKS RUN WORDS...
  training_command "$@"
  : >"$work/out" # here: a background job opens it later, and until then it holds the last run's steps
  "${command[@]}" >"$work/out" 2>&1 &
  launcher=$!
}
rank_processes() { pgrep -P "$launcher" || true; }
rank_process() { # RANK
  local process
  for process in $(rank_processes); do
    ! grep -qzx "OMPI_COMM_WORLD_RANK=$1" "/proc/$process/environ" 2>/dev/null || echo "$process"
  done
}
wait_for_step() { # STEP
  local i
  for ((i = 0; i < 2400; i++)); do
    ! grep -q "step $1/" "$work/out" || return 0
    kill -0 "$launcher" 2>/dev/null || fail "ended before step $1"
    sleep 0.05
  done
  fail "step $1 was not reached"
}
expect_background() { # CODE DESCRIPTION
  code=0
  wait "$launcher" || code=$?
  expect "$1" "$2"
}
expect_background_not() { # CODE DESCRIPTION
  code=0
  wait "$launcher" || code=$?
  [[ $code != "$1" ]] || fail "$2: exit code $code"
  echo "ok: $2 -> $code"
}

# Compares the last checkpoints of two runs: counters, data read, and tensors, bit for bit or to rounding (of fp32, or of
# bf16, where weights in another last bit move a gradient's norm by percents).
same_run() { # RUN RUN STEP bits|rounding|bf16
  local run name
  name=$(printf 'step-%07d' "$3")
  for run in "$1" "$2"; do
    "$fwl" inspect "${runs:-$work}/$run/checkpoints/$name" --json "$work/$run.json" >/dev/null || fail "no checkpoint of $run at step $3"
  done
  python3 - "$work/$1.json" "$work/$2.json" "${runs:-$work}/$1" "${runs:-$work}/$2" "$4" <<'P' || fail "$1 and $2 differ at step $3"
import json, sys
a, b = [json.load(open(p)) for p in sys.argv[1:3]]
for key in ("step", "tokens", "samples", "skipped", "rolling_hash", "learning_rate"):
    assert a[key] == b[key], (key, a[key], b[key])
x, y = [{l["step"]: l for l in map(json.loads, open(p + "/log.jsonl"))} for p in sys.argv[3:5]]
assert sorted(x) == sorted(y), (sorted(x), sorted(y))
for step in x:
    for key in ("loss", "loss_slow", "grad_norm", "learning_rate", "tokens"):
        p, q = x[step][key], y[step][key]
        tolerance = {"bits": 0, "rounding": 2e-4, "bf16": 0.1 if key == "grad_norm" else 5e-3}[sys.argv[5]]
        assert abs(p - q) <= tolerance * abs(p), (step, key, p, q)
    for key in ("state_norm", "fast_to_slow"):  # absent for a control
        p, q = x[step].get(key, {}), y[step].get(key, {})
        assert p.keys() == q.keys(), (step, key, p, q)
        tolerance = {"bits": 0, "rounding": 2e-3, "bf16": 0.1}[sys.argv[5]]
        assert all(abs(p[k] - q[k]) <= tolerance * abs(p[k]) for k in p), (step, key, p, q)
P
  [[ $4 != bits ]] || same_files "${runs:-$work}/$1/checkpoints/$name" "${runs:-$work}/$2/checkpoints/$name" || fail "the tensors of $1 and $2 differ"
  echo "ok: $1 = $2 ($4)"
}
same_files() { # FOLDER FOLDER
  local file
  for file in "$1"/*.h5; do cmp "$file" "$2/${file##*/}" || return 1; done
}
