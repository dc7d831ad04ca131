#!/usr/bin/env bash
# What training does with its data: damaged bytes stop every rank or are left out, mixtures, the hash of what was read.
# Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
train() { # RANKS RUN SETTINGS...
  local ranks=$1 run=$2 settings=(--set run.dir="$work/$2" --set train.device=cpu --set train.log_every=1)
  shift 2
  for s in "$@"; do
    case $s in *=*) settings+=(--set "$s") ;; *) settings+=("$s") ;; esac
  done
  mpirun --bind-to none --oversubscribe -n "$ranks" "$fwl" train "$source/launch/configs/tiny.yaml" "${settings[@]}" >"$work/out" 2>&1
}
expect_code() { # CODE RANKS RUN SETTINGS...
  local want=$1 code=0
  shift
  train "$@" || code=$?
  [[ $code == "$want" ]] || { cat "$work/out" >&2; fail "$*: exit code $code, not $want"; }
  echo "ok: exit $code: $*"
}
hashes() { python3 -c 'import json, sys; print(*[json.loads(l)["order_hash"] for l in open(sys.argv[1])])' "$work/$1/log.jsonl"; }

corpus "$work/text-a" 44 --bytes 6000
corpus "$work/text-b" 23 --bytes 1700 --seed 2
"$fwl" tokenize "$work/text-a" --tokenizer byte --out "$work/a" --compression none >"$work/out"
"$fwl" tokenize "$work/text-b" --tokenizer byte --out "$work/b" >"$work/out"

echo "== the hash of what was read is the same in every layout, and guards a resume"
expect_code 0 1 one data.path="$work/a" train.steps=6 train.global_batch=4
expect_code 0 2 two data.path="$work/a" train.steps=6 train.global_batch=4 train.save_every=3 checkpoints.keep=0
[[ $(hashes one) == "$(hashes two)" ]] || fail "the order depends on the ranks: $(hashes one) / $(hashes two)"
rm -rf "$work/two/checkpoints/step-0000006"
expect_code 0 1 two data.path="$work/a" train.steps=6 train.global_batch=4 train.resume=auto
[[ $(hashes one) == "$(hashes two)" ]] || fail "a resumed run reads other text"
expect_code 2 1 two data.path="$work/b" train.steps=6 train.global_batch=4 train.resume=auto
grep -q 'data: other tokens' "$work/out" || fail "the reason is not said"
python3 - "$work/one/log.jsonl" <<'P' || fail "data_wait is not logged"
import json, sys
assert all(0 <= json.loads(l)["data_wait"] <= 1 for l in open(sys.argv[1]))
P

echo "== mixtures"
expect_code 0 2 mixed data.mixture="$work/a=3,$work/b=1" train.steps=4 train.global_batch=4
expect_code 0 1 mixed1 data.mixture="$work/a=3,$work/b=1" train.steps=4 train.global_batch=4
[[ $(hashes mixed) == "$(hashes mixed1)" ]] || fail "the mixture depends on the ranks"
expect_code 2 1 x data.mixture="$work/a=0" train.steps=2
expect_code 2 1 x data.mixture="$work/a=1,$work/a/=2" train.steps=2
grep -q 'twice' "$work/out" || fail "a data set named twice is not said"
expect_code 2 1 x data.mixture="$work/a=1" data.path="$work/a" train.steps=2
expect_code 2 1 x data.mixture="$work/a=1,$work/b=1" train.stream=true train.steps=2

echo "== streams of whole documents: one order in every layout and over stops"
documents=(data.path="$work/a" train.stream=true data.order=documents train.steps=24 train.global_batch=4 model.context=256)
expect_code 0 1 docs1 "${documents[@]}"
expect_code 0 2 docs2 "${documents[@]}" parallel.sequence=2 train.save_every=12 checkpoints.keep=0
rm -rf "$work/docs2/checkpoints/step-0000024"
expect_code 0 4 docs2 "${documents[@]}" parallel.sequence=2 train.resume=auto
[[ $(hashes docs1) == "$(hashes docs2)" ]] || fail "the order of documents depends on the ranks"
python3 - "$work/docs1/log.jsonl" "$work/docs2/log.jsonl" <<'P' || fail "losses of streams of documents depend on the layout, or padding is counted"
import json, sys
one, two = ([json.loads(l) for l in open(p)] for p in sys.argv[1:])
assert len(one) == len(two) == 24, (len(one), len(two))
for a, b in zip(one, two):
    assert a["tokens"] == b["tokens"] <= 4 * 256 * a["step"], (a, b)
    assert abs(a["loss"] - b["loss"]) < 2e-4 * a["loss"], (a["loss"], b["loss"])
