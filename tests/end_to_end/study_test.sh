#!/usr/bin/env bash
# The study's scripts, on a data set of this repository and with the tiny size: every evaluation of a control and an FWL model, the
# tables, what a second call does, and what a pack holds. Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
cd "$work"
corpus text 56 --bytes 1600
corpus text-other 1 --bytes 20000 --seed 2
"$fwl" tokenize text --tokenizer byte --out data --split valid=0.1,test=0.1 >/dev/null
"$fwl" tokenize text-other --tokenizer byte --out other --split test=1.0 >/dev/null 2>&1
study() { # ARGUMENTS...
  python3 "$source/tests/benchmarks/study/study.py" --fwl "$fwl" --data data --other readme=other/test --out results --size tiny --tokens 10240 --device cpu \
    --dtype fp32 --test-documents 2 --dynamic-documents 2 --tune-documents 1 --eval-reserve-s 1 "$@" || { tail -n 5 results/*/*.txt >&2; fail "study.py $*"; }
}
study --budget-s 0.5 --only control-window-reset-seed1 >out
grep -q unfinished out || fail "a call without time says nothing"
study --gpus 2 --only control-window-reset-seed1
study --only fwl-window-reset-seed1 --pack results.tar.gz
[ -z "$(study --only fwl-window-reset-seed1)" ] || fail "a second call does something again"
mkdir elsewhere
tar -xzf results.tar.gz -C elsewhere
python3 "$source/tests/benchmarks/study/study.py" --out elsewhere --table
cmp results/table.md elsewhere/table.md || fail "the tables of the pack differ"
[ -z "$(find elsewhere -name '*.h5')" ] || fail "the pack holds checkpoints"
python3 - <<'P' || { cat results/table.md >&2; fail "the tables"; }
import json
study = json.load(open("results/study.json"))
rows = {(r["variant"], r["evaluation"], r["mode"]): r for r in study["rows"]}
carried = ["carried"] + ["carried-" + x for x in ("256", "1024", "4096", "131072", "stream-4096", "stream")]
wanted = [("control", "main", "slow"), ("control", "main", "slow-carried"), ("control", "strided", "slow"), ("control", "other", "slow"), ("control", "untrained", "fast-untrained"), ("control", "dynamic", "dynamic"),
          ("fwl", "other", "carried"), ("fwl", "dynamic", "carried-dynamic")] + [("fwl", "main", m) for m in ["slow", "fast", *carried]]
for key in wanted:
    for figure in ("nats_per_token", "bits_per_byte", "perplexity", "tokens_per_s", "relative_time", "relative_flops", "peak_memory_bytes", "train_tokens_per_s"):
        assert rows[key][figure] > 0, (key, figure)
control, fwl = rows["control", "main", "slow"], rows["fwl", "main", "carried"]
text = open("results/table.md").read()
percent = f"{100 * (fwl['nats_per_token'] / control['nats_per_token'] - 1):,.2f} %"
found = dict(line.strip("| ").split(" | ")[::2] for line in text.splitlines() if line.startswith("| tiny: "))
assert found["tiny: window, trained reset, carried against its control"] == percent, (found, percent)
assert found["tiny: window, time of dynamic evaluation to static"] != "not run" and found["tiny: full attention, carried against its control"] == "not run"
gap, = study["gaps"]
assert len(gap["percent"]) == 5 and all(isinstance(p, float) for p in gap["percent"]), gap
head = next(line for line in text.splitlines() if "carried, whole documents" in line)
assert head.index("slow") < head.index("carried 256") < head.index("carried 131,072") < head.index("whole documents") < head.index("across documents"), head
P
echo "all passed"
