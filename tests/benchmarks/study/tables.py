"""Tables of the study from its files alone (study.py): FOLDER/table.md to read, FOLDER/study.json with every figure behind it."""
import collections
import json
import math
import statistics

FIGURES = ("nats_per_token", "nats_per_token_interval", "bits_per_byte", "perplexity", "tokens", "documents", "tokens_per_s", "relative_time",
           "relative_flops", "peak_memory_bytes", "settings")
PLACES = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)  # of the training, where the gap is read


def log_of(folder):
    file = folder / "log.jsonl"
    lines = [json.loads(x) for x in file.read_text().splitlines() if x.startswith("{")] if file.exists() else []
    return [x for x in lines if "loss" in x]


def training_of(folder):
    log = log_of(folder)
    if not log:
        return {}
    speeds = sorted(x["tokens_per_s"] for x in log)
    return {"train_tokens": log[-1]["tokens"], "train_tokens_per_s": speeds[len(speeds) // 2], "train_peak_memory_bytes": log[-1].get("peak_memory_bytes"),
            "train_loss": log[-1]["loss"], "fast_to_slow": log[-1].get("fast_to_slow"), "decay": log[-1].get("decay"), "step_size": log[-1].get("step_size")}


def rows_of(out):
    for folder in sorted(p.parent for p in out.glob("*/run.json")):
        run = json.loads((folder / "run.json").read_text()) | training_of(folder)
        for file in sorted(folder.glob("eval-*.json")):
            for mode, found in json.loads(file.read_text())["modes"].items():
                yield run | {"evaluation": file.stem[len("eval-"):], "mode": mode} | {k: found.get(k) for k in FIGURES}


def gap(control, log, place):
    """Mean difference of the training loss in percent of the control's, over the eighth of the training that ends at `place`."""
    of_control = {x["step"]: x["loss"] for x in control}
    last = max(of_control)
    pairs = [(x["loss"], of_control[x["step"]]) for x in log if x["step"] in of_control and last * (place - 1 / 8) < x["step"] <= last * place]
    return 100 * (sum(a for a, _ in pairs) / sum(b for _, b in pairs) - 1) if pairs else None


def gaps_of(out):
    logs = {}
    for folder in out.glob("*/run.json"):
        run = json.loads(folder.read_text())
        logs[run["size"], run["attention"], run["seed"], run["variant"], run["state"]] = log_of(folder.parent)
    for (size, attention, seed, variant, state), log in sorted(logs.items()):
        control = logs.get((size, attention, seed, "control", "reset"))
        if control and log and (variant, state) != ("control", "reset"):
            yield {"size": size, "attention": attention, "seed": seed, "variant": variant, "state": state, "tokens": log[-1]["tokens"],
                   "percent": [gap(control, log, place) for place in PLACES]}


# ---- figures over seeds

def values(rows, key, **where):
    """By seed: what the only row of each seed says."""
    return {r["seed"]: r[key] for r in rows if r.get(key) is not None and all(r[k] == v for k, v in where.items())}


def shown(found, digits=4, unit=""):
    found = list(found)
    if not found:
        return ""
    spread = f" ± {statistics.stdev(found):.{digits}f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):,.{digits}f}{spread}{unit}"


def against(new, old):
    """Percent of the change, seed by seed."""
    return [100 * (new[s] / old[s] - 1) for s in sorted(new) if s in old]


def table(head, lines):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(line) + " |" for line in lines), ""]


def kinds_of(rows, *keys):
    return list(dict.fromkeys(tuple(r[k] for k in keys) for r in rows))


def millions(value):
    return f"{value / 1e6:,.{1 if value >= 1e6 else 3}f}" if value else ""


def order_of(mode):
    """Static first, then how far fast weights are carried, then what updates slow weights."""
    kinds = ["slow", "slow-carried", "fast", "fast-untrained", "carried", "dynamic", "fast-dynamic", "carried-dynamic"]
    kind = max((k for k in kinds if mode == k or mode.startswith(k + "-")), key=len)
    rest = mode[len(kind) + 1:].split("-") if mode != kind else []
    across, limit = "stream" in rest, next((int(x) for x in rest if x.isdigit()), math.inf)
    return kinds.index(kind), across, limit


