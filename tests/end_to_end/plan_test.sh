#!/usr/bin/env bash
# Promises of `fwl plan`: JSON that `fwl report` draws, the best layout with its reason up to 16,384 GPUs, rates from a measurement of
# this machine, refusals that say what to do. Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
fwl=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1
fail() { echo "FAILED: $*" >&2; exit 1; }
config=$source/launch/configs/gpt2-124m.yaml

for gpu in h100 h200 a100 b200; do
  "$fwl" plan "$config" --gpus 16384 --gpu $gpu --json "$work/$gpu.json" >"$work/$gpu.txt" || fail "plan on $gpu"
done
python3 - "$work" <<'P' || fail "what the plan says"
import json, sys
speed = {}
for gpu in ("a100", "h100", "h200", "b200"):
    d = json.load(open(f"{sys.argv[1]}/{gpu}.json"))
    plan, scaling = d["plan"], d["scaling"]
    data, sequence = map(int, plan["layout"].split("x"))
    assert data * sequence == plan["gpus"] == 16384 and plan["reason"] and plan["fits"], plan
    memory = plan["memory_bytes"]
    assert abs(sum(v for k, v in memory.items() if k != "total") - memory["total"]) < 1, memory
    assert {"weights", "gradients", "moments", "activations", "head", "chunk_states", "communication"} < set(memory)
    assert set(plan["bytes_sent_per_step"]) == {"gradients", "attention", "state"} and 0 < plan["mfu"] < 1
    assert plan["rates_measured"] == (gpu == "h200")
    for kind in ("weak", "strong", "sequence"):
        points = [r for r in scaling if r["kind"] == kind]
        assert points[0]["gpus"] == 1 and points[0]["efficiency"] == 1, points[0]
        assert [r["gpus"] for r in points] == sorted({r["gpus"] for r in points}), kind
    assert [r["gpus"] for r in scaling if r["kind"] == "weak"][-1] == 16384
    speed[gpu] = scaling[0]["tokens_per_s"]
assert speed["a100"] < speed["h100"] < speed["h200"] < speed["b200"], speed
P
"$fwl" report "$work/h200.json" --out "$work/page.html" >"$work/out" || fail "report of a plan"
grep -q "Weak scaling" "$work/page.html" && grep -q "predicted" "$work/page.html" || fail "the curves are not drawn"
echo "ok: four kinds of GPU, curves drawn"

# A measured step of half the speed and its own config: the plan follows.
# As many sequences as GPUs have work for: layouts with thousands of ranks a sequence are weighed, too.
timeout 60 "$fwl" plan "$config" --gpus 16384 --set train.global_batch=262144 --json "$work/large.json" >/dev/null || fail "a large batch on 16,384 GPUs"
"$fwl" plan "$config" --gpus 1 --set train.global_batch=16 --json "$work/one.json" >/dev/null
"$fwl" train "$config" --set train.global_batch=16 --print-config >"$work/resolved.yaml"
python3 - "$work" <<'P'
import json, sys
work = sys.argv[1]
plan = json.load(open(f"{work}/one.json"))["plan"]
text = open(f"{work}/resolved.yaml").read()
json.dump({"layout": "1x1", "config": text, "tokens_per_s": {"median": plan["tokens_per_s"] / 2}}, open(f"{work}/bench.json", "w"))
P
"$fwl" plan "$config" --gpus 1 --set train.global_batch=16 --calibrate "$work/bench.json" --json "$work/half.json" >/dev/null
python3 - "$work" <<'P' || fail "--calibrate"
import json, sys
one, half = (json.load(open(f"{sys.argv[1]}/{n}.json"))["plan"]["tokens_per_s"] for n in ("one", "half"))
assert 0.45 < half / one < 0.6, half / one
P
echo "ok: --calibrate follows the measurement"

refused() { # TEXT ARGUMENTS...
  local text=$1 code=0
  shift
  "$fwl" plan "$@" >"$work/out" 2>&1 || code=$?
  [[ $code == 2 ]] && grep -qi -- "$text" "$work/out" || { cat "$work/out"; fail "$*: exit code $code"; }
}
refused "gpu" "$config" --gpus 8 --gpu h9000
refused "gpus" "$config" --gpus 0
refused "gpus" "$config" --gpus 16385
refused "fits" "$config" --gpus 1 --set model.layers=200 --set model.width=8192 --set model.heads=64
refused "width" "$config" --gpus 1 --set model.heads=7
code=0
echo '{"tokens_per_s": 5}' >"$work/bad.json"
"$fwl" plan "$config" --gpus 1 --calibrate "$work/bad.json" >"$work/out" 2>&1 || code=$?
[[ $code == 3 ]] && grep -q "config" "$work/out" || { cat "$work/out"; fail "a measurement without a config: exit code $code"; }
echo "all passed"
