#!/usr/bin/env bash
# What cannot be read is not damaged, and files that are hostile do no harm: tables of cases that users of such systems have
# reported. Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
injection=$(dirname "$fwl")/fwl_fault_injection.so
[[ -e $injection ]] || fail "no $injection: build the target fwl_fault_injection"
cd "$work"
with_fault() { env LD_PRELOAD="$injection" "$@"; } # VARIABLE=VALUE... COMMAND...
never() { ! grep -qiE -- "$1" "$work/out" || fail "the output says '$1': $2"; }
# ./train RUN DATA SETTINGS...: small windows, so that each of many shards is met soon.
cat >train <<P
#!/usr/bin/env bash
run=\$1 data=\$2 settings=()
shift 2
for s in "\$@"; do settings+=(--set "\$s"); done
exec "$fwl" train "$source/launch/configs/tiny.yaml" --set run.dir="\$run" --set "data.\$data" --set train.device=cpu --set model.context=32 \\
  --set model.layers=1 --set model.width=32 --set train.log_every=10 --set train.save_every=0 "\${settings[@]}"
P
chmod +x train

corpus text 12 --bytes 1500
quietly "$fwl" tokenize text --tokenizer byte --out data --split test=0.3
mkdir many
for i in $(seq 48); do head -c 200 text/0000.txt >many/$i.txt; done
quietly "$fwl" tokenize many --tokenizer byte --out shards --shard-tokens 150
[[ $(ls shards/train | wc -l) == 48 ]] || fail "48 shards were wanted"
quietly ./train run path=data train.steps=4 train.save_every=2 checkpoints.keep=0

echo "== too many open files: nothing is left out, and the few that are allowed are enough"
for i in 1 2 3; do cp -r shards "set$i"; done
limited() { (ulimit -n "$1"; shift; "$@"); } # LIMIT COMMAND...
while read -r limit what; do
  expect_code 0 "ulimit -n $limit: $what" limited "$limit" ./train few "$what" train.steps=30 data.skip_bad=true
  never 'damaged|left out' "$limit descriptors"
done <<'ROWS'
64 path=shards
64 mixture=set1=1,set2=1,set3=1
ROWS
expect_code 0 "ulimit -n 12: data check" limited 12 "$fwl" data check shards
expect_code 0 "ulimit -n 12: eval" limited 12 "$fwl" eval run --data shards/train --modes slow
expect_code 0 "ulimit -n 12: inspect --verify" limited 12 "$fwl" inspect run --verify
soft() { (ulimit -S -n 20; "$@"); }
expect_code 0 "a soft limit is raised" soft ./train few path=shards train.steps=30 data.skip_bad=true

echo "== a shard that cannot be read: never damaged, never left out"
while IFS='|' read -r fault words; do
  expect_code 3 "train, $fault" with_fault FWL_FAULT="$fault" ./train bad path=shards train.steps=30 data.skip_bad=true
  says "$words" "$fault"
  never 'damaged|left out|make (it|the data set) again' "$fault"
done <<'ROWS'
open:EACCES:shard-00007|Permission denied
read:EIO:shard-00007|Input/output error
ROWS
while IFS='|' read -r fault words; do
  expect_code 3 "data check, $fault" with_fault FWL_FAULT="$fault" "$fwl" data check shards --json check.json
  says "$words" "$fault"
  says 'NOT READ' "$fault"
  never 'again, or put|BAD|damaged\)' "$fault"
  grep -q '"unavailable": *1' check.json || fail "$fault: the JSON does not count it"
done <<'ROWS'
open:EPERM:shard-00007|Operation not permitted
open:EMFILE:shard-00007|Too many open files
read:ESTALE:shard-00007|Stale file handle
ROWS
while read -r faults; do
  # shellcheck disable=SC2086
  expect_code 0 "what passes is tried again: $faults" with_fault $faults ./train passing path=shards train.steps=30 data.skip_bad=true
  never 'damaged|left out' "$faults"
