#!/usr/bin/env bash
# What is measured, and of what: tokenizers, splits, weights and results that are not finite, learned positions, imports, reports.
# Tables of what users of such systems have reported. Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
cd "$work"
# JSON is strict: no NaN, no Infinity.
check() { python3 -c "
import json, math, sys
def load(path): return json.load(open(path), parse_constant=lambda word: sys.exit('no JSON: ' + word))
$1" || fail "$2"; }
hash_of() { python3 -c "import json, sys; print(json.load(open(sys.argv[1] + '/manifest.json'))['tokenizer']['hash'])" "$1"; }

corpus text 24 --bytes 1000
mkdir en
for f in text/*; do sed 's/e/x/g; s/return/zuruck/g' "$f" >"en/$(basename "$f")"; done
quietly "$fwl" tokenize text --tokenizer byte --out data --split valid=0.3,test=0.3
for x in a b; do
  [[ $x == a ]] && t=text || t=en
  quietly "$fwl" tokenizer train $t --vocab-size 360 --out $x.model
  quietly "$fwl" tokenize $t --tokenizer $x.model --out d$x --split valid=0.3,test=0.3
done
small=(--set model.layers=1 --set model.width=16 --set model.heads=2 --set model.context=64 --set train.device=cpu --set train.global_batch=2)
train() { quietly "$fwl" train "$source/launch/configs/tiny.yaml" "${small[@]}" --set data.path="$1" --set run.dir="runs/$2" "${@:3}"; }
train data a --set train.steps=6
train data control --set train.steps=6 --set model.fast_weight.update=none
train da ra --set train.steps=2
e() { local run=$1; shift; "$fwl" eval "runs/$run" --device cpu --max-documents 2 "$@"; }

echo "== another tokenizer's text (R1)"
for form in "--data db/test --modes slow" "--data data/test --modes slow" "--data da/test --modes slow,dynamic --train-data db/train" \
  "--data da/test --modes slow,dynamic --tune db/valid" "--data da/test --modes slow --static runs/a"; do
  # shellcheck disable=SC2086
  ends 3 "sentencepiece $(hash_of da)" e ra $form --json r1.json
  grep -qE "sentencepiece $(hash_of db)|byte $(hash_of data)" out || fail "$form: the other tokenizer is not named"
  [[ ! -e r1.json ]] || fail "$form: something was evaluated"
done
bench=("$fwl" bench eval runs/ra/config.yaml --set train.device=cpu --steps 1 --warmup 1 --repetitions 2)
ends 3 "sentencepiece $(hash_of db)" "${bench[@]}" --weights runs/ra --data db/test
ends 0 "tokens/s" "${bench[@]}" --data db/test # random weights have no tokenizer
HOME=$work ends 0 "tokens/s" "${bench[@]}" --data '~/da/test' --json bench.json
says "FLOPs" "the work of bench eval's modes"
check '
j = load("bench.json")
assert j["finite"] and isinstance(j["speed_is_reliable"], bool)
for name, m in j["modes"].items():
    assert m["flops_per_token"] > 0 and m["time_is_disturbed"] == (m["relative_time"] + (m["relative_time_spread"] or 0) < 0.9 * m["relative_flops"]), (name, m)
assert j["modes"]["slow"]["relative_flops"] == 1 and j["modes"]["fast"]["relative_flops"] > 1 and abs(j["modes"]["dynamic"]["relative_flops"] - 3) < 1e-6
' "FLOPs of bench eval"

echo "== a whole data set is no split; links, dots and slashes (R8, R31)"
ln -s data linked
ln -s data/test lt
for whole in data data/ ./data data/. data/test/.. linked "$PWD/data//"; do
  ends 2 "is a whole data set" e a --data "$whole" --modes slow
  grep -qF "/test (" out || fail "$whole: its splits are not listed"
done
ends 2 "--train-data 'data' is a whole data set" e a --data data/test --modes slow --train-data data
ends 2 "--tune 'data/' is a whole data set" e a --data data/test --modes slow --tune data/
ends 2 "--data 'da' is a whole data set" "${bench[@]}" --data da
for split in lt lt/ data/test/ ./data/../data/test linked/test; do ends 0 "slow" e a --data "$split" --modes slow --json split.json; done
check 'assert load("split.json")["split"] == "test"' "a link's split"

echo "== text that was seen or tuned on is said (S16, S20)"
cp -r data copied
for split in data/train linked/train copied/train; do ends 0 "is text that this run was trained on" e a --data $split --modes slow --json seen.json; done
check 'assert any("trained on" in n for n in load("seen.json")["notices"])' "a notice in the JSON"
ends 0 "is text that this run was trained on" e a --data data/test --tune data/train --tune-documents 1 --modes slow
for tune in data/test lt copied/test; do ends 0 "what is tuned on the split that is scored" e a --data data/test --tune $tune --tune-documents 1 --modes slow; done
ends 0 "are the same text" e a --data data/test --train-data copied/test --modes slow
ends 0 "was tuned on is --data itself" e a --data data/valid --modes slow,dynamic --dynamic-statistics 1
ends 0 "slow" e a --data data/test --modes slow
! grep -q "note:" out || fail "a note without a reason"

echo "== what is missing is said before anything is computed (R8, newcomer 6)"
quietly "$fwl" tokenize text --tokenizer byte --out held --split test=1
ends 2 "--train-data DIR/SPLIT" e a --data held/test --modes slow,dynamic --json none.json
ends 2 "--dynamic-learning-rate" e a --data held/test --modes slow,dynamic --dynamic-rule sgd --json none.json
ends 0 "note: dynamic is left out: " e a --data held/test
ends 3 "--data $PWD/held/train holds no token to predict" e a --data held/train --modes slow
grep -qF "held/test (" out || fail "the split that holds text is not named"
ends 3 "--train-data $PWD/held/train holds no token" e a --data data/test --train-data held/train --modes slow,dynamic --json none.json
[[ ! -e none.json ]] || fail "something was evaluated"
# --tune searches the rule too: without training text sgd alone, and that is said.
ends 0 "the rms rule is left out of the search" e a --data held/test --modes slow,dynamic --tune data/valid --tune-documents 1 --json sgd.json
check 'assert {t["rule"] for t in load("sgd.json")["modes"]["dynamic"]["settings"]["trials"]} == {"sgd"}' "a search without training text"
ends 2 "--train-data DIR/SPLIT" e a --data held/test --modes slow,dynamic --tune data/valid --dynamic-rule rms

echo "== options without effect are said"
while IFS='|' read -r option modes options; do
  # shellcheck disable=SC2086
  ends 0 "$option has no effect" e a --data data/test --modes $modes $options --json idle.json
  option=$option check 'import os; assert any(n.startswith(os.environ["option"] + " has no effect") for n in load("idle.json")["notices"])' "$option in the JSON"
done <<'TABLE'
--dynamic-decay|slow|--dynamic-decay 0.1
--dynamic-rule|slow,fast|--dynamic-rule sgd
--dynamic-statistics|slow,dynamic|--dynamic-rule sgd --dynamic-learning-rate 0.01 --dynamic-statistics 2
--train-data|slow|--train-data data/train --count-tokens 0
--tune|slow|--tune data/valid
--tune-documents|slow,dynamic|--dynamic-rule sgd --dynamic-learning-rate 0.01 --tune-documents 2
--untrained-step-size|slow|--untrained-step-size 0.1
--carry|slow,fast|--carry stream
--streams|slow|--streams 2
--inner-threshold|slow|--inner-threshold 0.01
TABLE
ends 0 "--spread has no effect" "$fwl" eval runs/a --device cpu --data data/test --modes slow --spread
ends 0 "mode" e a --data data/test --modes slow,carried --carry stream --streams 2 --spread
not_said "no effect" "options that have one"
while IFS='|' read -r text options; do
  # shellcheck disable=SC2086
  ends 0 "$text" "$fwl" generate runs/a --device cpu --prompt a --max-tokens $options
done <<'TABLE'
--top-k has no effect|2 --temperature 0 --top-k 3
--seed has no effect|2 --temperature 0 --seed 3
all texts of a prompt are the same|2 --temperature 0 --samples 2
--stop has no effect|0 --stop b
TABLE

echo "== the rate is chosen on the validation split; times in turns, with their spread"
ends 0 "±" e a --data data/test --static runs/control --modes slow,fast,dynamic --dynamic-statistics 1 --json turns.json
check '
j = load("turns.json")
m, d = j["modes"], j["modes"]["dynamic"]["settings"]
assert d["tuned"] and d["tuned_on"].endswith("data/valid") and 3 <= len(d["trials"]) <= 10, d
assert d["learning_rate"] == min(d["trials"], key=lambda t: t["nats_per_token"] or math.inf)["learning_rate"]
for name in ("slow", "fast", "dynamic"):
    assert m[name]["relative_time"] > 0 and m[name]["relative_time_spread"] >= 0 and m[name]["finite"] is True, m[name]
assert m["static"]["relative_time"] == 1 and m["static"]["relative_time_spread"] is None
assert isinstance(j["speed_is_reliable"], bool) and j["tokenizer"]["kind"] == "byte" and j["split"] == "test"
' "rates and times"

echo "== a rate that diverges; weights that are not finite (kind 3)"
ends 5 "dynamic: its loss is not finite" e a --data data/test --modes slow,dynamic --dynamic-rule sgd --dynamic-learning-rate 1e30 --json diverged.json
check '
j = load("diverged.json")
slow, dynamic = j["modes"]["slow"], j["modes"]["dynamic"]
assert j["finite"] is False and "dynamic" in j["failures"][0] and slow["finite"] and slow["nats_per_token"] > 0
assert dynamic["finite"] is False and dynamic["nats_per_token"] is None and dynamic["perplexity"] is None
' "the JSON of a rate that diverges"
quietly "$fwl" export runs/a --out exported
cp -r runs/a runs/nan
step=$(echo runs/nan/checkpoints/step-*6)
python3 "$source/tests/support/break_weights.py" "$step" exported/model.safetensors embedding || fail "break_weights.py"
bad="tensor 'embedding'"
ends 5 "$bad" e nan --data data/test --json nan.json
ends 5 "$bad" e a --static runs/nan --data data/test --modes slow
ends 5 "$bad" "$fwl" score runs/nan text/0000.txt --device cpu --json score.json
ends 5 "$bad" "$fwl" generate runs/nan --device cpu --prompt a --max-tokens 2 --json generated.json
ends 5 "$bad" "$fwl" export runs/nan --out exported-nan
[[ ! -e exported-nan/model.safetensors ]] || fail "weights that are not finite were exported"
ends 5 "$bad" "$fwl" bench eval runs/nan/config.yaml --set train.device=cpu --weights runs/nan --steps 1 --warmup 1 --repetitions 1
check '
j = load("nan.json")
assert j["finite"] is False and "embedding" in j["failures"][0] and set(j["modes"]) == {"slow", "fast", "dynamic"}
assert all(m["nats_per_token"] is None and m["finite"] is False for m in j["modes"].values())
s, g = load("score.json"), load("generated.json")
assert s["totals"]["finite"] is False and s["totals"]["slow"] is None and s["nonfinite_tensors"] == ["embedding"]
assert g["finite"] is False and g["continuations"] == [] and g["nonfinite_tensors"] == ["embedding"]
' "the JSON of weights that are not finite"

echo "== states, speeds: what is not finite is no result"
quietly "$fwl" export runs/a --out exported --overwrite
cp -r runs/a runs/huge
python3 "$source/tests/support/break_weights.py" "$(echo runs/huge/checkpoints/step-*6)" exported/model.safetensors fast_weight.input_norm.scale 3e38 || fail "break_weights.py"
ends 5 "the state after reading is not finite" "$fwl" generate runs/huge --device cpu --prompt abcdef --max-tokens 0 --state-out huge.h5 --json huge.json
[[ ! -e huge.h5 ]] || fail "a state that is not finite was written"
check 'j = load("huge.json"); assert j["finite"] is False and j["nonfinite_state"] and j["continuations"] == []' "the JSON of a state that is not finite"
ends 5 "the static loss is not finite" "$fwl" bench eval runs/huge/config.yaml --set train.device=cpu --weights runs/huge --steps 1 --warmup 1 --repetitions 1 --json huge.json
check 'j = load("huge.json"); assert j["finite"] is False and j["loss"] is None and j["modes"]' "the JSON of bench eval"
ends 5 "the loss of the last step is not finite" "$fwl" bench train runs/a/config.yaml --set train.device=cpu --set train.learning_rate=1e30 --set train.warmup_steps=0 \
  --steps 2 --warmup 1 --repetitions 1 --json huge.json
check 'j = load("huge.json"); assert j["finite"] is False and j["loss"] is None and j["tokens_per_s"]["median"] > 0' "the JSON of bench train"

echo "== what does not fit is refused before the weights are read"
cp -r runs/control runs/empty-control
rm runs/empty-control/checkpoints/step-*/rank-*.h5
ends 2 "has no fast weights" "$fwl" generate runs/empty-control --device cpu --prompt a --adapt all
ends 3 "the text is empty" "$fwl" score runs/empty-control /dev/null --device cpu --json no.json
ends 2 "they do not fit" "$fwl" bench eval runs/a/config.yaml --set train.device=cpu --weights runs/empty-control --steps 1 --warmup 1 --repetitions 1
quietly "$fwl" generate runs/a --device cpu --prompt abc --adapt off --max-tokens 0 --state-out off.h5
cp -r runs/a runs/empty
rm runs/empty/checkpoints/step-*/rank-*.h5
ends 2 "holds no fast weights" "$fwl" generate runs/empty --device cpu --prompt a --state-in off.h5
[[ ! -e no.json ]] || fail "something was scored"

echo "== a user's words and files: long texts, names beside the results"
long=$(printf 'a%.0s' {1..300})
ends 0 "$long" "$fwl" generate runs/a --device cpu --prompt "$long" --max-tokens 1 --json long.json
ends 0 "slow" "$fwl" eval runs/a --device cpu --data data/test --modes slow --max-documents 1 --json long.json
for name in kept.json kept.html kept.h5; do for end in .tmp ".body-1" ".tmp-1"; do echo mine >"$name$end"; done; done
quietly "$fwl" score runs/a text/0000.txt --device cpu --json kept.json --html kept.html
quietly "$fwl" generate runs/a --device cpu --prompt a --max-tokens 0 --state-out kept.h5
for name in kept.json kept.html kept.h5; do
  for end in .tmp ".body-1" ".tmp-1"; do [[ $(cat "$name$end") == mine ]] || fail "$name$end was used or removed"; done
  [[ $(find . -maxdepth 1 -name "$name*" | wc -l) == 4 ]] || fail "$name: temporary files are left"
done

echo "== imports (R3, R18, R19, S24)"
tiny() { python3 "$source/tests/support/make_tiny_gpt2.py" "$@"; }
import() { "$fwl" import-gpt2 "$1" --out "runs/$1" "${@:2}"; }
tiny plain
ends 0 "imported 4301 parameters" import plain
grep -q "is not known to be the one" out || fail "no warning of a tokenizer that nothing proves"
for form in no-prefix head both shards; do
  tiny $form $form
  ends 0 "imported 4301 parameters" import $form
  for run in plain $form; do quietly "$fwl" export runs/$run --out "x-$run" --overwrite; done
  cmp x-plain/model.safetensors x-$form/model.safetensors || fail "$form: other weights"
done
refuses() { # CODE TEXT FORM...
  local code=$1 text=$2
  shift 2
  rm -rf bad
  tiny bad "$@"
  ends "$code" "$text" import bad
  [[ ! -e runs/bad ]] || fail "$*: a refused import left a folder"
}
refuses 3 "are two different matrices" two
refuses 3 "are two different matrices" two tie_word_embeddings=true
refuses 3 "has no tensor 'lm_head.weight'" plain tie_word_embeddings=false
refuses 3 "safe_serialization=True" bin
refuses 3 "does not exist" missing
refuses 3 "nothing outside of the folder is read" outside
refuses 3 "is no part of a GPT-2" extra
refuses 3 "'ln_f.bias' holds numbers that are not finite" nan
refuses 3 "'ln_f.bias' holds numbers that are not finite" inf
refuses 3 "quantization_config = " 'quantization_config={"bits": 4}'
refuses 3 "rope_scaling = " 'rope_scaling={"type": "linear"}'
refuses 3 "sliding_window = 8" sliding_window=8
refuses 3 "pruned_heads = " 'pruned_heads={"0": [1]}'
tiny odd 'rope_scaling=null' 'id2label={"0": "a"}' 'task_specific_params={"text-generation": {"max_length": 50}}' torch_dtype='"float16"'
ends 0 "imported" import odd
tiny two-untied two tie_word_embeddings=false
ends 0 "imported" import two-untied
for own in vocab.json merges.txt tokenizer.json; do
  rm -rf own
  tiny own
  echo '{}' >own/$own
  ends 2 "$own" import own
  ends 2 "nothing proves" import own --tokenizer byte
  ends 2 "nothing proves" import own --set data.path=data
done
ends 2 "some would have no embedding" import own --tokenizer a.model # 360 > 300
ends 0 "imported" import own --tokenizer byte --foreign-tokenizer
tiny proven vocab_size=360
cp a.model proven/tokenizer.model
ends 2 "nothing proves" import proven --tokenizer b.model
ends 0 "imported" import proven
grep -q "is not known" out && fail "the folder's own tokenizer is doubted"
ends 0 "tokenizer: sentencepiece" "$fwl" inspect runs/proven

echo "== the end of learned positions (R17)"
g=("$fwl" generate runs/plain --device cpu)
ends 0 "prompt 2" "${g[@]}" --prompt ab --prompt abcdefgh --max-tokens 30 --temperature 0 --json context.json
check '
one, two = load("context.json")["continuations"]
assert {one["ending"], two["ending"]} == {"context"}, (one["ending"], two["ending"])
assert len(one["tokens"]) == 16 - 3 + 1 and len(two["tokens"]) == 16 - 9 + 1  # the last is not read
' "texts that meet the end of the positions"
ends 0 "learned positions of this model end" "${g[@]}" --prompt abcdefghijklmno --max-tokens 3
cp -r runs/plain runs/no-weights
rm runs/no-weights/checkpoints/step-*/rank-*.h5
for prompt in abcdefghijklmnop abcdefghijklmnopqrstuvwxyz; do
  ends 2 "prompt 2 has ${#prompt} tokens" "$fwl" generate runs/no-weights --device cpu --prompt a --prompt $prompt --max-tokens 1 --json no.json
  grep -q "learned 16 positions" out || fail "the limit is not named"
done
quietly "${g[@]}" --prompt abcdefghij --state-out state.h5 --max-tokens 0
ends 2 "prompt 1 has 6 tokens" "${g[@]}" --state-in state.h5 --prompt abcdef
ends 0 "read 6 tokens" "${g[@]}" --state-in state.h5 --prompt abcde --max-tokens 9
printf 'abcdefghijklmnop' >sixteen.txt
ends 0 '"finite":true' "$fwl" score runs/plain sixteen.txt --device cpu --carry
printf 'q' >>sixteen.txt
ends 2 "the text has 17 tokens" "$fwl" score runs/no-weights sixteen.txt --device cpu --carry --json no.json
ends 2 "--context 17 is more than the 16 learned positions" "$fwl" score runs/no-weights sixteen.txt --context 17
ends 0 '"finite":true' "$fwl" score runs/plain sixteen.txt --device cpu
ends 2 "--context 17 is more than the 16 learned positions" "$fwl" eval runs/no-weights --data data/test --modes slow --context 17
ends 0 "imported" "$fwl" import-gpt2 plain --out runs/window --set model.window=8
ends 2 "learned positions of this model. Leave the mode out" "$fwl" eval runs/window --data data/test --modes slow,slow-carried --json no.json
mkdir short
for i in 1 2 3; do printf 'ten bytes%s' $i >short/$i.txt; done
quietly "$fwl" tokenize short --tokenizer byte --out shorts --valid text
ends 2 "which it is tuned on, of" "$fwl" eval runs/window --device cpu --data shorts/train --modes slow,carried-dynamic --dynamic-rule sgd --json no.json
[[ ! -e no.json ]] || fail "something was computed"

echo "== ends of ranges (S18), samples (R28), files that stay (S26)"
g=("$fwl" generate runs/a --device cpu --prompt a --max-tokens 3)
for t in 1e-320 5e-324 1e-45 1e308; do ends 0 "drew" "${g[@]}" --temperature $t; done
for t in inf nan -1 1e999; do ends 2 "--temperature: '$t' is no number from 0 up" "${g[@]}" --temperature $t; done
for p in nan 0 -0.1 1.5 inf; do ends 2 "--top-p: '$p' is no number above 0" "${g[@]}" --top-p $p; done
for k in -1 1.5 99999999999999999999; do ends 2 "--top-k: '$k' is no whole number" "${g[@]}" --top-k $k; done
ends 2 "is no number from 0 to 1" e a --data data/test --dynamic-decay nan
ends 2 "--samples: '0' is no whole number from 1 up" "${g[@]}" --samples 0
hot=("$fwl" generate runs/a --device cpu --prompt a --max-tokens 12 --temperature 2)
ends 0 "prompt 1, sample 3" "${hot[@]}" --samples 3 --json samples.json
ends 0 "drew" "${hot[@]}" --json alone.json
check '
texts = [c["text"] for c in load("samples.json")["continuations"]]
assert len(set(texts)) == 3 and texts[0] == load("alone.json")["continuations"][0]["text"], texts
' "samples"
cp runs/a/checkpoints/latest latest
for out in runs/a/checkpoints/latest runs/a/checkpoints/step-0000006/manifest.json; do
  ends 2 "is a file of a checkpoint" "${g[@]}" --state-out $out
done
cmp latest runs/a/checkpoints/latest || fail "--state-out replaced a file of a checkpoint"

echo "== reports: several tokenizers, figures that are not finite, speeds that are none, other files (S17, newcomer 14)"
quietly e a --data data/test --modes slow --json bytes.json
quietly e ra --data da/test --modes slow --json pieces.json
ends 0 "the rows are of several tokenizers" "$fwl" report bytes.json pieces.json --out r.html --json r.json
for word in "byte $(hash_of data)" "sentencepiece $(hash_of da)" "change of bits/byte"; do grep -qF "$word" out || fail "a report of two tokenizers lacks '$word'"; done
check '
one, two = load("r.json")["evaluation"]
assert abs(two["change_percent"] - 100 * (two["bits_per_byte"] / one["bits_per_byte"] - 1)) < 1e-9
' "the change of bits per byte"
says "time/byte" "the table's unit"
for word in "improvement of bits per byte" "time per byte"; do grep -qF "$word" r.html || fail "the page of two tokenizers lacks '$word'"; done
check '
one, two = load("r.json")["evaluation"]
bytes_of = lambda name: load(name)["modes"]["slow"]["bytes"]
speed = lambda row, name: row["tokens_per_s"] * bytes_of(name) / row["tokens"]
assert abs(two["time_to_baseline"] - speed(one, "bytes.json") / speed(two, "pieces.json")) < 1e-9
' "the time of a byte"
python3 -c "
import json
j = json.load(open('pieces.json'))
del j['modes']['slow']['bits_per_byte']
json.dump(j, open('tokens-alone.json', 'w'))"
ends 3 "whose losses per token do not compare" "$fwl" report bytes.json tokens-alone.json --out none.html
for word in "byte $(hash_of data)" "sentencepiece $(hash_of da)"; do says "$word" "a report of what does not compare"; done
[[ ! -e none.html ]] || fail "a page of what does not compare was written"
ends 0 "the runs are of several tokenizers" "$fwl" report runs/a runs/ra runs/control --json r.json
check 'assert [g["label"] for g in load("r.json")["gaps"]] == ["control"]' "gaps between runs of one tokenizer alone"
ends 0 "control, static" "$fwl" report FWL=turns.json
ends 0 "not finite" "$fwl" report diverged.json nan.json --out r.html --json r.json
check 'load("r.json")' "a report of losses that are not finite"
python3 - <<'P'
import json
def write(name, host="here", **modes): json.dump({"host": host, "device": "cpu", "ranks": 1, "modes": modes}, open(name, "w"))
def mode(nats, speed, time, flops=1.0, spread=0.01):
    return {"nats_per_token": nats, "tokens": 1000, "bits_per_byte": nats, "tokens_per_s": speed, "rank_seconds": 1000 / speed, "relative_time": time,
            "relative_time_spread": spread, "relative_flops": flops, "flops_per_token": 1e6 * flops}
write("quiet.json", slow=mode(3, 1000, 1), fast=mode(2.5, 600, 1.65, 1.6))
write("far.json", host="there", slow=mode(3, 5000, 1), fast=mode(2.5, 3000, 1.65, 1.6))
write("busy.json", slow=mode(3.1, 5000, 1), fast=mode(2.6, 12500, 0.4, 1.6))
P
ends 0 "1.65x ± 0.01" "$fwl" report quiet.json
! grep -q "speed not reliable" out || fail "a caution without a reason"
ends 0 "speed not reliable: quiet, slow and busy, slow do equal work" "$fwl" report quiet.json busy.json
grep -q "busy, fast .*!" out || fail "a time below its share of the FLOPs is not marked"
grep -q "in another process" out || fail "times of two processes are not told apart"
ends 0 "in another process" "$fwl" report quiet.json far.json # another machine's speed says nothing of this one
not_said "speed not reliable"
not_said " !"
cp quiet.json page.json
ends 2 "page.json" "$fwl" report page.json --out page.html
ends 2 "page.json" "$fwl" report page.json --json page.json
cmp quiet.json page.json || fail "a report replaced its input"
# Files beside the page are named after it: none of another's is replaced.
cp quiet.json other.json
echo 'mine,1' >table.evaluation.csv
cp data/manifest.json manifest
while IFS='|' read -r text page; do
  ends 2 "$text" "$fwl" report busy.json --out "$page"
  [[ ! -e $page ]] || fail "$page was written"
done <<'TABLE'
would replace 'other.json', which no report has written|other.html
would replace 'table.evaluation.csv', which no report has written|table.html
'data/manifest.json' is a file of a data set|data/manifest.html
'runs/a/checkpoints/step-0000006/x.html' is a file of a checkpoint|runs/a/checkpoints/step-0000006/x.html
must end with .html|other
must end with .html|other.json2
TABLE
cmp quiet.json other.json && cmp manifest data/manifest.json || fail "a report replaced another's file"
for _ in 1 2; do ends 0 "busy, slow" "$fwl" report busy.json --out again.html; done
HOME=$work ends 0 "x, slow" "$fwl" report 'x=~/busy.json'
quietly "${bench[@]}" --json bench.json
ends 3 "fwl bench eval" "$fwl" report bench.json
for text in '[]' '{}' '7' 'x' '{"modes": []}' '{"modes": {}}' '{"modes": {"slow": 3}}' '{"modes": {"slow": {"nats_per_token": "x", "tokens": 1}}}' \
  '{"tokens": []}' '{"modes": {"slow": {"nats_per_token": 1}}}'; do
  echo "$text" >odd.json
  ends 3 "odd.json" "$fwl" report odd.json
done
echo "all passed"
