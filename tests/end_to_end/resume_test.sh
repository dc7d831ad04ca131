#!/usr/bin/env bash
# Restarting: in any number of ranks, after signals and time limits, with another config, and two jobs on one folder.
# Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/training_runs.sh"

# Runs 24 steps in four layouts, six steps each: the next start sees what this one had written by its turn's end.
in_four_layouts() { # RUN "RANKS SETTINGS"...
  local run=$1 turn=0 layout words step
  shift
  for layout in "$@"; do
    read -ra words <<<"$layout"
    start "${words[0]}" "$run" "${settings[@]}" train.resume=auto "${words[@]:1}"
    expect 0 "from step $((6 * turn)) on $layout"
    turn=$((turn + 1))
    for step in 6 12 18 24; do ((step <= 6 * turn)) || rm -r "$work/$run/checkpoints/$(printf 'step-%07d' $step)"; done
  done
}

echo "== 1 -> 2 -> 4 -> 3 ranks, sharded optimizer or not: the same samples in the same order, losses equal to rounding"
settings=(train.steps=24 train.save_every=6 train.global_batch=12 checkpoints.keep=0)
start 1 whole "${settings[@]}"
expect 0 "undisturbed, 1 rank"
in_four_layouts resized "1" "2 parallel.shard_optimizer=true" "4" "3 parallel.shard_optimizer=true"
same_run whole resized 24 rounding

echo "== data x sequence layouts with carried state"
settings=(train.steps=24 train.save_every=6 train.global_batch=4 train.stream=true checkpoints.keep=0)
start 1 streams "${settings[@]}"
expect 0 "undisturbed, 1 rank"
in_four_layouts relaid "1" "2 parallel.sequence=2" "4 parallel.sequence=2 parallel.shard_optimizer=true" "4 parallel.sequence=1"
same_run streams relaid 24 rounding
start 1 relaid "${settings[@]}" train.resume=auto train.stream=false
expect 2 "streams given up without --allow-changes"

echo "== gradients and weights of a sharded optimizer, uneven over 4 ranks, against one rank"
code=0
mpirun --bind-to none --oversubscribe -n 4 "$fwl" verify parallel "$source/launch/configs/tiny.yaml" --set train.device=cpu --set train.dtype=fp64 \
  --set parallel.sequence=2 --set parallel.shard_optimizer=true --set parallel.bucket_mb=0.05 --set model.vocab_size=259 >"$work/out" 2>&1 || code=$?
expect 0 "fwl verify parallel with parallel.shard_optimizer"

# The first six steps of a run, for another one to go on from.
first_six_steps() { # RUN NEW_RUN
  mkdir -p "$work/$2/checkpoints"
  cp -r "$work/$1/checkpoints/step-0000006" "$work/$2/checkpoints/"
  cp "$work/$1/log.jsonl" "$work/$2/"
}
for dtype in fp32 bf16; do
  echo "== $dtype, the same layout, sharded: bit for bit; and on without sharding"
  settings=(train.steps=24 train.save_every=6 train.global_batch=12 checkpoints.keep=0 train.dtype=$dtype)
  start 3 sharded-$dtype "${settings[@]}" parallel.shard_optimizer=true
  expect 0 "undisturbed, 3 ranks"
  first_six_steps sharded-$dtype again-$dtype
  start 3 again-$dtype "${settings[@]}" parallel.shard_optimizer=true train.resume=auto
  expect 0 "from step 6 on 3 ranks"
  same_run sharded-$dtype again-$dtype 24 bits
  first_six_steps sharded-$dtype unsharded-$dtype
  start 3 unsharded-$dtype "${settings[@]}" train.resume=auto
  expect 0 "from step 6 on 3 ranks, not sharded"
  same_run sharded-$dtype unsharded-$dtype 24 "${dtype/fp32/rounding}"
done

settings=(train.steps=24 train.save_every=6 train.global_batch=12 checkpoints.keep=0)
echo "== another schedule"
start 1 resized "${settings[@]}" train.steps=26 train.resume=auto
expect 2 "more steps without --allow-changes"
grep -q "train.steps: 24 -> 26 (needs --allow-changes)" "$work/out" || fail "the difference is not listed"
start 1 resized "${settings[@]}" train.steps=26 train.resume=auto --allow-changes
expect 0 "more steps with --allow-changes"

echo "== signals on one rank: all ranks save and end with 75, and the next start goes on bit for bit"
start 2 calm train.steps=60 train.save_every=0
expect 0 "undisturbed, 2 ranks"
for signal in TERM INT USR1; do
  start_in_background 2 "asked$signal" train.steps=60 train.save_every=0
  wait_for_step 5
  kill "-$signal" "$(rank_process 1)"
  expect_background 75 "SIG$signal on rank 1"
  grep -q "SIG$signal received" "$work/out" || fail "the signal is not named"
  "$fwl" inspect "$work/asked$signal" --verify >/dev/null || fail "the checkpoint is not good"
  start 2 "asked$signal" train.steps=60 train.save_every=0 train.resume=auto
  expect 0 "the rest"
  same_run calm "asked$signal" 60 bits
done

echo "== a second SIGINT ends at once"
# Steps of seconds, so that both signals fall into one.
start_in_background 2 twice train.steps=100 train.global_batch=256
wait_for_step 1
process=$(rank_process 1)
kill -INT "$process"
sleep 0.2
kill -INT "$process"
expect_background 130 "SIGINT twice"
[[ ! -e $work/twice/checkpoints/latest ]] || fail "the second SIGINT did not end at once"

echo "== the wall-clock limit"
start 2 limited train.steps=100000 train.max_seconds=2
expect 75 "train.max_seconds"
"$fwl" inspect "$work/limited" --verify >/dev/null || fail "the checkpoint is not good"

echo "== two jobs on one folder"
start_in_background 2 shared train.steps=100000 train.save_every=0
wait_for_step 2
for resume in auto none; do
  start 1 shared train.resume=$resume run.lock_wait_s=0.5
  expect 75 "a second job, train.resume=$resume: later"
  grep -q "is in use by process" "$work/out" || fail "the holder is not named"
done
kill -USR1 "$(rank_process 0)"
expect_background 75 "the first job goes on"
[[ ! -e $work/shared.previous-1 ]] || fail "the refused job moved the folder"
echo "all passed"
