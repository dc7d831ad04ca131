#!/usr/bin/env bash
# `fwl eval` as the complete comparison: all modes over the same tokens, the same numbers on 1, 2 and 3 ranks, sliding windows,
# intervals, words, FLOPs, tuning, a control as reference, and what it refuses. Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
cd "$work"
corpus text 13 --bytes 1400
"$fwl" tokenize text --tokenizer byte --out data --split valid=0.3,test=0.4 >/dev/null
# The layer's form of which twelve steps make a little use already.
plain=(--set model.fast_weight.step_size_init=0.25 --set model.fast_weight.key_norm=none --set model.fast_weight.write_gate=none)
train() { # RUN UPDATE ARGUMENTS...
  quietly "$fwl" train "$source/launch/configs/tiny.yaml" --set data.path=data --set run.dir="$1" --set train.device=cpu --set train.steps=12 \
    --set model.layers=1 --set model.width=32 --set model.heads=2 --set model.fast_weight.width=64 --set model.fast_weight.update="$2" "${plain[@]}" "${@:3}"
}
train fwl slow_gradient
train control none
train plain absent
eval_ranks() { # RANKS OUT ARGUMENTS...
  local ranks=$1 out=$2
  shift 2
  quietly mpirun --bind-to none --oversubscribe -n "$ranks" "$fwl" eval "$@" --device cpu --data data/test --json "$out.json"
  cp out "$out.txt"
}

echo "== every mode, the same numbers on 1, 2 and 3 ranks"
for ranks in 1 2 3; do
  eval_ranks $ranks "fwl$ranks" fwl --modes slow,slow-carried,fast,carried,dynamic,fast-dynamic,carried-dynamic --context 64 --stride 48 --batch 2 \
    --dynamic-segment 32 --dynamic-statistics 1 --dynamic-learning-rate 3e-4 --max-documents 4 --words
  eval_ranks $ranks "likely$ranks" fwl --modes slow,fast,carried --context 64 --batch 2 --max-documents 4 --inner-threshold 0.004 --inner-logits fp8
  eval_ranks $ranks "stream$ranks" fwl --modes slow,carried,dynamic --carry stream --dynamic-reset stream --dynamic-rule sgd --dynamic-learning-rate 0.1 --max-documents 5
done
! grep -qE "^note: .*(stream|ranks)" fwl1.txt || fail "a note about ranks on one rank"
grep -q "note: carried: one stream is read from begin to end, so one of 2 ranks reads it" stream2.txt || fail "no note of sequential modes"
grep -q "note: dynamic: one stream" stream3.txt || fail "no note of sequential modes"
eval_ranks 2 streams2 fwl --modes slow,carried --carry stream --streams 2 --max-documents 5
! grep -q "note: .*one stream" streams2.txt || fail "a note although every rank has a stream"
python3 - <<'P' || fail "figures"
import json, math
load = lambda name: json.load(open(name + ".json"))
exact = ["nats_per_token", "nats_per_token_interval", "perplexity", "perplexity_interval", "bits_per_byte", "bits_per_byte_interval",
         "tokens", "documents", "bytes", "words", "word_perplexity", "flops", "relative_flops", "difference_to_static", "settings", "breakdowns", "inner"]
for name in ("fwl", "stream", "likely"):
    one = load(name + "1")
    for ranks in (2, 3):
        many = load(name + str(ranks))
        assert many["ranks"] == ranks
        for mode, m in one["modes"].items():
            for key in exact:
                assert m.get(key) == many["modes"][mode].get(key), (name, ranks, mode, key, m.get(key), many["modes"][mode].get(key))
likely = load("likely1")["modes"]
assert "inner" not in likely["slow"] and "inner" not in load("fwl1")["modes"]["fast"]
for name in ("fast", "carried"):
    inner = likely[name]["inner"]
    assert inner["threshold"] == 0.004 and 1 < inner["kept"] < 250 and 0 < inner["rest"] < 1, inner
    assert likely[name]["nats_per_token"] < likely["slow"]["nats_per_token"]
