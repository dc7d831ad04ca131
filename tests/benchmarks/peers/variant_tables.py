#!/usr/bin/env python3
"""RESULTS.md from results/*.json: every table of the study of variants (variant_study.py) from its figures
alone.

    tests/benchmarks/peers/variant_tables.py [--check]      --check: ends with 1 where RESULTS.md is another

A file of results holds `about` (title, text, recipe, machine, date, commit, commands, caveats, descriptions
of the variants) and `runs`, what variant_study.py wrote of each variant; a run that the clock ended has
`unfinished` and its training losses alone. The first run is the control, the run `fwl` is the layer that
the others are compared with.
"""

import json
import math
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from results import narrow  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
MODES = ("static", "slow-carried", "fast", "carried-2048", "carried-8192", "carried-32768", "carried")
HEADS = ("static (slow)", "attention on", "fast", "carried 2,048", "8,192", "32,768", "document")

LEGEND = """`static`: windows of 2,048 from nothing, without fast weights. `attention on`: whole documents,
windows of attention (and a body's state) going on. `fast`: fast weights within windows of 2,048.
`carried N`: fast weights go on over N tokens, with the attention. By book: mean difference over
documents, each counting alike, and its standard error."""


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def nats(run, mode):
    return run["evaluation"][mode]["nats_per_token"] if mode in run["evaluation"] else None


def best(run):
    """The mode in which a model is used: all that it remembers goes on."""
    return next(mode for mode in ("carried", "slow-carried", "static") if mode in run["evaluation"])


def percent(value, of):
    return f"{100 * (value / of - 1):+.1f} %"


def over_books(run, other):
    """Difference of the nats in their best modes: mean and standard error over documents, each counting
    alike."""
    pairs = zip(*(r["evaluation"][best(r)]["by_document"] for r in (run, other)))
    differences = [a - b for a, b in pairs]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{statistics.mean(differences):+.4f} ± {error:.4f}"


def quality(runs, control, layer):
    rows = []
    for r in runs:
        cells = [f"{x:.4f}" if (x := nats(r, mode)) else "" for mode in MODES]
        carried = nats(r, best(r))
        rows.append(
            [
                r["variant"],
                *cells,
                percent(carried, nats(control, "static")),
                percent(nats(r, "static"), nats(control, "static")),
                "" if r is layer else over_books(r, layer),
            ]
        )
    return table(
        ["", *HEADS, "all carried, to the static control", "slow pass to it", "to fwl, by book"], rows
    )


def training(runs, control):
    steps = sorted(
        {step for r in runs if r.get("unfinished") for step, _ in r["loss_curve"]} - {25}
        | {step for step, _ in control["loss_curve"][-1:]}
    )
    rows = []
    for r in runs:
        losses, speed = dict(r["loss_curve"]), r.get("training_tokens_per_s")
        cells = [f"{losses[s]:.4f}" if s in losses else "ended" for s in steps]
        relative = f"{control['training_tokens_per_s'] / speed:.2f}" if speed else ""
        rows.append([r["variant"], *cells, f"{speed:,}" if speed else "", relative])
    return table(
        ["training loss behind step", *(f"{s:,}" for s in steps), "tokens/s", "time, to the control"], rows
    )


def places(runs):
    starts = list(runs[0]["evaluation"]["static"]["by_place"])
    rows = [
        [r["variant"], best(r), *(f"{r['evaluation'][best(r)]['by_place'][s]:.4f}" for s in starts)]
        for r in runs
    ]
    return table(["", "mode", *(f"from {int(s):,}" for s in starts)], rows)


def memory(runs):
    rows = []
    for r in runs:
        p = r["planted"]
        gain = (
            percent(nats(r, "carried-32768"), nats(r, "carried-8192"))
            if "carried-8192" in r["evaluation"]
            else ""
        )
        decays = ", ".join(f"{x:.5f}" for x in r["state"]["decays"]) if r["state"] else ""
        step = r["state"]["step_size_times_width"] if r["state"] else ""
        rows.append([r["variant"], p["fresh"], p["again"], p["drop"], gain, decays, step])
    return table(
        ["", "passage, first time", "again", "drop", "8,192 -> 32,768 tokens", "decays", "step size x width"],
        rows,
    )


def report(found):
    about, runs = found["about"], found["runs"]
    done = [r for r in runs if not r.get("unfinished")]
    by_name = {r["variant"]: r for r in done}
    where = f"{about['date']}, {about['machine']}; scripts of commit {about['commit']}"
    names = [[r["variant"], about["descriptions"][r["variant"]], f"{r['parameters']:,}"] for r in runs]
    parts = [
        f"## {about['title']}",
        f"Text: {about['text']}.",
        f"Recipe: {about['recipe']}.",
        f"{where}; {about['device_seconds']:,} s of device time. Nats per token of held-out text.",
        "```\n" + "\n".join(about["commands"]) + "\n```",
        table(["variant", "what it is", "parameters"], names),
        "### Quality\n" + quality(done, runs[0], by_name["fwl"]),
        LEGEND,
        "### Training\n" + training(runs, runs[0]),
        "### Loss by place in the document\n" + places(done),
        "### Memory\n" + memory(done),
        "### What it says\n" + "\n".join(f"- {x}" for x in about["findings"]),
        "### Caveats\n" + "\n".join(f"- {x}" for x in about["caveats"]),
    ]
    return "\n\n".join(parts)


def main():
    files = sorted((HERE / "results").glob("*.json"))
    head = (
        "# Variants and rivals: results\nMade by `variant_tables.py` from `results/*.json`; not to be edited."
    )
    text = narrow("\n\n".join([head, *(report(json.loads(f.read_text())) for f in files)]) + "\n")
    if sys.argv[1:] == ["--check"]:
        sys.exit((HERE / "RESULTS.md").read_text() != text)
    (HERE / "RESULTS.md").write_text(text)


if __name__ == "__main__":
    main()
