#!/usr/bin/env bash
# Public reports about training runs, and their like, tried on fwl: what diverges, folders that hold another run, refusals
# before the work, configs that say what they do. Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
cd "$work"
injection=$(dirname "$fwl")/fwl_fault_injection.so
corpus text 14
"$fwl" tokenize text --tokenizer byte --out data --split valid=0.1,test=0.1 >/dev/null 2>&1
small=(model.width=16 model.layers=1 model.heads=2 model.context=32 model.window=16 train.global_batch=4 train.warmup_steps=2 data.path=data train.device=cpu
  run.lock_wait_s=0 train.tensorboard=false)
T() { # SETTINGS AND FLAGS...: a run of seconds
  local words=() word
  for word in "${small[@]}" "$@"; do case $word in --*) words+=("$word") ;; *) words+=(--set "$word") ;; esac; done
  timeout 100 "$fwl" train "$source/launch/configs/tiny.yaml" "${words[@]}"
}
steps_of() { (cd "$1/checkpoints" && echo step-*); }
hashes() { find "$1/checkpoints" -type f -print0 | sort -z | xargs -0 sha256sum; }
# CODE|TEXT|SETTINGS: the row's exit code, and what must be said.
rows() {
  local code text settings
  while IFS='|' read -r code text settings; do
    [[ -n $code ]] || continue
    # shellcheck disable=SC2086
    refused "$code" "$text" T $settings
  done
}

echo "== configs say what they do (R15, S18, L4, L10)"
config() { printf 'run: {dir: runs/none}\ndata: {path: data}\n%b' "$1" >c.yaml; }
while IFS='|' read -r code text yaml; do
  config "$yaml"
  refused "$code" "$text" "$fwl" train c.yaml --print-config
done <<'ROWS'
2|c.yaml:5: 'train.steps' was given before, at c.yaml:4|train:\n  steps: 3\n  steps: 5\n
2|c.yaml:5: 'train' was given before, at c.yaml:3|train:\n  steps: 3\ntrain:\n  seed: 4\n
2|a second YAML document begins here|---\ntrain: {steps: 3}\n
2|indented with a tab|train:\n\tsteps: 3\n
2|train.learning_rate = inf is out of range|train: {learning_rate: inf}\n
2|train.optimizer.beta1 = 1 is out of range|train: {optimizer: {beta1: 1}}\n
2|train.optimizer.epsilon = 0 is out of range|train: {optimizer: {epsilon: 0}}\n
0|steps: 3|train:\r\n  steps: 3\r\n
0|warmup_steps = 100 is not below train.steps = 50|train: {steps: 50}\n
ROWS
quietly T train.steps=30 train.steps=40 model.fast_weight.update=none model.max_positions=99 --print-config
says "--set train.steps is given 2 times: the last one counts, 40"
says "without effect under model.fast_weight.update=none: model.fast_weight.chunk=32"
says "without effect under model.positions=rotary: model.max_positions=99"
quietly T --print-config
not_said "without effect"

echo "== a run, what it says, and its rights (S19, newcomer 13, kind 10)"
(umask 002 && quietly T run.dir=runs/a train.steps=12 train.save_every=4)
not_said "passes over"
says "done: step 12, checkpoint 'runs/a/checkpoints/step-0000012'. Next: fwl eval runs/a --data "
mkdir nine
for i in 1 2 3; do head -c 191 text/000$i.txt >nine/$i.txt; done
"$fwl" tokenize nine --tokenizer byte --out d9 >/dev/null 2>&1
quietly T run.dir=runs/s19 train.steps=12 data.path=d9
says "train.steps makes 2.667 passes over "
[[ -z $(find runs/a ! -perm -g+w) ]] || fail "a group cannot go on with it: $(find runs/a ! -perm -g+w)"
grep -q "path: $work/data" runs/a/config.yaml || fail "config.yaml works from this folder alone"
quietly T run.dir=runs/b train.steps=12 train.save_every=4 train.seed=7 data.path=data/test
says "which is held out by its name"

echo "== another run's checkpoint into a used folder (R2, S23)"
hashes runs/a >before
cp runs/a/log.jsonl a.log
b=runs/b/checkpoints/step-0000004
rows <<ROWS
2|run.dir 'runs/a' holds a run, and train.resume = '$b' is of another one|run.dir=runs/a train.resume=$b train.seed=7 data.path=data/test
2|holds a run|run.dir=runs//a/ train.resume=./runs/b train.seed=7 data.path=data/test
ROWS
hashes runs/a | cmp - before || fail "the first run was touched"
cmp runs/a/log.jsonl a.log || fail "the first run's log was touched"
cp -r runs/a runs/copy
quietly T run.dir=runs/copy train.steps=12 train.resume=runs/a/checkpoints/step-0000008
quietly T run.dir=runs/fork train.steps=12 train.resume=$b train.seed=7 data.path=data/test
refused 2 "holds a run" T run.dir=runs/fork train.steps=12 train.resume=$b train.seed=7 data.path=data/test
rm -rf runs/fork/checkpoints # ended before its first checkpoint: the same command starts it again
quietly T run.dir=runs/fork train.steps=12 train.resume=$b train.seed=7 data.path=data/test
[[ -e runs/fork.previous-1/log.jsonl && -e runs/fork/checkpoints/latest ]] || fail "the log of the first try is gone, or nothing was saved"