done <<'ROWS'
FWL_FAULT=open:ESTALE:/shard- FWL_FAULT_EVERY=9
FWL_FAULT=read:EIO:/shard- FWL_FAULT_EVERY=97
ROWS
mv shards/train/shard-00007.h5 kept.h5
expect_code 3 "a shard that is missing" ./train missing path=shards train.steps=30 data.skip_bad=true
says 'No such file or directory' missing
never 'damaged|left out' missing
refused 3 'NOT READ train/shard-00007.h5' "$fwl" data check shards
mv kept.h5 shards/train/shard-00007.h5
if command -v setpriv >/dev/null && [[ $(id -u) == 0 ]]; then
  cp -r shards private
  chmod 000 private/train/shard-00007.h5
  chmod 755 "$work"
  mkdir -m 777 open
  nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
  if nobody test -x "$fwl"; then
    refused 3 'Permission denied' nobody "$fwl" data check private
    never 'make the data set again' 'another user'
  fi
fi

echo "== a run that has left out all its text is an error"
cp -r shards broken
python3 - broken/train/*.h5 <<'P'
import sys
for path in sys.argv[1:]:
    content = bytearray(open(path, "rb").read())
    for i in range(len(content) // 4, len(content)):
        content[i] ^= 0x55
    open(path, "wb").write(content)
P
refused 3 'all text that was read' ./train nothing path=broken train.steps=3 data.skip_bad=true
! ls nothing/checkpoints/step-* 2>/dev/null || fail "a checkpoint of nothing was saved"

echo "== a checkpoint that cannot be read is not passed over"
while IFS='|' read -r fault words; do
  expect_code 3 "resume=auto, $fault" with_fault FWL_FAULT="$fault" ./train run path=data train.steps=4 train.save_every=2 checkpoints.keep=0 train.resume=auto
  says "$words" "$fault"
  never 'passed over|resumed from run|damaged' "$fault"
done <<'ROWS'
open:EACCES:step-0000004/manifest|Permission denied
read:EIO:step-0000004/rank-|Input/output error
open:EACCES:run/checkpoints$|Permission denied
ROWS
refused 3 'cannot be read now, or not by this user' with_fault FWL_FAULT=open:EACCES:step-0000004/rank- "$fwl" inspect run --verify
never "' are damaged|remove them" 'inspect --verify'
[[ -e run/checkpoints/step-0000004 && -e run/checkpoints/step-0000002 ]] || fail "a checkpoint went away"

echo "== folders that cannot be synced, files that cannot be written"
while IFS='|' read -r code fault words; do
  rm -rf out.set
  expect_code "$code" "tokenize, $fault" with_fault FWL_FAULT="$fault" "$fwl" tokenize many --tokenizer byte --out out.set
  says "$words" "$fault"
  never 'no such file' "$fault"
  [[ $code != 0 || $(grep -c 'cannot be synced' "$work/out") == 1 ]] || fail "$fault: not said once"
done <<'ROWS'
0|fsync:EINVAL:out.set$|cannot be synced: Invalid argument
0|fsync:EOPNOTSUPP:out.set$|cannot be synced: Operation not supported
0|fsync:ENOSYS:out.set$|cannot be synced: Function not implemented
3|fsync:EIO:out.set$|Input/output error
3|fsync:ENOSPC:out.set/train/|No space left on device
3|fsync:EDQUOT:out.set/manifest.json|Disk quota exceeded
ROWS
# The last write of a shard is made when it is closed; the first number that no write has ends the search.
torn() { # N: a build whose N-th write of a shard fails
  rm -rf torn.set
  with_fault FWL_FAULT=write:EIO:/shard- FWL_FAULT_FROM="$1" FWL_FAULT_COUNT=1 "$fwl" tokenize text/0000.txt --tokenizer byte --out torn.set
}
low=1 high=64
expect_code 3 "a shard's first write fails" torn $low
while ((high - low > 1)); do
  middle=$(((low + high) / 2)) code=0
  torn $middle >"$work/out" 2>&1 || code=$?
  [[ $code == 0 || $code == 3 ]] || fail "write $middle of a shard: exit code $code"
  [[ $code == 0 || ! -e torn.set/manifest.json ]] || fail "write $middle of a shard: a data set was published"
  if [[ $code == 0 ]]; then high=$middle; else low=$middle; fi
done
quietly torn "$high"
expect_code 0 "no write of a shard that fails goes unnoticed ($low of them)" "$fwl" data check torn.set
for when in true false; do
  expect_code 3 "a full disk, asynchronous=$when" with_fault FWL_FAULT=write:ENOSPC:rank-0 ./train full-$when path=data train.steps=4 train.save_every=2 checkpoints.asynchronous=$when
  says 'No space left on device' full
  never 'HDF5-DIAG' full
done

echo "== links"
cp -r data linked
mkdir annex
for f in linked/*/*.h5; do mv "$f" "annex/$(echo "$f" | tr / _)" && ln -s "$work/annex/$(echo "$f" | tr / _)" "$f"; done
mv linked/manifest.json annex/m.json && ln -s ../annex/m.json linked/manifest.json
ln -s "$work/data/test" onlytest
ln -s "$work/data" whole
ln -s "$work/linked" deep
while read -r path; do
  expect_code 0 "eval --data $path" "$fwl" eval run --data "$path" --modes slow