def in_words(mode):
    kind, _, rest = mode.partition("carried")
    if mode == "slow-carried":
        return "slow, attention carried"
    if kind or rest.startswith("-dynamic"):
        return mode
    parts = [x for x in rest.split("-") if x]
    limit = next((f"{int(x):,}" for x in parts if x.isdigit()), None)
    if "stream" in parts:
        return f"carried {limit or 'on'} across documents"
    return f"carried {limit}" if limit else "carried, whole documents"


def headline(rows):
    """Nats per token of the test split: a line a model, a column a mode."""
    chosen = [r for r in rows if r["evaluation"] in ("main", "untrained")]
    modes = sorted({r["mode"] for r in chosen}, key=order_of)
    lines = []
    for size, attention, variant, state in kinds_of(chosen, "size", "attention", "variant", "state"):
        where = dict(size=size, attention=attention, variant=variant, state=state)
        seeds = {r["seed"] for r in chosen if all(r[k] == v for k, v in where.items())}
        lines.append([size, attention, variant, state, str(len(seeds)), *(shown(values(chosen, "nats_per_token", mode=mode, **where).values(), 3) for mode in modes)])
    return table(["size", "attention", "variant", "trained", "seeds", *map(in_words, modes)], lines)


def evaluation_table(rows, evaluation):
    chosen = sorted((r for r in rows if r["evaluation"] == evaluation), key=lambda r: (r["name"].rsplit("-", 1)[0], order_of(r["mode"])))
    lines = []
    for size, attention, variant, state, mode in kinds_of(chosen, "size", "attention", "variant", "state", "mode"):
        where = dict(size=size, attention=attention, variant=variant, state=state, mode=mode)
        pick = lambda key: values(chosen, key, **where)
        control = values(chosen, "nats_per_token", size=size, attention=attention, variant="control", state="reset", mode="slow")
        nats = pick("nats_per_token")
        lines.append([size, attention, variant, state, mode, str(len(nats)), shown(nats.values()),
                      "" if variant == "control" and mode == "slow" and state == "reset" else shown(against(nats, control), 2, " %"),
                      shown(pick("bits_per_byte").values()), shown(pick("perplexity").values(), 2), shown(pick("tokens_per_s").values(), 0),
                      shown(pick("relative_time").values(), 2), shown(pick("relative_flops").values(), 2), shown([v / 1e9 for v in pick("peak_memory_bytes").values()], 2)])
    return table(["size", "attention", "variant", "trained", "mode", "seeds", "nats/token", "to its control", "bits/byte", "perplexity", "tokens/s",
                  "time to static", "FLOPs to static", "memory, GB"], lines) if lines else []


def training_table(rows):
    lines = []
    for size, attention, variant, state in kinds_of(rows, "size", "attention", "variant", "state"):
        pick = lambda key: values(rows, key, size=size, attention=attention, variant=variant, state=state)
        lines.append([size, attention, variant, state, str(len(pick("train_tokens"))), millions(max(pick("train_tokens").values(), default=0)),
                      shown(pick("train_loss").values()), shown(pick("train_tokens_per_s").values(), 0),
                      shown([v / 1e9 for v in pick("train_peak_memory_bytes").values()], 2)])
    return table(["size", "attention", "variant", "trained", "seeds", "M tokens", "last training loss", "tokens/s", "memory, GB"], lines)


def gap_table(found):
    lines = []
    for size, attention, variant, state in kinds_of(found, "size", "attention", "variant", "state"):
        same = [g for g in found if (g["size"], g["attention"], g["variant"], g["state"]) == (size, attention, variant, state)]
        cells = [shown([g["percent"][i] for g in same if g["percent"][i] is not None], 2, " %") for i in range(len(PLACES))]
        lines.append([size, attention, variant, state, *cells])
    tokens = max(g["tokens"] for g in found)
    return table(["size", "attention", "variant", "trained", *(f"{millions(tokens * p)}M tokens" for p in PLACES)], lines)


