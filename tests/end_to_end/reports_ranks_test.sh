#!/usr/bin/env bash
# Reports about ranks, as a table: ranks that read different things, and how a job ends when it is asked to, or when a
# rank fails. A row is one call; each says what users met. Arguments: FWL_BINARY SOURCE_DIR [ROWS, a pattern].
set -euo pipefail
rows=${3:-.}
. "$(dirname "${BASH_SOURCE[0]}")/training_runs.sh"
injection=$(dirname "$fwl")/fwl_fault_injection.so
tiny=$source/launch/configs/tiny.yaml
wanted() { [[ $1 =~ $rows ]]; }
# ended CODE WITHIN_S TEXT DESCRIPTION: of the last start; TEXT must be in its output.
ended() {
  [[ $code == "$1" ]] || fail "$4: exit code $code, not $1"
  ((took_s <= $2)) || fail "$4: took $took_s s, not $2 or less"
  grep -qE -- "$3" "$work/out" || fail "$4: nothing says '$3'"
  echo "ok: $4 -> $code in $took_s s"
}
# run_within SECONDS COMMAND...: into $code, $took_s, $work/out
run_within() {
  local limit=$1 begun=$SECONDS
  shift
  code=0
  timeout --kill-after=5 "$limit" "$@" >"$work/out" 2>&1 </dev/null || code=$?
  took_s=$((SECONDS - begun))
}
wait_until() { # DESCRIPTION COMMAND...: at most 60 s
  local i what=$1
  shift
  for ((i = 0; i < 1200; i++)); do
    "$@" && return
    sleep 0.05
  done
  fail "$what: did not come"
}
said() { grep -qE -- "$1" "$work/out"; } # PATTERN

# ---- ranks agree on what they read: node-local copies, one rank in folder a, one in b

two_folders() { # COMMAND AND OPTIONS...: rank 0 in $work/a, rank 1 in $work/b
  run_within 60 mpirun --bind-to none --oversubscribe -wdir "$work/a" -n 1 "$fwl" "$@" : -wdir "$work/b" -n 1 "$fwl" "$@"
}
mkdir "$work/a" "$work/b"
cp -r "$work/data" "$work/a/data"
corpus "$work/less" 120
"$fwl" tokenize "$work/less" --tokenizer byte --out "$work/b/data" --split test=0.1 >/dev/null
train=(train "$tiny" --set train.device=cpu --set run.dir="$work/two" --set train.steps=2 --set data.path=data)
if wanted train-data; then
  two_folders "${train[@]}"
  ended 3 30 'data differs between ranks.*tokens [0-9]+ \(rank 1\)' "train: two data sets"
  [[ ! -e $work/two/checkpoints/latest ]] || fail "trained on two data sets"
fi
if wanted verify-data; then
  two_folders verify parallel "$tiny" --set train.device=cpu --set data.path=data --steps 1
  ended 3 30 'data differs between ranks' "verify parallel: two data sets"
fi
if wanted eval-data; then
  quietly "$fwl" "${train[@]}" --set data.path="$work/a/data" --set run.dir="$work/one"
  two_folders eval "$work/one" --data data/test --modes slow --device cpu
  ended 3 30 'differs between ranks.*\(rank 1\)' "eval: two data sets"
fi
if wanted run-dir; then
  two_folders "${train[@]}" --set data.path="$work/data" --set run.dir=runs/local
  ended 2 30 'rank 1: host .* does not see what rank 0 writes' "train: run.dir is a folder of each host's own"
fi
if wanted checkpoint; then
  # The same path and step, other weights.
  for row in "a 1e-3" "b 2e-3"; do
    read -r folder rate <<<"$row"
    quietly "$fwl" "${train[@]}" --set data.path="$work/data" --set run.dir="$work/$folder/first" --set train.learning_rate="$rate"
  done
  two_folders "${train[@]}" --set data.path="$work/data" --set run.dir="$work/forked" --set train.resume=first --allow-changes
  ended 3 30 "checkpoint .*differs between ranks.*hash" "train: two checkpoints"
  two_folders eval first --data "$work/data/test" --modes slow --device cpu
  ended 3 30 'differs between ranks: checkpoint' "eval: two checkpoints"
fi
if wanted missing; then
  mv "$work/b/data" "$work/b/elsewhere"
  rm -f "$work/verdict"
  FWL_VERDICT=$work/verdict two_folders "${train[@]}"
  ended 3 30 'data' "train: one rank has no data"
  [[ $(cut -d' ' -f1 "$work/verdict") == 3 ]] || fail "the verdict is '$(cat "$work/verdict")'"
  mv "$work/b/elsewhere" "$work/b/data"
