#!/usr/bin/env bash
# `fwl export`: Python's safetensors reads back the very weights of the checkpoint. `fwl import-gpt2`: what it makes can be evaluated,
# trained further and exported again (its logits: tests/launch/gpt2_import_test.cpp). Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
cd "$work"
corpus text 56 --bytes 1600
"$fwl" tokenize text --tokenizer byte --out data --split test=0.2 >/dev/null
quietly "$fwl" train "$source/launch/configs/tiny.yaml" --set data.path=data --set run.dir=run --set train.steps=3 --set train.device=cpu

echo "== export: errors"
quietly "$fwl" export run --out exported
refused 3 'none' "$fwl" export none --out other
refused 2 'overwrite' "$fwl" export run --out exported
quietly "$fwl" export run --out exported --overwrite
refused 3 'cannot be made' "$fwl" export run --out /proc/exported

code=0
"$source/tests/support/test-python" -c 'import safetensors, transformers' || code=$?
if [[ $code == 77 ]]; then
  echo "SKIPPED: the rest needs Python's safetensors and transformers (./launch/setup.sh --tests fetches them from PyPI)" >&2
  exit 77
fi
[[ $code == 0 ]] || fail "the test-only Python packages do not import"

echo "== export: Python reads the checkpoint's weights bit for bit"
quietly "$fwl" export run --out again
cmp exported/model.safetensors again/model.safetensors || fail "two exports differ"
quietly "$fwl" inspect run --json inspected.json
"$source/tests/support/test-python" - <<'P' || fail "export"
import json
import numpy
from safetensors import safe_open
from safetensors.numpy import load_file
tensors = load_file("exported/model.safetensors")
config = json.load(open("exported/config.json"))
assert config["model_type"] == "fwl" and config["model"]["width"] == 64 and config["step"] == 3, config
assert config["model"]["fast_weight"]["update"] == "slow_gradient"
parameters = sum(t.size for t in tensors.values())
assert parameters == json.load(open("inspected.json"))["parameters"], parameters
assert tensors["embedding"].shape == (config["model"]["vocab_size"], 64) and tensors["embedding"].dtype == numpy.float32
assert tensors["body.0.attention.qkv"].shape == (192, 64)
assert all(numpy.isfinite(t).all() for t in tensors.values())
# Another reader, that shares no code: the bytes after the header are the tensors in the header's places.
raw = open("exported/model.safetensors", "rb").read()
length = int.from_bytes(raw[:8], "little")
header = json.loads(raw[8 : 8 + length])
for name, tensor in tensors.items():
    begin, end = header[name]["data_offsets"]
    assert raw[8 + length + begin : 8 + length + end] == tensor.tobytes(), name
P

echo "== import-gpt2: evaluated, trained further, exported"
quietly "$source/tests/support/test-python" "$source/tests/support/make_gpt2.py" gpt2
quietly "$fwl" import-gpt2 gpt2 --out tuned --set data.path=data --set train.steps=4 --set train.learning_rate=1e-3 --set train.log_every=1 \
  --set train.global_batch=4 --set train.device=cpu
refused 2 'holds a run' "$fwl" import-gpt2 gpt2 --out tuned
refused 2 'is not GPT-2' "$fwl" import-gpt2 gpt2 --out other --set model.heads=2
refused 3 'No such file or directory' "$fwl" import-gpt2 none --out other
[[ ! -e other ]] || fail "a refused import left a folder"
quietly "$fwl" export tuned --out tuned-exported
"$source/tests/support/test-python" - <<'P' || fail "imported weights"
from safetensors.numpy import load_file
theirs, ours = load_file("gpt2/model.safetensors"), load_file("tuned-exported/model.safetensors")
pairs = {"transformer.wte.weight": "embedding", "transformer.wpe.weight": "positions", "transformer.ln_f.bias": "fast_weight.norm.bias",
         "transformer.h.2.attn.c_attn.bias": "body.2.attention.qkv.bias"}
for a, b in pairs.items():
    assert (theirs[a] == ours[b]).all(), a
assert (theirs["transformer.h.1.mlp.c_fc.weight"].T == ours["body.1.feed_forward.up"]).all()
P
quietly "$fwl" eval tuned --device cpu --data data/test --modes slow,fast --max-documents 2 --json before.json
quietly "$fwl" train tuned/config.yaml
quietly "$fwl" eval tuned --device cpu --data data/test --modes slow,fast --max-documents 2 --json after.json
python3 - <<'P' || fail "training the import"
import json
log = [json.loads(line) for line in open("tuned/log.jsonl")]
assert [line["step"] for line in log] == [1, 2, 3, 4], log
before, after = (json.load(open(name)) for name in ("before.json", "after.json"))
assert before["step"] == 0 and after["step"] == 4
for mode in ("slow", "fast"):
    assert before["modes"][mode]["nats_per_token"] > after["modes"][mode]["nats_per_token"], (mode, before, after)
P
echo "all checks passed"