done <<'ROWS'
linked/test
onlytest
onlytest/
whole/test
deep/test
onlytest/../test
ROWS
expect_code 0 "check of links" "$fwl" data check linked
says 'symbolic links' 'data check'
quietly ./train links path=linked train.steps=2
rm annex/linked_test_*
refused 3 'a link to' "$fwl" eval run --data linked/test --modes slow
never 'damaged' 'a broken link'

echo "== hostile files are damaged files: no crash, no other place, no room for what they claim"
cat >hostile.py <<'P'
import json, sys, zlib
what, source, target = sys.argv[1:]
manifest = json.load(open(source))
def sealed(m):
    m.pop("checksum", None)
    body = json.dumps(m, indent=1, sort_keys=True, ensure_ascii=False, separators=(",", ": "))
    m["checksum"] = "%08x" % zlib.crc32(body.encode())
    return json.dumps(m, indent=1, sort_keys=True, ensure_ascii=False, separators=(",", ": ")) + "\n"
if what.startswith("brackets"):
    n = int(what[8:])
    body = ' "config": ' + "[" * n + "]" * n + "\n}"
    text = '{\n "checksum": "%08x",\n' % zlib.crc32(("{\n" + body).encode()) + body + "\n"
elif what == "outside":
    name = "../../../outside.h5"
    manifest["files"][name] = manifest["files"].pop("rank-00000.h5")
    for tensor in manifest["tensors"].values():
        for piece in tensor["slices"]: piece[0] = name
    text = sealed(manifest)
elif what == "huge":
    tensor = next(iter(manifest["tensors"].values()))
    tensor["shape"] = [1 << 40]
    tensor["slices"] = [[tensor["slices"][0][0], tensor["slices"][0][1], 0, 1 << 40, "00000000"]]
    text = sealed(manifest)
else:
    text = sealed(manifest)
open(target, "w").write(text)
P
cp -r run hostile
cp hostile/checkpoints/step-0000004/rank-00000.h5 outside.h5
while IFS='|' read -r what words; do
  python3 hostile.py "$what" run/checkpoints/step-0000004/manifest.json hostile/checkpoints/step-0000004/manifest.json
  refused 3 "$words" "$fwl" inspect hostile/checkpoints/step-0000004 --verify
done <<'ROWS'
brackets40000|damaged
brackets400000|damaged
outside|is no file of a checkpoint
huge|damaged
ROWS
python3 hostile.py brackets200000 run/checkpoints/step-0000004/manifest.json hostile/checkpoints/step-0000004/manifest.json
quietly ./train hostile path=data train.steps=4 train.save_every=2 checkpoints.keep=0 train.resume=auto
says 'step-0000002 at step 2' 'resume=auto passes over a hostile manifest'
python3 - <<'P'
deep = "[" * 300000 + "]" * 300000
open("deep.json", "w").write(deep)
open("deep.yaml", "w").write("run: " + deep + "\n")
open("deep2.yaml", "w").write("".join(" " * i + "a:\n" for i in range(3000)))
import os
for folder in ("deepset", "deepmodel", "deeprun"): os.makedirs(folder)
open("deepset/manifest.json", "w").write('{"format": "fwl-dataset", "version": 3, "splits": ' + deep + "}")
open("deepmodel/config.json", "w").write(deep)
open("deepmodel/model.safetensors", "wb").write(len(deep).to_bytes(8, "little") + deep.encode())
open("deeprun/log.jsonl", "w").write(deep + "\n")
P
while read -r code command; do
  # shellcheck disable=SC2086
  expect_code "$code" "nested deeply: $command" "$fwl" $command
done <<'ROWS'
3 report deep.json --out r.html
3 report deeprun --out r.html
3 data check deepset
3 import-gpt2 deepmodel --out m
2 train deep.yaml
2 train deep2.yaml
ROWS
echo "all good"