fi
if wanted order; then
  rm -rf "$work/a/data" "$work/b/data"
  "$fwl" tokenize "$work/text" --tokenizer byte --out "$work/a/data" --shard-tokens 4000 >/dev/null
  cp -r "$work/a/data" "$work/b/data"
  damaged=0
  for file in $(find "$work/b/data/train" -name '*.h5' | sort | awk 'NR % 2'); do
    truncate -s 900 "$file"
    damaged=$((damaged + 1))
  done
  ((damaged > 1)) || fail "the data set has too few shards"
  two_folders "${train[@]}" --set data.skip_bad=true --set data.order=documents --set train.stream=true --set train.steps=40
  ended 3 40 'order of the samples read up to step [0-9]+ differs between ranks' "train: a copy is damaged on one rank"
fi
if wanted config; then
  run_within 60 mpirun --bind-to none --oversubscribe -n 1 "$fwl" "${train[@]}" --set data.path="$work/data" \
    : -n 1 "$fwl" "${train[@]}" --set data.path="$work/data" --set train.seed=9
  ended 2 30 "config of rank\(s\) 1 differs" "train: two configs"
fi

# ---- what rank 0 alone does at the start

if wanted between; then
  # Another job takes the folder between the old run's going aside and the new lock.
  start 2 between train.steps=1
  preload=$injection environment="FWL_FAULT=flock:EWOULDBLOCK:/between/lock FWL_FAULT_FROM=2" start 2 between train.steps=1 parallel.timeout_s=5
  expect 75 "the folder is taken at the last moment"
fi
if wanted verdict-early; then
  rm -f "$work/verdict"
  FWL_VERDICT=$work/verdict run_within 60 mpirun --bind-to none --oversubscribe -n 1 sleep 3 : -n 1 "$fwl" train "$work/none.yaml"
  [[ $(cut -d' ' -f1-3 "$work/verdict") =~ ^[23]\ rank\ 1: ]] || fail "the verdict is '$(cat "$work/verdict")'"
  echo "ok: a failure before MPI's start names its rank"
fi

# ---- endings

if wanted early; then
  # Sent the moment the process is there, and while it starts. bind_rank.sh stands for every launcher's script.
  for row in "USR1 0" "TERM 0.1" "HUP 0.3" "USR2 0.6"; do
    read -r signal delay <<<"$row"
    rm -rf "$work/early"
    "$source/launch/bind_rank.sh" "$fwl" "${train[@]}" --set data.path="$work/data" --set run.dir="$work/early" \
      --set train.steps=1000000 >"$work/out" 2>&1 &
    pid=$!
    # From the first instruction of the script to the blocking of signals there are some ms.
    # SIGUSR1 is bit 9.
    wait_until "blocked signals" awk '/^Sig(Blk|Cgt):/ && substr($2, 14, 1) ~ /[2367abef]/ { found = 1 } END { exit !found }' "/proc/$pid/status"
    sleep "$delay"
    kill "-$signal" "$pid"
    code=0
    wait "$pid" || code=$?
    [[ $code == 75 ]] || fail "SIG$signal after $delay s: exit code $code, not 75"
  done
  echo "ok: signals while a rank starts -> 75"
fi
if wanted late; then
  for signal in HUP USR2; do
    rm -rf "$work/late"
    : >"$work/out"
    "$fwl" "${train[@]}" --set data.path="$work/data" --set run.dir="$work/late" --set train.steps=1000000 \
      --set train.log_every=1 --set train.save_every=0 >"$work/out" 2>&1 &
    pid=$!
    wait_until "the first step" said 'step 1/'
    kill "-$signal" "$pid"
    code=0
    wait "$pid" || code=$?
    [[ $code == 75 && -e $work/late/checkpoints/latest ]] || fail "SIG$signal: exit code $code, or nothing saved"
  done
  echo "ok: HUP and USR2 save -> 75"
fi
if wanted nohup; then
  (trap '' HUP && exec "$fwl" "${train[@]}" --set data.path="$work/data" --set run.dir="$work/nohup" --set train.steps=20 --set train.log_every=1) \
    >"$work/out" 2>&1 &
  pid=$!
  wait_until "the first step" said 'step 1/'
  kill -HUP "$pid"
  code=0
  wait "$pid" || code=$?
  [[ $code == 0 ]] || fail "nohup: exit code $code"
  echo "ok: an ignored HUP stays ignored"
fi
if wanted pipe; then
  code=0
  { "$fwl" "${train[@]}" --set data.path="$work/data" --set run.dir="$work/pipe" --set train.steps=12 --set train.log_every=1 2>&1 || echo $? >"$work/code"; } |
    head -n 1 >/dev/null
  [[ ! -e $work/code && -e $work/pipe/checkpoints/latest ]] || fail "a closed pipe ended the run: $(cat "$work/code")"
  echo "ok: the log's pipe is closed -> the run goes on"
