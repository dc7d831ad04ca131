#!/usr/bin/env python3
"""The study of what the Fast Weight Layer is worth: trains and evaluates every variant, and makes the tables.

    tests/benchmarks/study/study.py --fwl build/bin/fwl --data DATA --out FOLDER [--size small] [--budget-s 600] [--only TEXT]
    tests/benchmarks/study/study.py --out FOLDER --table          (the tables alone, from what is there)

DATA is a data set with splits train, valid and test (launch/corpora/linux.sh makes the one that README uses). Each run is a folder
FOLDER/RUN with its log and its evaluations as JSON; what is there is not done again, and a run that was stopped goes on where it was, so
the study can be cut into as many calls as the machine allows (--budget-s ends it in time). FOLDER/table.md and FOLDER/study.json hold the
results so far. Standard library only.
"""
import argparse
import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import time

SIZES = {  # the body; steps and batch: `tokens` in all
    "tiny": {"model.layers": 2, "model.width": 64, "model.heads": 4, "model.context": 128, "tokens": 20_000, "batch": 8, "rate": 3e-3, "window": 32},
    "small": {"model.layers": 8, "model.width": 512, "model.heads": 8, "model.context": 2048, "tokens": 131_072_000, "batch": 16, "rate": 1e-3, "window": 512},
    "large": {"model.layers": 12, "model.width": 768, "model.heads": 12, "model.context": 2048, "tokens": 131_072_000, "batch": 16, "rate": 6e-4, "window": 512},
}
FAST = "model.fast_weight."
VARIANTS = {
    "control": {FAST + "update": "none"},
    "fwl": {},
    "published": {FAST + "residual": "false", FAST + "input_norm": "false", FAST + "fast_norm": "true", FAST + "fast_biases": "true",
                  FAST + "step_size": "scalar", FAST + "step_size_space": "linear", FAST + "step_size_init": 0.01, FAST + "decay_init": 1.0},
    "first-order": {FAST + "second_order": "false"},
    "no-decay": {FAST + "decay_init": 1.0},
    "second-layer": {FAST + "fast_layers": "second"},
}


