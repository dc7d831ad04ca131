#!/usr/bin/env bash
# A run's TensorBoard events, read back by TensorBoard: the same numbers as in log.jsonl, each step once also after a run was
# resumed from before its last logged step; none with train.tensorboard=false. And `fwl watch` on the same runs.
#
#   tests/end_to_end/tensorboard_test.sh FWL SOURCE
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/training_runs.sh"

# Steps 1 to 6 are logged, the checkpoint of step 4 is the newest when it goes on.
start 1 run train.steps=6 train.save_every=4
expect 0 "a run of 6 steps"
rm -r "$work"/run/checkpoints/step-*6
# The clock is set back by an hour meanwhile: what comes later must be read later all the same.
events=$(ls "$work"/run/events.out.tfevents.*)
seconds=${events##*tfevents.}
mv "$events" "$work/run/events.out.tfevents.$((${seconds%%.*} + 3600)).${seconds#*.}"
start 1 run train.steps=9 train.resume=auto --allow-changes
expect 0 "it goes on from step 4 to 9"
[ "$(wc -l <"$work/run/log.jsonl")" = 9 ] || fail "the log has not 9 lines"

"$fwl" watch "$work/run" --once >"$work/watch"
grep -q '9/9' "$work/watch" || fail "fwl watch does not show the last step: $(cat "$work/watch")"
"$fwl" watch "$work/none-yet" --once >"$work/watch"
grep -q 'waiting' "$work/watch" || fail "fwl watch of a run that has not begun"
echo "ok: fwl watch shows the run, and waits for one that has not begun"

start 2 two train.steps=2
expect 0 "a run on 2 ranks"
grep -q '"rank_lag_s"' "$work/two/log.jsonl" && grep -q '"communication"' "$work/two/log.jsonl" || fail "no communication share or late ranks in the log"
start 1 silent train.steps=1 train.tensorboard=false
expect 0 "a run with train.tensorboard=false"
! ls "$work"/silent/events.out.tfevents.* >/dev/null 2>&1 || fail "there are events all the same"

code=0
"$source/tests/support/test-python" -c 'import tensorboard' 2>/dev/null || code=$?
if [ "$code" != 0 ]; then
  echo "SKIPPED: the tests' Python has no tensorboard (./launch/setup.sh --tests); the events were not read back" >&2
  exit 77
fi
"$source/tests/support/test-python" "$source/tests/support/read_events.py" "$work/run" 2 || fail "TensorBoard reads other numbers"
"$source/tests/support/test-python" "$source/tests/support/read_events.py" "$work/two" 1 || fail "TensorBoard reads other numbers"
echo "ok: TensorBoard reads what log.jsonl says"