fi
if wanted plain; then
  run_within 60 mpirun --bind-to none --oversubscribe -n 2 "$fwl" "${train[@]}" --set data.path="$work/data" --set run.dir="$work/plain"
  ended 0 60 'mpirun.* kills .*launch/mpirun.sh' "a plain mpirun is warned of"
  run_within 60 mpirun --bind-to none --oversubscribe -n 2 "$fwl" "${train[@]}" --set data.path="$work/data" --set run.dir="$work/plain" --set train.stream=true
  ended 0 60 'since the last save is lost then: with train.stream' "what a rescue cannot do is said"
  run_within 60 env FWL="$fwl" "$source/launch/mpirun.sh" -n 2 --no-check "${train[@]}" --set data.path="$work/data" --set run.dir="$work/launched"
  ended 0 60 'training' "launch/mpirun.sh"
  ! said ' kills ' || fail "launch/mpirun.sh is warned of"
fi
if wanted rescue; then
  # Steps of many seconds: the one under way is not over when mpirun kills.
  export OMPI_MCA_odls_base_sigkill_timeout=4
  start_in_background 2 rescued train.steps=1000 train.save_every=0 train.global_batch=1024 train.micro_batch=8
  wait_for_step 1
  kill -TERM "$launcher"
  wait "$launcher" || true
  unset OMPI_MCA_odls_base_sigkill_timeout
  said 'saved step [0-9]+ at once, while the next one is computed' || fail "nothing was saved at once"
  [[ -e $work/rescued/checkpoints/latest ]] || fail "the newest finished step was not saved"
  quietly "$fwl" inspect "$work/rescued" --verify
  echo "ok: Ctrl-C under a plain mpirun, in a long step -> $(cat "$work/rescued/checkpoints/latest")"
fi
if wanted begun; then
  # As above, while a save is under way that later steps would have published.
  export OMPI_MCA_odls_base_sigkill_timeout=4
  start_in_background 2 begun train.steps=1000 train.save_every=1 train.global_batch=1024 train.micro_batch=8
  wait_for_step 1
  kill -TERM "$launcher"
  wait "$launcher" || true
  unset OMPI_MCA_odls_base_sigkill_timeout
  [[ -e $work/begun/checkpoints/latest ]] || fail "a save that had begun was lost"
  quietly "$fwl" inspect "$work/begun" --verify
  echo "ok: Ctrl-C under a plain mpirun, while a save is under way -> $(cat "$work/begun/checkpoints/latest")"
fi
if wanted stopped; then
  # Rank 0's disk is slow when its peer stops: the job's end must not wait for the disk.
  preload=$injection environment="FWL_FAULT_RANK=0 FWL_FAULT_SLOW_PART=.writing-step- FWL_FAULT_SLOW_US=3000000" \
    start_in_background 2 stopped train.steps=100000 train.save_every=1 parallel.timeout_s=2
  wait_until "a save" compgen -G "$work/stopped/checkpoints/.writing-step-*" >/dev/null
  kill -STOP "$(rank_process 1)"
  begun=$SECONDS
  code=0
  wait "$launcher" || code=$?
  took_s=$((SECONDS - begun))
  ended 4 25 'is stopped \(SIGSTOP or a debugger\)' "a peer is stopped while saving"
fi
if wanted namespace; then
  if unshare --pid --fork --mount-proc true 2>/dev/null; then
    one=("$fwl" "${train[@]}" --set data.path="$work/data" --set run.dir="$work/namespace" --set train.steps=60 --set train.log_every=1
      --set parallel.timeout_s=60)
    : >"$work/out"
    mpirun --bind-to none --oversubscribe -n 1 "${one[@]}" : -n 1 unshare --pid --fork --mount-proc "${one[@]}" >"$work/out" 2>&1 &
    launcher=$!
    wait_for_step 2
    # The rank in the namespace waits for rank 0, whose process its own /proc does not show.
    held=$(rank_process 0)
    kill -STOP "$held"
    sleep 5
    kill -CONT "$held"
    code=0
    wait "$launcher" || code=$?
    [[ $code == 0 ]] || fail "a rank in a PID namespace, away for 5 s: exit code $code"
    echo "ok: a rank in another PID namespace is not called gone"
  else
    echo "NOTE: no PID namespaces here"
  fi
fi
if wanted setup; then
  FWL_SESSION_TIMEOUT_S=2 run_within 40 mpirun --bind-to none --oversubscribe -n 1 "$fwl" "${train[@]}" --set data.path="$work/data" : -n 1 sleep 30
  ended 4 25 "MPI's set-up waited 2 s" "a rank that never starts MPI"
fi
echo "all rows passed"
