#!/usr/bin/env bash
# Whole-program promises of `fwl generate` and `fwl score`: texts do not depend on their batch, saved states answer as if the
# document had been read again, stop strings, standard input, exit codes; scores equal those of `fwl eval`; the page is
# self-contained. Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
train() { # RUN SETTINGS...
  local run=$1 settings=()
  shift
  for s in data.path="$work/data" run.dir="$work/$run" train.device=cpu "$@"; do settings+=(--set "$s"); done
  "$fwl" train "$source/launch/configs/tiny.yaml" "${settings[@]}" >"$work/out" 2>&1 || { cat "$work/out"; fail "training $run"; }
}
generate() { "$fwl" generate "$work/${RUN:-run}" --device cpu "$@" 2>>"$work/log"; }
check() { python3 - "$@" || fail "${CHECK:-check}"; } # ARGUMENTS... <<'P'

corpus "$work/text" 145
corpus "$work/document" 1 --bytes 8000 --seed 9
cat "$work"/text/00[0-2]*.txt >"$work/long.txt"
"$fwl" tokenize "$work/text" --tokenizer byte --out "$work/data" --split test=0.1 >/dev/null 2>&1
train run train.steps=40
train full train.steps=10 model.window=0
train control train.steps=1 model.fast_weight.update=none
train other train.steps=1
document=$work/document/0000.txt
question='// The window is '

echo "== a prompt's text does not depend on the batch it is in"
for adapt in prompt all off; do
  generate --prompt "int main(" --prompt "" --prompt "namespace fwl {" --max-tokens 60 --temperature 0.8 --top-k 40 --top-p 0.95 --seed 3 --adapt $adapt --json "$work/batch.json" >/dev/null
  generate --prompt "namespace fwl {" --max-tokens 60 --temperature 0.8 --top-k 40 --top-p 0.95 --seed 3 --adapt $adapt --json "$work/alone.json" >"$work/alone.txt"
  CHECK="batch, --adapt $adapt" check "$work/batch.json" "$work/alone.json" "$work/alone.txt" <<'P'
import json, sys
batch, alone = [json.load(open(p)) for p in sys.argv[1:3]]
assert len(batch["continuations"]) == 3 and batch["adapt"] == alone["adapt"]
a, b = batch["continuations"][2], alone["continuations"][0]
assert a == b and a["ending"] in ("max_tokens", "document_end") and len(a["tokens"]) <= 60, (a, b)
assert open(sys.argv[3], "rb").read().decode().startswith("namespace fwl {")
assert open(sys.argv[3], "rb").read().decode() == "namespace fwl {" + a["text"] + "\n" or "\ufffd" in a["text"]
P
  cp "$work/alone.json" "$work/$adapt.json"
done
echo "ok: batches of 3"

echo "== prompts from files, standard input, without echo"
printf 'namespace fwl {' >"$work/prompt.txt"
gzip -k "$work/prompt.txt"
for way in "--prompt-file $work/prompt.txt" "--prompt-file $work/prompt.txt.gz" "--prompt-file -" ""; do
  # shellcheck disable=SC2086
  generate $way --max-tokens 60 --temperature 0.8 --top-k 40 --top-p 0.95 --seed 3 --json "$work/way.json" --no-echo <"$work/prompt.txt" >"$work/way.txt"
  CHECK="prompt by '$way'" check "$work/prompt.json" "$work/way.json" "$work/way.txt" <<'P'
import json, sys
a, b = [json.load(open(p))["continuations"] for p in sys.argv[1:3]]
assert a == b, (a, b)
shown = open(sys.argv[3], "rb").read().decode()
assert shown == b[0]["text"] + "\n" or "\ufffd" in b[0]["text"], "the prompt was echoed"
P
done
generate --prompt a --prompt b --max-tokens 5 >"$work/two.txt"
grep -q "^==> prompt 2 <==" "$work/two.txt" || fail "no head for the second prompt"
echo "ok: four ways"

echo "== stop strings"
# What a small model writes depends on the machine's arithmetic: the stop strings are taken from what it wrote here.
for seed in {1..40}; do
  generate --prompt "int " --max-tokens 300 --temperature 0.7 --seed "$seed" --json "$work/free.json" >/dev/null
  python3 - "$work/free.json" >"$work/stops" <<'P' && break
import json, sys
text = json.load(open(sys.argv[1]))["continuations"][0]["text"]
late, later = text[60:63], text[80:82]  # both may occur earlier as well
if len(text) < 90 or not (late + later).isprintable() or not (late + later).isascii(): sys.exit(1)
print(late, later, sep="\n")
P
  [[ $seed != 40 ]] || fail "no seed wrote 90 printable characters"