echo "== a server that rests at the start is no wrong config (kind 1)"
if [[ -e $injection ]]; then
  while read -r code fault; do
    rm -rf runs/e
    expect_code "$code" "$fault" env LD_PRELOAD="$injection" FWL_FAULT="$fault" \
      "$fwl" train "$source/launch/configs/tiny.yaml" --set data.path=data --set train.device=cpu --set run.dir=runs/e/run
    [[ ! -e runs/e/run/log.jsonl ]] || fail "$fault: a run has begun"
  done <<'ROWS'
3 mkdir:EIO:runs/e/run
3 mkdir:ESTALE:run/checkpoints
3 create:ENFILE:run/lock
3 create:EIO:.writing-probe-
2 create:EACCES:run/lock
2 mkdir:EROFS:run/checkpoints
ROWS
fi

echo "== the same step again (systems 31)"
for fault in "" "rename:EIO:/checkpoints/step-" "renameat2:EINVAL:/checkpoints/step-"; do
  export FWL_FAULT=$fault
  [[ -z $fault || ! -e $injection ]] || export LD_PRELOAD=$injection
  quietly T run.dir=runs/copy train.steps=12 train.resume=runs/copy/checkpoints/step-0000008
  unset LD_PRELOAD FWL_FAULT
  quietly "$fwl" inspect runs/copy --verify
  [[ $(steps_of runs/copy) == "step-0000004 step-0000008 step-0000012" ]] || fail "'$fault': $(steps_of runs/copy)"
  [[ -z $(compgen -G "runs/copy/checkpoints/aside-*") ]] || fail "'$fault': something was left"
done

echo "== what diverges is not saved (S3, S18)"
cp -r runs/a runs/dv
expect_code 5 "a rate that diverges" T run.dir=runs/dv train.steps=200 train.save_every=2 train.learning_rate=1e20 train.resume=auto --allow-changes
says "The newest checkpoint, from before that, is 'runs/dv/checkpoints/step-"
quietly "$fwl" inspect runs/dv --verify
quietly "$fwl" watch runs/dv --once
says "diverged: "
quietly T run.dir=runs/dv train.steps=20 train.save_every=2 train.resume=auto --allow-changes
! grep -q '"ended"' runs/dv/log.jsonl || fail "the line of the end stays in the log"
expect_code 5 "train.steps' end while steps are skipped" T run.dir=runs/dv2 train.steps=4 train.learning_rate=1e20 train.warmup_steps=0 train.max_skipped=1000
[[ ! -e runs/dv2/checkpoints/latest ]] || fail "a checkpoint of it was published"
expect_code 5 "one step that ruins the weights" T run.dir=runs/dv3 train.steps=1 train.learning_rate=1e20 train.warmup_steps=0
[[ ! -e runs/dv3/checkpoints/latest ]] || fail "a checkpoint of it was published"
python3 "$source/tests/support/poison_checkpoint.py" runs/b/checkpoints/step-0000012
refused 5 "not finite: weights/fast_weight.norm.scale" "$fwl" inspect runs/b --verify
refused 3 "its weights or moments are not finite" T run.dir=runs/b train.seed=7 data.path=data/test train.steps=14 train.resume=runs/b/checkpoints/step-0000012 --allow-changes
quietly T run.dir=runs/b train.seed=7 data.path=data/test train.steps=14 train.resume=auto --allow-changes
says "Passed over: trying the checkpoint before it."
says "resumed from runs/b/checkpoints/step-0000008"
stream=(run.dir=runs/stream train.stream=true train.save_every=4)
quietly T "${stream[@]}" train.steps=8
carried=$(python3 -c 'import json; print(next(n for n in json.load(open("runs/stream/checkpoints/step-0000008/manifest.json"))["tensors"] if n.startswith("carried/fast")))')
python3 "$source/tests/support/poison_checkpoint.py" runs/stream/checkpoints/step-0000008 "$carried"
refused 3 "'$carried' is not finite" T "${stream[@]}" train.steps=12 train.resume=runs/stream/checkpoints/step-0000008 --allow-changes
quietly T "${stream[@]}" train.steps=12 train.resume=auto --allow-changes
says "resumed from runs/stream/checkpoints/step-0000004"
mkdir empty
for i in $(seq 60); do : >empty/$i.txt; done
"$fwl" tokenize empty --tokenizer byte --out dempty >/dev/null 2>&1
expect_code 3 "text without a label" T run.dir=runs/l16 train.steps=2 data.path=dempty data.order=documents train.stream=true
not_said "nan, gradient"