class Run:
    def __init__(self, size, variant, attention, state, seed):
        self.size, self.variant, self.attention, self.state, self.seed = size, variant, attention, state, seed
        self.name = f"{size}-{variant}-{attention}-{state}-seed{seed}"

    def settings(self):
        size = SIZES[self.size]
        steps = max(10, size["tokens"] // (size["batch"] * size["model.context"]))
        values = {k: v for k, v in size.items() if k.startswith("model.")}
        values |= {"model.window": size["window"] if self.attention == "window" else 0, "model.norm": "layer", "train.steps": steps,
                   "train.global_batch": size["batch"], "train.learning_rate": size["rate"], "train.warmup_steps": min(100, steps // 5), "train.seed": self.seed,
                   "train.stream": "true" if self.state == "stream" else "false", "train.save_every": max(1, steps // 4), "checkpoints.keep": 1,
                   "train.log_every": max(1, steps // 60)}
        if VARIANTS[self.variant].get(FAST + "step_size_space") == "linear":
            # The published loss is divided by the tokens of the whole batch.
            values[FAST + "inner_loss_scale"] = 1.0 / (size["batch"] * size["model.context"])
        return values | VARIANTS[self.variant]


def runs_of(sizes):
    """The whole study, what decides first: the recipe against its controls, then its parts, then the seeds."""
    for size in sizes:
        seeds = (1, 2, 3) if size != "large" else (1,)
        for seed in seeds:
            for attention in ("window", "full"):
                for variant in ("control", "fwl"):
                    yield Run(size, variant, attention, "reset", seed)
            yield Run(size, "fwl", "window", "stream", seed)
        for seed, attention, state in itertools.product(seeds, ("window", "full"), ("reset", "stream")):
            for variant in VARIANTS:
                yield Run(size, variant, attention, state, seed)


def evaluations(run, device_batch):
    """Name and arguments of each `fwl eval` of a run. Windows longer than the training's carry the state that far."""
    context, fast = SIZES[run.size]["model.context"], run.variant != "control"
    common = ["--batch", str(device_batch)]
    yield "main", ["--modes", "slow,fast,carried" if fast else "slow", *common]
    if fast and run.attention == "window":
        for factor in (4, 16, 64):
            yield f"carried-{context * factor}", ["--modes", "fast", "--context", str(context * factor), "--batch", "1"]
    if run.seed == 1 and run.state == "reset":
        yield "dynamic", ["--modes", "slow,dynamic" + (",fast-dynamic" if fast else ",fast-untrained"), "--tune", "VALID", "--tune-documents", "20",
                          "--max-documents", "200", *common]


class Study:
    def __init__(self, a):
        self.a, self.out, self.started = a, pathlib.Path(a.out), time.monotonic()
        self.out.mkdir(parents=True, exist_ok=True)

    def left(self):
        return self.a.budget_s - (time.monotonic() - self.started)

    def call(self, arguments, log):
        """True when the command ended well; False when it had to stop in time (exit code 75)."""
        with open(log, "a") as f:
            code = subprocess.call([self.a.fwl, *map(str, arguments)], stdout=f, stderr=subprocess.STDOUT)
        if code not in (0, 75):
            sys.exit(f"error: {self.a.fwl} {' '.join(map(str, arguments))} ended with exit code {code}, see {log}")
        return code == 0

    def train(self, run, folder):
        if (folder / "trained").exists():
            return True
        settings = run.settings() | {"run.dir": folder, "data.path": self.a.data, "train.device": self.a.device, "train.dtype": self.a.dtype,
                                     "train.resume": "auto", "train.max_seconds": max(1, int(self.left()))}
        if not self.call(["train", self.a.config, *itertools.chain(*(("--set", f"{k}={v}") for k, v in settings.items()))], folder / "train.txt"):
            return False
        (folder / "trained").touch()
        return True

    def evaluate(self, run, folder):
        for name, arguments in evaluations(run, self.a.eval_batch):
            result = folder / f"eval-{name}.json"
            if result.exists():
                continue
            if self.left() < self.a.eval_reserve_s:
                return False
            arguments = [f"{self.a.data}/valid" if x == "VALID" else x for x in arguments]
            self.call(["eval", folder, "--data", f"{self.a.data}/test", "--device", self.a.device, *arguments, "--json", f"{result}.new"], folder / "eval.txt")
            shutil.move(f"{result}.new", result)
        return True

    def go(self):
        seen = set()
        for run in runs_of(self.a.size.split(",")):
            if run.name in seen or (self.a.only and self.a.only not in run.name):
                continue
            seen.add(run.name)
            if self.left() < self.a.eval_reserve_s:
                break
            folder = self.out / run.name
            folder.mkdir(exist_ok=True)
            (folder / "run.json").write_text(json.dumps(vars(run)))
            start = time.monotonic()
            done = self.train(run, folder) and self.evaluate(run, folder)
            print(f"{run.name}: {'done' if done else 'unfinished'} ({time.monotonic() - start:.0f} s)", flush=True)
            if not done:
                break
        self.table()

    def table(self):
        rows = []
        for folder in sorted(p.parent for p in self.out.glob("*/run.json")):
            lines = [json.loads(x) for x in (folder / "log.jsonl").read_text().splitlines() if x.startswith("{")] if (folder / "log.jsonl").exists() else []
            lines = [x for x in lines if "loss" in x]
            for result in sorted(folder.glob("eval-*.json")):
                evaluation = json.loads(result.read_text())
                modes = evaluation["modes"]
                for mode in modes if isinstance(modes, list) else [dict(v, mode=k) for k, v in modes.items()]:
                    rows.append(json.loads((folder / "run.json").read_text()) |
                                {"evaluation": result.stem[len("eval-"):], "train_tokens_per_s": sorted(x["tokens_per_s"] for x in lines)[len(lines) // 2] if lines else None} |
                                {k: v for k, v in mode.items() if k not in ("breakdowns",)})
        curves = {f.parent.name: [(x["tokens"], x["loss"], x.get("loss_slow")) for x in map(json.loads, filter(lambda t: t.startswith("{"), f.read_text().splitlines())) if "loss" in x]
                  for f in self.out.glob("*/log.jsonl")}
        (self.out / "study.json").write_text(json.dumps({"rows": rows, "curves": curves}, indent=1))
        figures = ("nats_per_token", "bits_per_byte", "perplexity", "tokens_per_s", "train_tokens_per_s", "peak_memory_bytes")
        text = ["| run | evaluation | mode | " + " | ".join(f.replace("_", " ") for f in figures) + " |", "|" + "---|" * (3 + len(figures))]
        for r in rows:
            cells = [f"{r[f]:,.4f}" if isinstance(r.get(f), float) and r[f] < 1e3 else f"{r[f]:,.0f}" if r.get(f) is not None else "" for f in figures]
            text.append(f"| {r['name']} | {r['evaluation']} | {r.get('mode', '')} | " + " | ".join(cells) + " |")
        (self.out / "table.md").write_text("\n".join(text) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = pathlib.Path(__file__).resolve().parents[3]
    p.add_argument("--fwl", default=str(here / "build/bin/fwl"))
    p.add_argument("--config", default=str(here / "launch/configs/small.yaml"))
    p.add_argument("--data")
    p.add_argument("--out", required=True)
    p.add_argument("--size", default="small", help="small, large, tiny, or several with commas")
    p.add_argument("--only", help="runs whose name holds this text")
    p.add_argument("--device", default="cuda")
    p.add_argument("--dtype", default="bf16")
    p.add_argument("--budget-s", type=float, default=1e9)
    p.add_argument("--eval-reserve-s", type=float, default=30)
    p.add_argument("--eval-batch", type=int, default=8)
    p.add_argument("--table", action="store_true")
    a = p.parse_args()
    if a.table:
        return Study(a).table()
    if not a.data:
        p.error("--data is needed to train")
    Study(a).go()


if __name__ == "__main__":
    main()