done
mapfile -t stops <"$work/stops"
generate --prompt "int " --max-tokens 300 --temperature 0.7 --seed "$seed" --stop="${stops[0]}" --stop="${stops[1]}" --stop=$'\x01 never written' --json "$work/stop.json" --no-echo >"$work/stop.txt"
CHECK="stop strings" check "$work/stop.json" "$work/free.json" "${stops[@]}" <<'P'
import json, sys
stop, free = [json.load(open(p))["continuations"][0] for p in sys.argv[1:3]]
first = min(free["text"].find(s) for s in sys.argv[3:])
assert first >= 0, sys.argv
assert stop["ending"] == "stop" and stop["text"] == free["text"][:first], (stop["text"], free["text"])
assert free["tokens"][:len(stop["tokens"])] == stop["tokens"] and len(stop["tokens"]) < len(free["tokens"])
P
echo "ok: stopped"

echo "== a saved state answers as if the document had been read again"
for RUN in run full; do
  for adapt in prompt all off; do
    generate --prompt-file "$document" --max-tokens 0 --adapt $adapt --state-out "$work/state.h5" --no-echo >/dev/null
    generate --state-in "$work/state.h5" --prompt "$question" --adapt $adapt --max-tokens 50 --seed 4 --json "$work/later.json" --no-echo >/dev/null
    { cat "$document"; printf %s "$question"; } | generate --adapt $adapt --max-tokens 50 --seed 4 --json "$work/again.json" --no-echo >/dev/null
    CHECK="state of $RUN, --adapt $adapt" check "$work/later.json" "$work/again.json" <<'P'
import json, sys
later, again = [json.load(open(p)) for p in sys.argv[1:]]
assert later["continuations"][0]["tokens"] == again["continuations"][0]["tokens"]
assert later["cost"]["tokens_read"] < 30 < 1000 < again["cost"]["tokens_read"]
P
  done
done
RUN=run
generate --prompt-file "$document" --max-tokens 0 --state-out "$work/part1.h5" --no-echo >/dev/null
generate --state-in "$work/part1.h5" --prompt "$question" --max-tokens 20 --state-out "$work/part2.h5" --json "$work/both.json" --no-echo >/dev/null
generate --state-in "$work/part2.h5" --prompt "" --max-tokens 20 --json "$work/last.json" --no-echo >/dev/null
CHECK="a state that goes on from a state" check "$work/both.json" "$work/last.json" <<'P'
import json, sys
a, b = [json.load(open(p))["continuations"][0]["tokens"] for p in sys.argv[1:]]
assert a == b
P
echo "ok: states"

echo "== memory does not grow with a sliding window"
generate --prompt a --max-tokens 20 --json "$work/short.json" >/dev/null
head -c 20000 "$work/long.txt" | generate --max-tokens 20 --json "$work/long.json" --no-echo >/dev/null
CHECK="memory" check "$work/short.json" "$work/long.json" <<'P'
import json, sys
a, b = [json.load(open(p))["cost"]["memory_bytes"] for p in sys.argv[1:]]
assert a == b > 0
P

echo "== score: every token once, equal to eval"
scored=$document
mkdir "$work/single"
cp "$scored" "$work/single/"
"$fwl" tokenize "$work/single" --tokenizer byte --out "$work/single-data" >/dev/null 2>&1
"$fwl" eval "$work/run" --device cpu --data "$work/single-data/train" --modes slow,fast,carried --json "$work/eval.json" >/dev/null 2>&1
"$fwl" score "$work/run" "$scored" --device cpu --html "$work/page.html" >"$work/score.json" 2>/dev/null
"$fwl" score "$work/run" - --device cpu --carry --json "$work/carry.json" <"$scored" >"$work/nothing" 2>/dev/null
[[ ! -s $work/nothing ]] || fail "--json prints to standard output as well"
CHECK="score" check "$scored" "$work/eval.json" "$work/score.json" "$work/carry.json" "$work/page.html" <<'P'
import html.parser, json, re, sys
text = open(sys.argv[1], "rb").read()
modes = json.load(open(sys.argv[2]))["modes"]
score, carry = [json.load(open(p)) for p in sys.argv[3:5]]
def joined(tokens):
    return b"".join(t["text"].encode() if "text" in t else bytes.fromhex(t["bytes"]) for t in tokens)
for s, slow, fast in ((score, modes["slow"], modes["fast"]), (carry, None, modes["carried"])):
    assert joined(s["tokens"]) == text and s["totals"]["tokens"] == len(s["tokens"]) and s["totals"]["bytes"] == len(text)
    for name, mode in (("slow", slow), ("fast", fast)):
        assert all(t[name] <= 0 for t in s["tokens"])
        total = -sum(t[name] for t in s["tokens"]) / len(s["tokens"])
        assert abs(total - s["totals"][name]["nats_per_token"]) < 1e-9 * total
        if mode: assert abs(total - mode["nats_per_token"]) < 1e-5 * total, (name, total, mode["nats_per_token"])
