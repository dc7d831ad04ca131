#!/usr/bin/env bash
# `fwl doctor` under a launcher finds what differs between ranks, and launch/mpirun.sh places ranks and starts only what
# passed. Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
export FWL=$fwl
expect() { # CODE PATTERN DESCRIPTION COMMAND...
  local want=$1 pattern=$2 what=$3 code=0
  shift 3
  "$@" >"$work/out" 2>&1 </dev/null || code=$?
  [[ $code == "$want" ]] || { cat "$work/out" >&2; fail "$what: exit code $code, not $want"; }
  grep -qE "$pattern" "$work/out" || { cat "$work/out" >&2; fail "$what: nothing says '$pattern'"; }
  echo "ok: $what -> $code"
}
ranks() { mpirun --bind-to none --oversubscribe "$@"; }
tiny=$source/launch/configs/tiny.yaml
cd "$work"

echo "== one job, all well"
expect 0 'axis sequence \(2 ranks, mpi\): point-to-point' "4 ranks" ranks -n 4 "$fwl" doctor --config "$tiny" --set parallel.sequence=2 --device cpu --json doctor.json
python3 - <<'P' || fail "doctor.json"
import json
d = json.load(open("doctor.json"))
assert d["passed"] and d["bad_hosts"] == [] and [r["rank"] for r in d["ranks"]] == [0, 1, 2, 3]
for key in ("host", "gpu", "cores", "numa_nodes", "binary_hash", "config_hash", "libraries", "flop_s"):
    assert key in d["ranks"][0], key
names = {c["name"] for c in d["checks"]}
assert names >= {"program", "config", "libraries", "GPUs", "ports", "shared folder"}, names
assert [(a["axis"], a["ranks"]) for a in d["axes"]] == [("host", 4), ("data", 2), ("sequence", 2)], d["axes"]
for axis in d["axes"]:
    for operation in ("all_reduce", "all_gather", "point_to_point"):
        assert axis[operation]["latency_us"] > 0 and axis[operation]["bandwidth_mb_s"] > 0
assert d["file_system"]["write_mb_s"] > 0 and d["file_system"]["read_mb_s"] > 0
P
[[ -z $(find . -name '.fwl-doctor*') ]] || fail "the doctor left files"

echo "== what differs between ranks is found and named"
cp "$fwl" other-fwl && echo >>other-fwl
expect 5 'FAILED: program: rank 2 on' "another binary" ranks -n 2 "$fwl" doctor --quick : -n 1 ./other-fwl doctor --quick
expect 5 'FAILED: config: rank 2 on' "another config" ranks -n 2 "$fwl" doctor --quick --config "$tiny" \
  : -n 1 "$fwl" doctor --quick --config "$tiny" --set train.seed=7
libz=$(ldd "$fwl" | awk '/libz\.so/ { print $3 }')
mkdir lib && cp -L "$libz" "lib/$(basename "$libz")" && echo >>"lib/$(basename "$libz")"
expect 5 'FAILED: libraries: rank 2 on .* libz' "another library" ranks -n 2 "$fwl" doctor --quick \
  : -n 1 env LD_LIBRARY_PATH="$work/lib" "$fwl" doctor --quick
mkdir here there
expect 5 'FAILED: shared folder: .*does not appear' "a folder that is not shared" ranks -n 1 "$fwl" doctor --quick --folder here \
  : -n 1 "$fwl" doctor --quick --folder there
expect 5 'FAILED: shared folder' "a folder that cannot be written" "$fwl" doctor --quick --folder /proc
if ! command -v nvidia-smi >/dev/null; then
  expect 5 'FAILED: GPUs: .*cuda was asked for' "no GPU" "$fwl" doctor --quick --device cuda
fi
expect 2 'parallel.sequence' "a layout that the ranks do not fit" ranks -n 2 "$fwl" doctor --quick --config "$tiny" --set parallel.sequence=3
expect 2 'without --config' "--set alone" "$fwl" doctor --set train.seed=1
expect 2 'does not exist' "no config" "$fwl" doctor --config none.yaml

echo "== launch/mpirun.sh"
start=$source/launch/mpirun.sh
corpus text 13 --bytes 1400
"$fwl" tokenize text --tokenizer byte --out data >/dev/null
expect 0 'ok: config: hash' "checks, then trains" env -u OMP_NUM_THREADS "$start" -n 2 train "$tiny" --set data.path=data --set run.dir=run \
  --set train.steps=2 --set train.device=cpu
[[ -e run/checkpoints/latest ]] || fail "mpirun.sh did not train"
if (($(env -u OMP_NUM_THREADS nproc) >= 2)); then
  env -u OMP_NUM_THREADS "$start" -n 2 doctor --quick --device cpu --json bound.json >out 2>&1 || { cat out; fail "bound ranks"; }
  python3 -c 'import json
a, b = (set(r["cores"]) for r in json.load(open("bound.json"))["ranks"])
assert a and b and not a & b, (a, b)' || fail "two ranks share cores"
  echo "ok: ranks have cores of their own"
fi
expect 5 'FAILED: shared folder' "a failed check ends the start" "$start" -n 2 train "$tiny" --set data.path=data --set run.dir=/proc/run
expect 2 'is not divisible|does not fit' "a bad config ends it too" "$start" -n 3 --no-check train "$tiny" --set data.path=data --set run.dir=bad --set train.device=cpu
expect 2 'no command' "no command" "$start" -n 2
expect 2 'cannot be read' "no hostfile" "$start" --hostfile none doctor
printf 'localhost slots=3\n' >hosts
expect 0 '^2 ' "a hostfile's slots" "$start" --hostfile hosts doctor --quick --device cpu
echo "== SIGTERM to launch/mpirun.sh: all ranks save and end with 75"
"$start" -n 2 --no-check train "$tiny" --set data.path=data --set run.dir=stopped --set train.device=cpu --set train.steps=100000 \
  --set train.log_every=1 --set train.save_every=0 >out 2>&1 &
pid=$!
for ((i = 0; i < 300; i++)); do
  [[ -s stopped/log.jsonl ]] && break
  sleep 0.2
done
[[ -s stopped/log.jsonl ]] || { cat out; fail "training did not start"; }
kill -TERM "$pid"
code=0
wait "$pid" || code=$?
[[ $code == 75 && -e stopped/checkpoints/latest ]] || { cat out; fail "ended with $code, not 75 with a checkpoint"; }
echo "ok: saved $(cat stopped/checkpoints/latest)"
echo "all checks passed"