j = load("fwl1")
assert j["static"] == "slow" and j["context"] == 64 and j["stride"] == 48 and j["intervals"]["resamples"] == 2000
modes = j["modes"]
assert list(sorted(modes)) == sorted("slow slow-carried fast carried dynamic fast-dynamic carried-dynamic".split())
slow = modes["slow"]
continued = modes["slow-carried"]
assert continued["nats_per_token"] != slow["nats_per_token"] and continued["relative_flops"] < 1  # nothing is read twice
for name, m in modes.items():
    assert m["tokens"] == slow["tokens"] and m["words"] == slow["words"] > 0
    low, high = m["nats_per_token_interval"]
    assert low < m["nats_per_token"] < high
    assert abs(m["perplexity"] - math.exp(m["nats_per_token"])) < 1e-9 * m["perplexity"]
    assert abs(math.log(m["word_perplexity"]) * m["words"] - m["nats_per_token"] * m["tokens"]) < 1e-6 * m["tokens"]
    assert m["bytes"] == m["tokens"]  # the byte tokenizer
    assert abs(m["bits_per_byte"] - m["nats_per_token"] / math.log(2)) < 1e-9
    d = m["difference_to_static"]
    assert abs(d["nats_per_token"] - (m["nats_per_token"] - slow["nats_per_token"])) < 1e-9
    assert d["nats_per_token_interval"][0] <= d["nats_per_token"] + 1e-12 and d["nats_per_token"] <= d["nats_per_token_interval"][1] + 1e-12
    for name in ("position", "train_frequency", "occurrence", "document_length"):
        bins = m["breakdowns"][name]
        assert sum(b["tokens"] for b in bins) == m["tokens"] and abs(sum(b["nats"] for b in bins) / m["tokens"] - m["nats_per_token"]) < 1e-6
    assert m["relative_time"] > 0 and m["tokens_per_s"] > 0 and m["peak_memory_bytes"] > 0
assert slow["relative_flops"] == 1 and slow["difference_to_static"]["nats_per_token"] == 0
assert 1 < modes["fast"]["relative_flops"] < 4 and 2.5 < modes["dynamic"]["relative_flops"] < 3.2
assert modes["dynamic"]["settings"]["rule"] == "rms" == j["dynamic"]["rule"]
a, b = load("streams2")["modes"], load("stream1")["modes"]
assert a["slow"]["nats_per_token"] == b["slow"]["nats_per_token"] and a["carried"]["nats_per_token"] != b["carried"]["nats_per_token"]
P

echo "== fast weights that are carried for so many tokens: full attention, a list, 1, 2 and 3 ranks"
train full slow_gradient --set model.window=0
for ranks in 1 2 3; do
  eval_ranks $ranks "carry$ranks" full --modes slow,fast,carried,carried-dynamic --carry 64,256,stream:256,document,stream --context 64 --batch 2 \
    --dynamic-rule sgd --dynamic-learning-rate 0.1 --dynamic-segment 64 --max-documents 3
done
grep -q "note: carried-stream: one stream is read from begin to end" carry2.txt || fail "no note of the stream"
! grep -q "note: carried-stream-256" carry2.txt || fail "a note although every rank reads pieces of the stream"
grep -q "^carried-dynamic-stream-256 " carry1.txt || fail "the table lacks a mode"
python3 - <<'P' || fail "carried for so many tokens"
import json
one, *many = (json.load(open(f"carry{ranks}.json")) for ranks in (1, 2, 3))
m = one["modes"]
suffixes = ("-64", "-256", "-stream-256", "", "-stream")
assert set(m) == {"slow", "fast"} | {mode + s for mode in ("carried", "carried-dynamic") for s in suffixes}, list(m)
assert one["carry"] == "64,256,stream:256,document,stream" and m["carried-stream-256"]["settings"]["carry"] == "stream:256"
for other in many:
    for mode in m:
        for key in ("nats_per_token", "nats_per_token_interval", "tokens", "flops", "breakdowns"):
            assert m[mode][key] == other["modes"][mode][key], (mode, key)
assert len({v["tokens"] for v in m.values()}) == 1
assert m["carried-64"]["nats_per_token"] == m["fast"]["nats_per_token"], "one window is what fast carries"
assert len({v["nats_per_token"] for k, v in m.items() if k != "fast"}) == len(m) - 1, "every length is another result"
P

echo "== a control as the reference, tuned modes"
eval_ranks 1 against fwl --modes slow,fast --static control --max-documents 4
eval_ranks 2 control control --modes slow,fast-untrained,dynamic --tune data/valid --tune-documents 1 --dynamic-segment 256 --dynamic-statistics 1 --max-documents 4
python3 - <<'P' || fail "comparison with a control"
import json
a, c = json.load(open("against.json")), json.load(open("control.json"))
assert a["static"] == "static" and a["modes"]["static"]["nats_per_token"] == c["modes"]["slow"]["nats_per_token"]
d = a["modes"]["fast"]["difference_to_static"]["nats_per_token"]
assert abs(d - (a["modes"]["fast"]["nats_per_token"] - c["modes"]["slow"]["nats_per_token"])) < 1e-9
untrained, dynamic = c["modes"]["fast-untrained"]["settings"], c["modes"]["dynamic"]["settings"]
for settings, key in ((untrained, "step_size"), (dynamic, "learning_rate")):
    assert settings["tuned"]
    best = min(settings["trials"], key=lambda t: t["nats_per_token"] if t["nats_per_token"] is not None else 1e9)
    assert best[key] == settings[key], (settings, best)
