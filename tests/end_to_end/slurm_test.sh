#!/usr/bin/env bash
# slurm/train.sbatch on a real Slurm of two nodes on this machine: a job of 4 ranks that is pre-empted twice by jobs of higher priority,
# asked to end by its time limit's signal, and loses a rank to kill -9, finishes with the weights of the undisturbed run. Nodes that
# fail their health check are left out, failures without progress end the job, a sweep runs as an array.
# Skipped loudly (exit 77) where Slurm cannot be installed. Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
export SLURM_LOCAL_CPUS=4 SLURM_LOCAL_DIR=$work/slurm SLURM_LOCAL_PORT=$((20000 + RANDOM % 10000)) # below the ephemeral ports
finish() {
  "$source/tests/support/slurm-down" --purge >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
fail() {
  echo "FAILED: $*" >&2
  { squeue -a; sinfo -N -l; tail -n 5 "$SLURM_LOCAL_DIR"/log/*.log; } >&2 2>/dev/null || true
  tail -n 25 "$work"/*/slurm/job-*.log "$work"/fwl-*.out >&2 2>/dev/null || true
  exit 1
}
skip() {
  printf '\n******** SKIPPED: %s. slurm/train.sbatch was NOT tested. ********\n\n' "$*"
  exit 77
}
if [[ $(id -u) != 0 ]]; then skip "a private Slurm needs root"; fi
if ! environment=$("$source/tests/support/slurm-up" 2>"$work/up.log"); then
  tail -n 5 "$work/up.log" >&2
  skip "Slurm could not be installed or started here (tests/support/slurm-up)"
fi
eval "$environment"
export FWL=$fwl FWL_ROOT=$source FWL_WAIT_S=5 FWL_BACKOFF_S=1 OMP_NUM_THREADS=1
cd "$work"

corpus text 56 --bytes 1600
"$fwl" tokenize text --tokenizer byte --out data >/dev/null
settings=(--set data.path="$work/data" --set train.device=cpu --set train.steps=600 --set train.save_every=20 --set train.global_batch=4
  --set model.context=64)
tiny=$source/launch/configs/tiny.yaml

submit() { sbatch --parsable "$@"; }
state() { scontrol show job "$1" -o | grep -o 'JobState=[A-Z]*' | cut -d= -f2; }
wait_until() { # SECONDS WHAT COMMAND...
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "not within the time: $what"
    sleep 0.3
  done
}
is() { [[ $(state "$1") == "$2" ]]; }
step() { sed 's/step-0*//' "$1/checkpoints/latest" 2>/dev/null || echo 0; }
beyond() { (($(step "$1") > $2)); } # RUN STEP
weights() { "$fwl" export "$1" --out "$1-weights" >out 2>&1 || { cat out; fail "export of $1"; }; }

echo "== undisturbed, by mpirun"
mpirun --bind-to none --oversubscribe -n 4 "$fwl" train "$tiny" "${settings[@]}" --set run.dir="$work/whole" >out 2>&1 || { cat out; fail "undisturbed run"; }

echo "== pre-empted, signalled, killed: the same weights"
job=$(submit --nodes=2 --ntasks-per-node=2 --partition=local "$source/slurm/train.sbatch" "$tiny" "${settings[@]}" --set run.dir="$work/run")
wait_until 120 "the first checkpoint" beyond run 19
for round in 1 2; do
  urgent=$(submit --nodes=2 --partition=urgent --exclusive --wrap 'sleep 2')
  wait_until 90 "urgent job $round" is "$urgent" COMPLETED
  seen=$(step run)
  echo "ok: pre-emption $round at step $seen"
  ((seen < 500)) || fail "the run was nearly over before pre-emption $round (too fast for this test)"
  wait_until 120 "training after pre-emption $round" beyond run "$seen"
done
seen=$(step run)
scancel -b -s USR1 "$job" # as --signal=B:USR1@120 before the time limit
wait_until 60 "requeue after the signal" is "$job" PENDING
echo "ok: signalled at step $(step run)"
seen=$(step run)
((seen < 600)) || fail "the run was over before the signal (too fast for this test)"
wait_until 120 "training after the signal" beyond run "$seen"
seen=$(step run)
kill -9 "$(pgrep -f "^[^ ]*fwl[^ ]* train .*run\.dir=$work/run" | tail -n 1)"
echo "ok: killed one rank at step $seen"
wait_until 180 "the end" is "$job" COMPLETED
log=run/slurm/job-$job.log
grep -q 'failure 1 of 3' "$log" || fail "the killed rank was not noticed"
[[ $(grep -c 'requeue: saved' "$log") -ge 3 ]] || fail "not requeued three times"
[[ $(grep -c 'start [0-9]* on' "$log") -ge 4 ]] || fail "not started four times"
[[ -e run/slurm/job-$job-rank-3.log ]] || fail "no log of rank 3"
[[ $(step run) == 600 ]] || fail "ended at step $(step run)"
weights whole
weights run
cmp whole-weights/model.safetensors run-weights/model.safetensors || fail "the weights differ from the undisturbed run's"
echo "ok: the undisturbed run's weights"

echo "== a node that fails its health check is left out"
cat >sick <<'S'
#!/bin/sh
[ "$SLURMD_NODENAME" != n2 ]
S
chmod +x sick
job=$(FWL_HEALTH=$work/sick FWL_NODES=1 submit --nodes=2 --ntasks-per-node=2 --partition=local "$source/slurm/train.sbatch" "$tiny" "${settings[@]}" \
  --set train.steps=4 --set run.dir="$work/spare")
wait_until 90 "a job with a spare node" is "$job" COMPLETED
grep -q 'failed health checks: n2' "spare/slurm/job-$job.log" || fail "n2 was not found sick"
[[ $(step spare) == 4 && ! -e spare/slurm/job-$job-rank-2.log ]] || fail "the spare node did not replace n2"
echo "ok: on the healthy node of two"
# The first submission's options go along; what was remembered more than a day ago does not.
mkdir -p moved/slurm known/slurm
echo '1000000000 n1 health check failed in job 7' >moved/slurm/excluded
job=$(FWL_HEALTH=$work/sick submit --nodelist=n2 --nodes=1 --ntasks=2 --partition=local --comment='first try' --nice=5 --output=mine-%j.txt --time=50 \
  "$source/slurm/train.sbatch" "$tiny" "${settings[@]}" --set train.steps=4 --set run.dir="$work/moved")
wait_until 120 "a new job without n2" test -e moved/checkpoints/latest
grep -q 'a new job without n2' "moved/slurm/job-$job.log" || fail "no new job"
grep -q '^[0-9]* n2 health check failed in job' moved/slurm/excluded || fail "the sick node is not remembered: $(cat moved/slurm/excluded)"
next=$(sed -n 's/.*a new job without n2: Submitted batch job //p' "moved/slurm/job-$job.log")
scontrol show job "$next" >shown
for kept in 'Comment=first try' 'Nice=5' "StdOut=$work/mine-$next.txt" 'TimeLimit=00:50:00' 'ExcNodeList=n2' 'NumTasks=2'; do
  grep -qF "$kept" shown || fail "the new job has not $kept: $(cat shown)"
done
echo "ok: a new job without the sick node, with the first one's options"
echo "$(date +%s) n1 health check failed in job 7" >known/slurm/excluded
job=$(FWL_HEALTH=$work/sick submit --nodelist=n2 --nodes=1 --ntasks=2 --partition=local "$source/slurm/train.sbatch" "$tiny" "${settings[@]}" \
  --set run.dir="$work/known")
wait_until 60 "a job that knows of two sick nodes" grep -q 'a new job without n1,n2' "known/slurm/job-$job.log"
echo "ok: a node that was sick within a day is still left out"

echo "== failures without progress end the job"
job=$(submit --nodes=1 --ntasks=2 --partition=local "$source/slurm/train.sbatch" "$tiny" --set run.dir="$work/hopeless" --set data.path="$work/none" \
  --set train.device=cpu)
wait_until 120 "the end of a hopeless job" is "$job" FAILED
grep -q '3 failures without progress' "hopeless/slurm/job-$job.log" || fail "it did not stop after 3 failures"
job=$(submit --nodes=1 --ntasks=3 --partition=local --overcommit "$source/slurm/train.sbatch" "$tiny" "${settings[@]}" --set run.dir="$work/wrong")
wait_until 60 "the end of a wrong config" is "$job" FAILED
grep -q 'would not help' "wrong/slurm/job-$job.log" || fail "a wrong config was tried again"
echo "ok: 3 failures, and none for a config that cannot work"

echo "== a cancelled job stays cancelled"
job=$(submit --nodes=1 --ntasks=2 --partition=local "$source/slurm/train.sbatch" "$tiny" "${settings[@]}" --set train.steps=100000 --set run.dir="$work/cancelled")
wait_until 90 "a checkpoint" beyond cancelled 0
scancel "$job"
wait_until 60 "the end of the cancelled job" is "$job" CANCELLED
sleep 2
is "$job" CANCELLED || fail "the cancelled job is $(state "$job")"
grep -q 'not requeued' "cancelled/slurm/job-$job.log" || fail "the script did not see that it was cancelled"
echo "ok: not requeued"

echo "== a sweep"
printf '# rates\r\ntrain.learning_rate=1e-3\r\n\r\ntrain.learning_rate=2e-3  # twice\r\n' >sweep
job=$(FWL_SWEEP=$work/sweep submit --array=1-2 --nodes=1 --ntasks=1 --partition=local "$source/slurm/train.sbatch" "$tiny" "${settings[@]}" \
  --set train.steps=2 --set run.dir="$work/sweep-run")
for task in 1 2; do wait_until 90 "task $task" is "${job}_$task" COMPLETED; done
grep -q 'learning_rate: 0.002' sweep-run/task-2/config.yaml || fail "task 2 has not its setting"
[[ -e sweep-run/task-1/slurm/job-${job}_1.log ]] || fail "task 1 has no log"
[[ $(ls -A sweep-run) == $'task-1\ntask-2' ]] || fail "other folders: $(ls -A sweep-run | cat -A)"
echo "ok: two tasks, two runs; a file with comments and carriage returns"
# The last task has the job id of the array.
job=$(FWL_SWEEP=$work/sweep submit --array=1-2 --nodes=1 --ntasks=1 --partition=local "$source/slurm/train.sbatch" "$tiny" "${settings[@]}" \
  --set train.steps=1000000 --set run.dir="$work/long")
for task in 1 2; do wait_until 90 "a checkpoint of task $task" beyond "long/task-$task" 0; done
scancel --signal=USR1 --batch "${job}_2"
wait_until 90 "the requeue of one task" grep -q 'start 2 on' "long/task-2/slurm/job-${job}_2.log"
! grep -q 'start 2 on' "long/task-1/slurm/job-${job}_1.log" || fail "the other task was started again too"
scancel "$job"
echo "ok: one task of an array is requeued"
echo "all checks passed"
