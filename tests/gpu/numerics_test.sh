#!/usr/bin/env bash
# bfloat16 learns what float32 learns: 500 steps of training with fast weights, three seeds each, and the mean difference of the last
# hundred steps' losses within what seeds make. train.deterministic gives the same bits twice, and after a resume.
# Arguments: FWL_BINARY SOURCE_DIR. FWL_TEST_DEVICE and FWL_TEST_STEPS try the script elsewhere.
set -euo pipefail
device=${FWL_TEST_DEVICE:-cuda} steps=${FWL_TEST_STEPS:-500}
[[ $device == cpu ]] || nvidia-smi -L 2>/dev/null | grep '^GPU' >/dev/null || { echo "SKIPPED: no GPU"; exit 0; }
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
cd "$work"
corpus text 600 --bytes 5000
quietly "$fwl" tokenize text --tokenizer byte --out data --split test=0.02
train() { # RUN STEPS DTYPE SEED SETTINGS...
  local s set=()
  for s in "${@:5}"; do set+=(--set "$s"); done
  quietly "$fwl" train "$source/launch/configs/tiny.yaml" --set data.path=data --set run.dir="$1" --set train.device="$device" --set train.steps="$2" \
    --set train.dtype="$3" --set train.seed="$4" --set model.layers=4 --set model.width=256 --set model.heads=4 --set model.context=512 \
    --set model.window=128 --set train.global_batch=8 --set train.micro_batch=0 --set train.learning_rate=1e-3 --set train.log_every=5 \
    --set train.save_every=1000000 "${set[@]}"
}

echo "== $steps steps in bf16 and in fp32"
for seed in 1 2 3; do
  for dtype in bf16 fp32; do train "$dtype-$seed" "$steps" "$dtype" "$seed"; done
done
python3 - "$steps" <<'P' || fail "bf16 and fp32 learn differently"
import json, math, statistics, sys
last = 0.8 * int(sys.argv[1])
def end(run):
    log = [json.loads(line) for line in open(f"{run}/log.jsonl") if line.startswith("{")]
    return statistics.mean(x["loss"] for x in log if "loss" in x and x["step"] > last)
loss = {dtype: [end(f"{dtype}-{seed}") for seed in (1, 2, 3)] for dtype in ("bf16", "fp32")}
difference = statistics.mean(a - b for a, b in zip(loss["bf16"], loss["fp32"]))
# Of both: three seeds alone say little of what seeds make (0.0009 and 0.0044 were seen in float32).
noise = math.sqrt(statistics.mean(statistics.variance(x) for x in loss.values()))
print(f"loss bf16 {[round(x, 4) for x in loss['bf16']]}, fp32 {[round(x, 4) for x in loss['fp32']]}: {difference:+.4f} on average, {noise:.4f} between seeds")
assert abs(difference) < noise, (difference, noise)
assert abs(difference) < 0.01 * statistics.mean(loss["fp32"]), (difference, loss)
P

echo "== the same bits twice, and after a resume"
few=$((steps / 10))
export_of() { quietly "$fwl" export "$1" --out "$1.safetensors"; }
for run in first second; do train "$run" "$few" bf16 7 train.deterministic=true; export_of "$run"; done
cmp first.safetensors/model.safetensors second.safetensors/model.safetensors || fail "two deterministic runs differ"
train cut "$few" bf16 7 train.deterministic=true train.save_every=$((few / 2))
newest=$(ls -d cut/checkpoints/step-* | tail -n 1)
rm -rf "$newest"
train cut "$few" bf16 7 train.deterministic=true train.resume=auto
export_of cut
cmp first.safetensors/model.safetensors cut.safetensors/model.safetensors || fail "a resumed run differs"
echo "ok: $few steps in bf16, twice and cut in half: the same bits"
echo "all passed"