assert one[-1]["tokens"] < 4 * 256 * 24, "no window was padded"
P
expect_code 2 1 x data.path="$work/a" data.order=documents train.steps=2

echo "== a resume of documents goes on from the checkpoint's anchor, 16,384 windows after the start"
far=(data.path="$work/a" train.stream=true data.order=documents train.steps=24 train.global_batch=1024 train.micro_batch=0 model.context=8 model.window=4)
expect_code 0 1 far1 "${far[@]}"
expect_code 0 2 far2 "${far[@]}" train.save_every=20 checkpoints.keep=0
rm -rf "$work/far2/checkpoints/step-0000024"
python3 - "$work/far2/checkpoints/step-0000020/manifest.json" <<'P' || fail "the checkpoint has no anchor"
import json, sys
data = json.load(open(sys.argv[1]))["data"]
assert data["anchor"]["sample"] == 16384 and len(data["anchor"]["stream_dealt"]) == 1024, data["anchor"]["sample"]
P
expect_code 0 4 far2 "${far[@]}" train.resume=auto
[[ $(hashes far1) == "$(hashes far2)" ]] || fail "the order after an anchor differs"

echo "== data changed by the user: the run resumes again and again"
expect_code 0 1 moved data.path="$work/a" train.steps=2 train.global_batch=4
changed=(data.path="$work/b" train.global_batch=4 train.resume=auto)
expect_code 2 1 moved "${changed[@]}" train.steps=4
expect_code 0 1 moved "${changed[@]}" train.steps=4 --allow-changes
expect_code 0 2 moved "${changed[@]}" train.steps=6 --allow-changes
expect_code 2 1 x "${documents[@]}" model.fast_weight.document_reset=false
expect_code 2 1 docs1 "${documents[@]}" train.global_batch=8 train.resume=auto --allow-changes
grep -q 'carries 4 streams' "$work/out" || fail "the number of streams is not said"

echo "== damaged bytes"
shard=$work/a/train/shard-00000.h5
printf '\377' | dd of="$shard" bs=1 seek=$(($(stat -c %s "$shard") / 2)) conv=notrunc 2>"$work/dd"
code=0
"$fwl" data check "$work/a" >"$work/out" 2>&1 || code=$?
[[ $code == 3 ]] && grep -q 'BAD train/shard-00000.h5, dataset tokens, chunk' "$work/out" || fail "the check does not find the damage"
expect_code 3 2 bad data.path="$work/a" train.steps=6 train.global_batch=4
grep -q 'shard-00000.h5' "$work/out" || fail "the damaged file is not named"
expect_code 0 2 skipping data.path="$work/a" train.steps=60 train.global_batch=16 data.skip_bad=true
grep -q 'is damaged' "$work/out" || fail "leaving a document out is not said"
python3 - "$work/skipping/log.jsonl" <<'P' || fail "the documents left out are not counted"
import json, math, sys
lines = [json.loads(l) for l in open(sys.argv[1])]
assert all(math.isfinite(l["loss"]) for l in lines)
P

echo "== a damaged index of documents: a stop, or the shard's documents left out"
corpus "$work/text-c" 60 --bytes 700 # not the sources: the index must lie where it lay yesterday
"$fwl" tokenize "$work/text-c" --tokenizer byte --out "$work/c" --shard-tokens 8000 >"$work/out"
python3 - "$work/c/train/shard-00001.h5" <<'P'
import sys
content = bytearray(open(sys.argv[1], "rb").read())
content[len(content) // 6:] = b"x" * (len(content) - len(content) // 6)
open(sys.argv[1], "wb").write(content)
P
damaged=(data.path="$work/c" train.stream=true data.order=documents train.steps=30 train.global_batch=4 model.context=256)
expect_code 3 2 x "${damaged[@]}"
grep -q 'shard-00001.h5' "$work/out" || fail "the damaged file is not named"
expect_code 0 1 left1 "${damaged[@]}" data.skip_bad=true
grep -q 'shard-00001.h5.* documents are left out (data.skip_bad)' "$work/out" || fail "leaving documents out is not said"
expect_code 0 2 left2 "${damaged[@]}" data.skip_bad=true train.save_every=20 checkpoints.keep=0
rm -rf "$work/left2/checkpoints/step-0000030"
expect_code 0 4 left2 "${damaged[@]}" data.skip_bad=true parallel.sequence=2 train.resume=auto
[[ $(hashes left1) == "$(hashes left2)" ]] || fail "the order without a damaged shard depends on the ranks"
python3 - "$work/left1/log.jsonl" <<'P' || fail "the documents left out are not counted"
import json, sys
assert [json.loads(l) for l in open(sys.argv[1])][-1]["documents_left_out"] > 0
P
echo "all checks passed"