def targets(rows):
    """The targets of the study, with what was found."""
    lines = []

    def add(what, target, found, digits=2, unit=" %"):
        lines.append([what, target, shown(found, digits, unit) or "not run"])

    for size in dict.fromkeys(r["size"] for r in rows):
        nats = lambda evaluation, attention, variant, mode, state="reset": values(
            rows, "nats_per_token", size=size, evaluation=evaluation, attention=attention, variant=variant, mode=mode, state=state)
        time = lambda evaluation, variant, mode: values(rows, "relative_time", size=size, evaluation=evaluation, attention="window", variant=variant, mode=mode, state="reset")
        for state in ("reset", "documents", "stream"):
            carried = nats("main", "window", "fwl", "carried", state)
            add(f"{size}: window, trained {state}, carried against its control", "-10 % or less", against(carried, nats("main", "window", "control", "slow")))
            add(f"{size}: the same against the control whose attention window is carried too", "reported", against(carried, nats("main", "window", "control", "slow-carried")))
            add(f"{size}: the same against the control with full attention", "below 0 %", against(carried, nats("main", "full", "control", "slow")))
            add(f"{size}: the same against full attention with windows that slide by half a context", "reported", against(carried, nats("strided", "full", "control", "slow")))
        add(f"{size}: full attention, carried against its control", "-2 % or less", against(nats("main", "full", "fwl", "carried"), nats("main", "full", "control", "slow")))
        for attention in ("window", "full"):
            control, dynamic = (nats("dynamic", attention, "control", mode) for mode in ("slow", "dynamic"))
            fwl = nats("dynamic", attention, "fwl", "carried")
            add(f"{size}: {attention}, gain over tuned dynamic evaluation's", "1.3 or more", [(control[s] - fwl[s]) / (control[s] - dynamic[s]) for s in fwl if s in dynamic and control[s] != dynamic[s]], unit="")
            add(f"{size}: {attention}, dynamic evaluation on top of carried fast weights", "reported", against(nats("dynamic", attention, "fwl", "carried-dynamic"), fwl))
        add(f"{size}: window, time of fast to static", "1.3 or less", time("main", "fwl", "fast").values(), unit="")
        add(f"{size}: window, time of carried to static", "1.3 or less", time("main", "fwl", "carried").values(), unit="")
        add(f"{size}: window, time of dynamic evaluation to static", "about 3", time("dynamic", "control", "dynamic").values(), unit="")
    return table(["target", "asked", "found"], lines)


def write(out):
    rows, gaps = list(rows_of(out)), list(gaps_of(out))
    curves = {f.parent.name: [(x["tokens"], x["loss"], x.get("loss_slow")) for x in log_of(f.parent)] for f in out.glob("*/run.json")}
    finite = lambda x: None if isinstance(x, float) and not math.isfinite(x) else x
    (out / "study.json").write_text(json.dumps({"rows": [{k: finite(v) for k, v in r.items()} for r in rows], "gaps": gaps, "curves": curves}, indent=1))
    text = ["# The study so far", "", "Mean ± standard deviation over seeds; differences are taken seed by seed. `trained`: fast weights reset at each sequence, or carried on streams.", ""]
    titles = collections.OrderedDict(
        main="Test split", strided="Windows that slide by half a context", other="Text of another domain", untrained="Fast weights switched on at test time only",
        dynamic="Dynamic evaluation, and what it is compared with on the same documents (rates tuned on the validation split)")
    if rows:
        text += ["## Targets", "", *targets(rows), "## Nats per token", "", *headline(rows)]
    for evaluation, title in titles.items():
        body = evaluation_table(rows, evaluation)
        text += [f"## {title}", "", *body] if body else []
    if rows:
        text += ["## Training", "", *training_table(rows)]
    if gaps:
        text += ["## The gap over training tokens", "",
                 "Training loss against the control's of the same seed and attention, over the eighth of the training that ends there (streams read the text in another order).",
                 "", *gap_table(gaps)]
    (out / "table.md").write_text("\n".join(text))
