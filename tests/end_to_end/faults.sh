#!/usr/bin/env bash
# Faults, in numbers: real training processes (4 ranks, CPU) are killed, their disk fills, their files are damaged, their
# writes and renames fail, their folder is taken twice. Each time the run must go on from a complete checkpoint and end with
# the very weights of the undisturbed run. Prints a table.
#
#   tests/end_to_end/faults.sh [--full] [--fwl BINARY] [--seed N]
#
# The short form (in the suite) kills 8 times, the long form 100 times, at least 40 of them while a checkpoint is being
# written. Uses a small tmpfs where mounting is allowed; without, the full disk and the read-only folder are injected.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
fwl=$source/build/bin/fwl kills=8 kills_while_saving=4 flips=100 RANDOM=1
while (($#)); do
  case $1 in
    --full) kills=100 kills_while_saving=40 ;;
    --fwl) fwl=$2 && shift ;;
    --seed) RANDOM=$2 && shift ;;
    *) echo "usage: $0 [--full] [--fwl BINARY] [--seed N]" >&2 && exit 2 ;;
  esac
  shift
done
. "$source/tests/end_to_end/training_runs.sh" "$fwl" "$source"
injection=$(dirname "$fwl")/fwl_fault_injection.so
[[ -e $injection ]] || fail "no $injection: build the target fwl_fault_injection"
settings=(train.steps=12 train.save_every=3 checkpoints.keep=0)
table=()
row() { table+=("$(printf '| %-46s | %8s | %s' "$1" "$2" "$3") |"); }
# The disturbed run, started again without the fault, ends like the undisturbed one.
recovers() { # RUN
  preload= environment= start 4 "$1" "${settings[@]}" train.resume=auto
  expect 0 "$1: started again"
  ! grep -q "damaged\|does not fit" "$work/out" || fail "a checkpoint that looked complete was damaged"
  same_run calm "$1" 12 bits
}
checkpoints_are_good() { # RUN
  "$fwl" inspect "${runs:-$work}/$1" --verify >"$work/verified" 2>&1 || { cat "$work/verified"; fail "$1: a checkpoint is damaged"; }
}
random_below() { echo $((RANDOM * 32768 + RANDOM)) | awk -v n="$1" '{ print $1 % n }'; }

echo "== the undisturbed run"
begun=$(date +%s%N)
start 4 calm "${settings[@]}"
expect 0 "undisturbed, 4 ranks"
lasts_ms=$((($(date +%s%N) - begun) / 1000000))

echo "== (a) $kills kills"
is_saving() { compgen -G "$work/$1/checkpoints/.writing-step-*" >/dev/null; } # RUN
wait_for_saving() { # RUN SAVES: until that many checkpoints are complete and one more is being written
  local i
  for ((i = 0; i < 2000; i++)); do
    if (($(compgen -G "$work/$1/checkpoints/step-*" | wc -l) >= $2)) && is_saving "$1"; then return 0; fi
    kill -0 "$launcher" 2>/dev/null || return 0
    sleep 0.005
  done
}
kill_ranks() { # one or all of them
  local processes
  processes=$(rank_processes)
  [[ $1 == all ]] || processes=$(shuf -n 1 <<<"$processes")
  # shellcheck disable=SC2086
  kill -9 $processes 2>/dev/null || true
}
done_kills=0 done_saving=0 from_step_0=0 tries=0
while ((done_kills < kills || done_saving < kills_while_saving)); do
  ((++tries <= 3 * kills)) || fail "only $done_saving kills while saving in $tries tries"
  run=killed-$tries who=$([[ $((tries % 2)) == 0 ]] && echo one || echo all)
  if ((tries % 4 < 2)); then # slow writes make the moments of saving longer
    preload=$injection environment="FWL_FAULT_SLOW_PART=.writing-step- FWL_FAULT_SLOW_US=2000" start_in_background 4 "$run" "${settings[@]}"
    wait_for_saving "$run" $(($(random_below 4)))
    sleep "0.$(printf '%03d' "$(random_below 200)")"
  else
    start_in_background 4 "$run" "${settings[@]}"
    sleep "$(awk -v ms="$(random_below "$lasts_ms")" 'BEGIN { print ms / 1000 }')"
  fi
  kill_ranks $who
  code=0
  wait "$launcher" || code=$?
  saving=no
  ! is_saving "$run" || saving=yes
  if ((code != 0)); then
    ((++done_kills))
    [[ $saving == no ]] || ((++done_saving))
    [[ -e $work/$run/checkpoints/latest ]] || ((++from_step_0))
  fi
  ((code != 0)) || echo "ended before it could be killed"
  ((code == 0)) || echo "kill $done_kills: $who of the ranks, while saving: $saving, exit code $code, $(compgen -G "$work/$run/checkpoints/step-*" | wc -l) complete checkpoints"
  recovers "$run"
  rm -rf "${work:?}/$run"
done
row "kill -9 of one or all of 4 ranks" "$done_kills" "$done_kills ended with the undisturbed weights"
row "... of them while a checkpoint was written" "$done_saving" "$done_saving left the one before whole"
row "... of them before the first checkpoint" "$from_step_0" "$from_step_0 started at step 0"

echo "== (b) a full disk"
full=$work/full
mkdir "$full"
if mount -t tmpfs -o size=3m tmpfs "$full" 2>/dev/null; then
  trap 'umount -l "$full" 2>/dev/null; rm -rf "$work"' EXIT
  kind="tmpfs of 3 MB"
  runs=$full start 4 filled "${settings[@]}"