assert {t["rule"] for t in dynamic["trials"]} == {"sgd", "rms"} and {t["decay"] for t in dynamic["trials"]} >= {0, 1e-4, 1e-3, 1e-2}
assert dynamic["tuned"] and c["modes"]["dynamic"]["difference_to_static"]["nats_per_token"] < 0
P

echo "== an ordinary transformer, without the layer"
eval_ranks 1 plain plain --dynamic-statistics 1 --max-documents 2
eval_ranks 1 beside control --modes slow --static plain --max-documents 2
python3 - <<'P' || fail "ordinary transformer"
import json
plain, beside = json.load(open("plain.json"))["modes"], json.load(open("beside.json"))["modes"]
assert set(plain) == {"slow", "dynamic"}, list(plain)
assert beside["static"]["nats_per_token"] == plain["slow"]["nats_per_token"] and plain["slow"]["flops"] < beside["slow"]["flops"]
P

echo "== refusals"
refused 2 "--stride 65 is above --context 64" "$fwl" eval fwl --data data/test --context 64 --stride 65
refused 2 "--carry 100 is no multiple of the context of 64 tokens" "$fwl" eval fwl --data data/test --context 64 --modes carried --carry 64,100
refused 2 "--carry '64k' says nothing about how far" "$fwl" eval fwl --data data/test --modes carried --carry 64k
refused 2 "--carry names 64 twice" "$fwl" eval fwl --data data/test --modes carried --carry 64,64
refused 2 "mode 'quick' does not exist" "$fwl" eval fwl --data data/test --modes slow,quick
refused 2 "--modes names slow twice" "$fwl" eval fwl --data data/test --modes slow,slow
refused 2 "the list is empty" "$fwl" eval fwl --data data/test --modes ""
refused 2 "ends with a comma" "$fwl" eval fwl --data data/test --modes slow,
refused 3 "does not exist (nothing could be written there)" "$fwl" eval fwl --data data/test --modes slow --json none/x.json
refused 2 "is no whole number from 1 up" "$fwl" eval fwl --data data/test --modes slow --streams 0
refused 2 "is no number from 0 to 1" "$fwl" eval fwl --data data/test --modes fast --inner-threshold 1
refused 2 "--inner-threshold with --modes fast-dynamic: its gradient goes through the layer" "$fwl" eval fwl --data data/test --modes fast-dynamic --inner-threshold 0.001
refused 2 "--inner-logits fp8 with --modes fast-dynamic: its gradient goes through the layer" "$fwl" eval fwl --data data/test --modes fast-dynamic --inner-logits fp8
refused 2 "fp4 not in {exact,fp8}" "$fwl" eval fwl --data data/test --modes fast --inner-logits fp4
refused 2 "attends to whole windows" "$fwl" eval full --data data/test --modes slow-carried
refused 2 "this model has no fast weights" "$fwl" eval control --data data/test --modes carried
refused 2 "this model was trained with fast weights" "$fwl" eval fwl --data data/test --modes fast-untrained
refused 2 "no layer that could be fast" "$fwl" eval plain --data data/test --modes fast-untrained

echo "== fwl bench eval: random weights and tokens, or a run's and a split's"
bench() { quietly "$fwl" bench eval fwl/config.yaml --set train.device=cpu --steps 1 --warmup 1 --repetitions 1 --json "$@"; }
bench random.json
bench trained.json --weights fwl --data data/test
bench likely.json --weights fwl --data data/test --inner-threshold 0.01 --inner-logits fp8
python3 - <<'P' || fail "bench eval"
import json
random, trained, likely = (json.load(open(n + ".json")) for n in ("random", "trained", "likely"))
assert trained["loss"] < random["loss"] - 0.5, (trained["loss"], random["loss"])
assert likely["loss"] == trained["loss"]
for result in (random, trained, likely):
    assert list(result["modes"]) == ["dynamic", "fast", "slow"] and all(m["tokens_per_s"]["median"] > 0 for m in result["modes"].values()), result
P
refused 3 "none" "$fwl" bench eval fwl/config.yaml --weights none
refused 2 "they have no embedding" "$fwl" bench eval fwl/config.yaml --set model.vocab_size=100 --data data/test

mv data/valid data/gone
refused 2 "searches its step size on a validation split" "$fwl" eval control --data data/test --modes fast-untrained
echo "== a profile"
FWL_PROFILE=trace.json quietly "$fwl" eval fwl --device cpu --data data/test --modes slow,fast --max-documents 1
python3 -c 'import json; assert any(e["name"] == "aten::linear" for e in json.load(open("trace.json"))["traceEvents"])' || fail "no trace of an evaluation"

echo "all passed"