assert carry["carry"] and not score["carry"]
assert carry["totals"]["fast"]["nats_per_token"] != score["totals"]["fast"]["nats_per_token"]
page = open(sys.argv[5]).read()
assert not re.search(r"(src|href)\s*=(?!\s*\"data:)|url\(|@import|<script", page), "the page fetches something"
assert "prefers-color-scheme: dark" in page
class Text(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(); self.depth = 0; self.shown = ""; self.titles = 0; self.in_mark = False
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == "div" and a.get("class") == "text": self.depth = 1
        elif self.depth and tag == "span": self.titles += "slow" in a["title"] and "gain" in a["title"]
        elif self.depth and tag == "i": self.in_mark = True
    def handle_endtag(self, tag):
        if tag == "i": self.in_mark = False
        if tag == "div" and self.depth: self.depth = 0
    def handle_data(self, data):
        if self.depth and not self.in_mark: self.shown += data
p = Text(); p.feed(page)
assert p.shown == text.decode(), "the page shows another text"
assert p.titles > 0.9 * len(text) and 'class="u' in page and 'class="d' in page
P
printf '<b>&amp; "x" \303\251\n' | "$fwl" score "$work/run" - --device cpu --html "$work/odd.html" >"$work/odd.json" 2>/dev/null
grep -q '&lt;</span>' "$work/odd.html" || fail "HTML is not escaped"
grep -q 'é</span>' "$work/odd.html" || fail "a character of two tokens is torn"
"$fwl" score "$work/control" "$scored" --device cpu --json "$work/control.json" 2>/dev/null
CHECK="score of a control" check "$work/control.json" <<'P'
import json, sys
s = json.load(open(sys.argv[1]))
assert s["totals"]["fast"] is None and s["tokens"][0]["fast"] is None and s["tokens"][0]["slow"] < 0
P
echo "ok: scores"

echo "== exit codes"
g=("$fwl" generate "$work/run" --device cpu --max-tokens 2)
expect_code 2 "unknown --adapt" "${g[@]}" --prompt a --adapt some
expect_code 2 "--top-p 0" "${g[@]}" --prompt a --top-p 0
expect_code 2 "--top-p above 1" "${g[@]}" --prompt a --top-p 1.5
expect_code 2 "negative --max-tokens" "$fwl" generate "$work/run" --prompt a --max-tokens -1
expect_code 2 "a temperature that is no number" "${g[@]}" --prompt a --temperature nan
expect_code 3 "results into a missing folder" "${g[@]}" --prompt a --json "$work/none/g.json"
mkfifo "$work/pipe"
expect_code 3 "results in place of a pipe" "${g[@]}" --prompt a --json "$work/pipe"
[[ -p $work/pipe ]] || fail "--json replaced a pipe"
expect_code 2 "generation on two ranks" mpirun --allow-run-as-root --oversubscribe -n 2 "${g[@]}" --prompt a
expect_code 2 "an empty stop string" "${g[@]}" --prompt a --stop ""
expect_code 2 "two prompts into one state" "${g[@]}" --prompt a --prompt b --state-out "$work/two.h5"
expect_code 2 "--adapt prompt of a control" "$fwl" generate "$work/control" --device cpu --prompt a --adapt prompt
expect_code 0 "a control by itself" "$fwl" generate "$work/control" --device cpu --prompt a --max-tokens 3
expect_code 2 "another model's state" "$fwl" generate "$work/other" --device cpu --prompt a --state-in "$work/part1.h5"
"${g[@]}" --prompt abc --adapt off --state-out "$work/off.h5" >/dev/null 2>&1
expect_code 2 "fast weights from a state without" "${g[@]}" --prompt a --state-in "$work/off.h5"
cp "$work/part1.h5" "$work/damaged.h5"
printf 'x' | dd of="$work/damaged.h5" bs=1 seek=$(($(stat -c %s "$work/damaged.h5") / 2)) conv=notrunc 2>/dev/null
expect_code 3 "a damaged state" "${g[@]}" --prompt a --state-in "$work/damaged.h5"
expect_code 3 "a missing state" "${g[@]}" --prompt a --state-in "$work/none.h5"
expect_code 3 "a state in a missing folder" "${g[@]}" --prompt a --state-out "$work/none/state.h5"
expect_code 3 "a missing prompt file" "${g[@]}" --prompt-file "$work/none"
expect_code 3 "a missing checkpoint" "$fwl" generate "$work/none" --prompt a
expect_code 3 "score of a missing file" "$fwl" score "$work/run" "$work/none" --device cpu
expect_code 3 "score of an empty file" "$fwl" score "$work/run" /dev/null --device cpu
expect_code 2 "a page of a control" "$fwl" score "$work/control" "$scored" --device cpu --html "$work/none.html"
expect_code 3 "a page in a missing folder" "$fwl" score "$work/run" "$scored" --device cpu --html "$work/none/page.html"
[[ -z $(find "$work" -name '*.tmp*' -o -name '*.body-*') ]] || fail "temporary files are left"
echo "all passed"