echo "== a resume changes nothing silently (M1, R36)"
quietly T run.dir=runs/a train.steps=12 train.resume=auto model.fast_weight.decay_init=0.9
says "decay_init = 0.9 is without effect: the run began with 0.998"
grep -q 'decay_max: 0.999$' runs/a/config.yaml || fail "the bound is not stored as a number"
refused 2 "decay_max: 0.999 -> 0.9995 (changes the function: refused)" T run.dir=runs/a train.steps=12 train.resume=auto model.fast_weight.decay_max=0.9995
refused 2 "The learning rate of the next step, 13, moves from" T run.dir=runs/a train.steps=50 train.resume=auto

echo "== one folder has one name (R14, S15)"
export HOME=$work/home
mkdir -p home big
ln -s "$work/big" runs/link
ln -s ../data home/data
for i in 1 2; do quietly T run.dir=runs/link/ train.steps=1; done
[[ -L runs/link && -e runs/link/config.yaml && -e big.previous-1/config.yaml ]] || fail "the link was replaced: $(ls -l runs)"
quietly T run.dir=runs//slash/ train.steps=1
quietly T run.dir=runs/slash/. train.steps=1
[[ -e runs/slash.previous-1/config.yaml && ! -e runs/slash/.previous-1 ]] || fail "previous-1 lies in the run"
quietly T 'run.dir=~/runs/t' 'data.path=~/data' train.steps=1 '--json=~/t.json'
[[ -e home/runs/t/config.yaml && -e home/t.json && ! -e '~' ]] || fail "'~' was taken for a folder's name"
rows <<'ROWS'
2|begins with '~' and a name|run.dir=~you/x
2|begins with '~' and a name|data.path=~you/x
2|a path is empty|run.dir=
ROWS

echo "== refusals come before the work (kind 7, A17)"
long=$(printf 'x%.0s' {1..240})
deep=$work
while ((${#deep} + 241 < 4040)); do deep+=/$long; done
deep+=/$(printf 'y%.0s' $(seq $((4040 - ${#deep} - 1))))
touch file
rows <<ROWS
2|File name too long|run.dir=runs/$long$long
2|File name too long|run.dir=$deep
2|cannot be made|run.dir=/proc/run
2|cannot be made|run.dir=file/run
ROWS
mkdir tight
if mount -t tmpfs -o size=100k tmpfs tight 2>/dev/null; then
  trap 'umount -l "$work/tight" 2>/dev/null; rm -rf "$work"' EXIT
  refused 3 "a checkpoint needs" T run.dir=tight/run train.steps=3
  not_said "step 3/3"
  mount -o remount,size=500k tight
  refused 3 "the run will keep up to 6 new checkpoints" T run.dir=tight/run train.steps=6 train.save_every=1 checkpoints.keep=6
  says "checkpoint of step 6 was not written"
  quietly "$fwl" inspect tight/run --verify
fi

echo "== a held lock waits, then ends with 75 (systems 8)"
exec 9>>runs/a/lock
flock 9
: >runs/a/lock
refused 75 "is in use by another process" T run.dir=runs/a train.resume=auto train.steps=12
T run.dir=runs/a train.resume=auto train.steps=12 run.lock_wait_s=90 >out 2>&1 </dev/null 9>&- &
for ((i = 0; i < 600; i++)); do ! grep -q "Waiting for at most 90 s" out || break; sleep 0.1; done
flock -u 9
wait $! || fail "a run that waited for its folder: exit code $?"
says "Waiting for at most 90 s"
exec 9>&-

echo "== a run that is stopped says so (newcomer 12)"
expect_code 75 "train.max_seconds" T run.dir=runs/stopped train.steps=100000 train.max_seconds=0.5
quietly "$fwl" watch runs/stopped --once
says "stopped: train.max_seconds"

if [[ -e $injection ]]; then
  echo "== a slow disk on one rank has its own time-out (systems 9)"
  slow=(env LD_PRELOAD="$injection" FWL_FAULT_SLOW_PART=rank-00000.h5 FWL_FAULT_SLOW_US=250000)
  words=(train "$source/launch/configs/tiny.yaml" --set run.dir=runs/slow --set train.steps=3 --set parallel.timeout_s=1)
  for word in "${small[@]}"; do words+=(--set "$word"); done
  expect_code 0 "a save that takes longer than parallel.timeout_s" mpirun --bind-to none --oversubscribe \
    -n 1 "${slow[@]}" "$fwl" "${words[@]}" : -n 1 "$fwl" "${words[@]}"
fi
echo "all passed"