else
  echo "NOTE: no tmpfs can be mounted here: the full disk is injected (ENOSPC)"
  kind="injected ENOSPC"
  preload=$injection environment="FWL_FAULT=write:ENOSPC:.writing-step-" runs=$full start 4 filled "${settings[@]}"
fi
expect 3 "a run whose disk is full, up to its end"
warned=$(grep -o "checkpoint of step [0-9]* was not written" "$work/out" | sort -u | wc -l)
((warned >= 3)) || fail "$warned warnings for 3 failed saves"
grep -q "step 12/12" "$work/out" || fail "training did not go on"
[[ $kind != tmpfs* ]] || runs=$full checkpoints_are_good filled
[[ $kind != tmpfs* ]] || mount -o remount,size=64m "$full"
runs=$full start 4 filled "${settings[@]}" train.resume=auto
expect 0 "filled: started again with more room"
same_files "$work/calm/checkpoints/step-0000012" "$full/filled/checkpoints/step-0000012" || fail "weights differ after the full disk"
whole=
[[ $kind != tmpfs* ]] || whole=" the old checkpoint whole,"
row "disk full while saving ($kind)" "$warned saves" "training went on,$whole same weights after"

echo "== (c) $flips flipped bytes"
mkdir -p "$work/flipped/checkpoints"
python3 - "$work/calm/checkpoints/step-0000012" "$work/flipped/checkpoints" "$flips" <<'P'
import os, random, shutil, sys
whole, to, flips = sys.argv[1], sys.argv[2], int(sys.argv[3])
random.seed(7)
for i in range(flips):
    folder = os.path.join(to, "step-%07d" % (100 + i))
    shutil.copytree(whole, folder)
    # Every file gets its turn.
    path = os.path.join(folder, sorted(os.listdir(folder))[i % len(os.listdir(folder))])
    data = bytearray(open(path, "rb").read())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    open(path, "wb").write(data)
P
code=0
"$fwl" inspect "$work/flipped" --verify --json "$work/flipped.json" >"$work/out" 2>&1 || code=$?
expect 3 "inspect --verify of $flips damaged checkpoints"
python3 - "$work/flipped.json" "$flips" <<'P' || fail "a flipped byte was not found"
import json, sys
report = json.load(open(sys.argv[1]))
good = [c["path"] for c in report["checkpoints"] if c["good"]]
assert len(report["checkpoints"]) == int(sys.argv[2]) and not good, good
P
row "one bit flipped in a checkpoint's file" "$flips" "$flips found by inspect --verify"
mkdir -p "$work/passed/checkpoints"
cp -r "$work/calm/checkpoints/step-0000006" "$work/passed/checkpoints/"
cp -r "$work/flipped/checkpoints/step-0000100" "$work/passed/checkpoints/step-0000010"
cp -r "$work/flipped/checkpoints/step-0000101" "$work/passed/checkpoints/step-0000011"
cp "$work/calm/log.jsonl" "$work/passed/log.jsonl"
start 4 passed "${settings[@]}" train.resume=auto
expect 0 "resume=auto with two damaged checkpoints"
(($(grep -c "Passed over" "$work/out") >= 2)) || fail "the damaged checkpoints are not named"
same_run calm passed 12 bits
start 4 passed "${settings[@]}" train.resume="$work/passed/checkpoints/step-0000011"
expect 3 "a damaged checkpoint asked for by name"
row "damaged checkpoints before resume=auto" 2 "named, passed over, same weights"

echo "== (d) failing operations"
# NAME FAULT: the first such operation of each process fails, then all of them; training goes on either way.
fails() {
  preload=$injection environment="FWL_FAULT=$2 FWL_FAULT_COUNT=1" start 4 "once-$1" "${settings[@]}"
  expect 0 "$1, once"
  grep -q "was not written" "$work/out" || fail "the failure is not named"
  same_run calm "once-$1" 12 bits
  checkpoints_are_good "once-$1"
  mkdir -p "$work/always-$1/checkpoints"
  cp -r "$work/calm/checkpoints/step-0000003" "$work/always-$1/checkpoints/"
  cp "$work/calm/log.jsonl" "$work/always-$1/"
  preload=$injection environment="FWL_FAULT=$2" start 4 "always-$1" "${settings[@]}" train.resume=auto
  expect 3 "$1, always"
  (($(grep -c "was not written" "$work/out") >= 3)) || fail "not every failure is named"
  grep -q "step 12/12" "$work/out" || fail "training did not go on"
  checkpoints_are_good "always-$1"
  recovers "always-$1"
  row "$3" "1, all" "training went on, the old checkpoint whole, same weights after"
}
fails write "write:EIO:.writing-step-" "write fails (injected EIO)"
fails fsync "fsync:EIO:.writing-step-" "fsync fails (injected EIO)"
fails rename "rename:EIO:/checkpoints/step-" "rename fails (injected EIO)"
fails readonly "mkdir:EROFS:.writing-step-" "checkpoints folder read-only (injected EROFS)"

echo "== (e) two jobs on one folder"
start_in_background 4 shared train.steps=100000 train.save_every=0
wait_for_step 2
code=0
training_command 4 shared train.resume=auto run.lock_wait_s=1
"${command[@]}" >"$work/out.second" 2>&1 || code=$?
expect 75 "a second job on the folder: later"
grep -q "is in use by process" "$work/out.second" || fail "the holder is not named"
kill_ranks all
wait "$launcher" || true
start 4 shared train.steps=100000 train.max_seconds=1 train.resume=auto
expect 75 "the lock of a killed job is free"
row "two jobs on one run folder" 1 "the second refused; free again after kill -9 of the first"

printf '\n| %-46s | %8s | %s |\n|---|---|---|\n' "fault" "injected" "result"
printf '%s\n' "${table[@]}"
echo "all passed"
