#!/usr/bin/env python3
"""The study of what the Fast Weight Layer is worth: trains and evaluates every variant, and makes the tables.

    tests/benchmarks/study/study.py --data DATA --out FOLDER [--size small] [--other NAME=SPLIT] [--budget-s 540] [--pack FILE.tar.gz]
    tests/benchmarks/study/study.py --out FOLDER --table          (the tables alone, from what is there)

DATA is a data set with splits train, valid and test, SPLIT one of another domain under the same tokenizer (README.md beside this file says how
both are made). Each run is a folder FOLDER/RUN with its log and its evaluations as JSON; what is there is not done again, and a training that
was stopped goes on where it was, so the study can be cut into as many calls as the machine allows (--budget-s ends one in time). --pack keeps
all but checkpoints, for a machine that forgets. Tables: FOLDER/table.md and study.json (tables.py). Standard library only.
"""
import argparse
import concurrent.futures
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import threading
import time

import tables

SIZES = {  # the body; tokens and batch of the training; `carry`: how far fast weights are carried
    "tiny": {"model.layers": 2, "model.width": 64, "model.heads": 4, "model.context": 128, "tokens": 20_480, "batch": 8, "rate": 3e-3, "window": 32,
             "carry": (256, 1024, 4096, 131_072)},
    "byte": {"model.layers": 2, "model.width": 64, "model.heads": 4, "model.context": 1024, "tokens": 4_915_200, "batch": 8, "rate": 3e-3, "window": 128,
             "carry": (1024, 4096, 16_384, 65_536)},  # minutes on a CPU's core, tokens that are bytes
    "small": {"model.layers": 8, "model.width": 512, "model.heads": 8, "model.context": 2048, "tokens": 131_072_000, "batch": 16, "rate": 1e-3, "window": 512,
              "carry": (2048, 8192, 32_768, 131_072)},
    "large": {"model.layers": 12, "model.width": 768, "model.heads": 12, "model.context": 2048, "tokens": 131_072_000, "batch": 16, "rate": 6e-4, "window": 512,
              "carry": (2048, 8192, 32_768, 131_072)},
}
FAST = "model.fast_weight."
# The layer until its keys had one length, its writes a gate and its step sizes their start of today.
PLAIN = {FAST + "step_size_init": 0.25, FAST + "key_norm": "none", FAST + "write_gate": "none"}
VARIANTS = {
    "control": {FAST + "update": "none"},
    "control-faster": {FAST + "update": "none", "rate": 2},  # twice, half the learning rate: whom does the size's own favour?
    "control-slower": {FAST + "update": "none", "rate": 0.5},
    "fwl": {},
    "fwl-slower": {"rate": 0.5},
    "published": PLAIN | {FAST + "residual": "false", FAST + "input_norm": "false", FAST + "fast_norm": "true", FAST + "fast_biases": "true",
                          FAST + "step_size": "scalar", FAST + "step_size_space": "linear", FAST + "step_size_init": 0.01, FAST + "decay_init": 1.0,
                          FAST + "slow_loss_weight": 0, FAST + "fast_layers": "both", FAST + "hessian_threshold": 0},
    "first-order": {FAST + "second_order": "false"},
    "no-decay": {FAST + "decay_init": 1.0},
    "plain": PLAIN,  # the default of 29 November 2026
    "plain-both-layers": PLAIN | {FAST + "fast_layers": "both"},
    "plain-both-layers-exact": PLAIN | {FAST + "fast_layers": "both", FAST + "hessian_threshold": 0},  # the default before that
    "plain-write-gate": PLAIN | {FAST + "write_gate": "both"},
    "plain-keys": PLAIN | {FAST + "key_norm": "l2"},
    "plain-step-size": PLAIN | {FAST + "step_size_init": 2},
    "plain-step-size-gate": PLAIN | {FAST + "step_size_init": 2, FAST + "write_gate": "both"},
    "plain-step-size-gate-decays": PLAIN | {FAST + "step_size_init": 2, FAST + "write_gate": "both", FAST + "decay_heads": 4, FAST + "decay_init_slowest": 0.999},
    "plain-decays": PLAIN | {FAST + "decay_heads": 4},
    "plain-wide": PLAIN | {FAST + "width": 4096},  # twice the hidden units at the size `small`
    "plain-learned-start": PLAIN | {FAST + "learned_start": "true"},
    "plain-inner-steps": PLAIN | {FAST + "inner_steps": 2},
    "both-layers": {FAST + "fast_layers": "both"},
    "hessian-exact": {FAST + "hessian_threshold": 0},
    "hessian-1": {FAST + "hessian_threshold": 1},
    "decay-0.999": {FAST + "decay_max": 0.999},
    "decay-unbounded": {FAST + "decay_max": 1},
    "control-longer": {FAST + "update": "none", "longer": 4},  # sequences of four times the context, a quarter as many a step
    "fwl-longer": {"longer": 4},
    "decays-side-by-side": {FAST + "decay_heads": 4, FAST + "decay_init_slowest": 0.999},
    "learned-start": {FAST + "learned_start": "true"},
    "inner-steps": {FAST + "inner_steps": 2},
    "step-size-4": {FAST + "step_size_init": 4},
    "keys-and-queries": {FAST + "key_norm": "l2_both"},
    "both-layers-exact": {FAST + "fast_layers": "both", FAST + "hessian_threshold": 0},
    # Whatever helped a little, at whatever it costs.
    "everything": {FAST + "fast_layers": "both", FAST + "hessian_threshold": 0, FAST + "decay_heads": 4, FAST + "decay_init_slowest": 0.999,
                   FAST + "learned_start": "true"},
    "no-slow-loss": {FAST + "slow_loss_weight": 0},
    "slow-loss-0.1": {FAST + "slow_loss_weight": 0.1},
    "slow-loss-0.3": {FAST + "slow_loss_weight": 0.3},
    "slow-loss-3": {FAST + "slow_loss_weight": 3},
}


class Run:
    def __init__(self, size, variant, attention, state, seed):
        self.size, self.variant, self.attention, self.state, self.seed = size, variant, attention, state, seed
        self.name = f"{size}-{variant}-{attention}-{state}-seed{seed}"

    def settings(self, tokens):
        size = SIZES[self.size]
        tokens = tokens or size["tokens"]
        steps = max(10, tokens // (size["batch"] * size["model.context"]))
        variant = dict(VARIANTS[self.variant])
        rate, longer = size["rate"] * variant.pop("rate", 1), variant.pop("longer", 1)
        values = {k: v for k, v in size.items() if k.startswith("model.")} | {"model.context": longer * size["model.context"]}
        values |= {"model.window": size["window"] if self.attention == "window" else 0, "model.norm": "layer", FAST + "chunk": 0, "train.steps": steps,
                   "train.global_batch": size["batch"] // longer, "train.micro_batch": 0, "train.learning_rate": rate, "train.warmup_steps": min(100, steps // 5),
                   "train.seed": self.seed, "train.stream": "false" if self.state == "reset" else "true", "train.save_every": max(1, steps // 2),
                   "checkpoints.keep": 1, "train.log_every": max(1, steps // 80)}
        if self.state == "documents":
            values |= {"data.order": "documents", FAST + "document_reset": "true"}
        if variant.get(FAST + "step_size_space") == "linear":
            # The published loss is divided by the tokens of the whole batch.
            values[FAST + "inner_loss_scale"] = 1.0 / (size["batch"] * size["model.context"])
        return values | variant

    @property
    def fast(self):
        return not self.variant.startswith("control")

    def carries(self):
        """What `fwl eval --carry` is given: so many tokens of a document, whole documents; with the first seed also across documents."""
        limits = [str(n) for n in SIZES[self.size]["carry"]] + ["document"]
        return ",".join(limits + ([f"stream:{limits[-3]}", "stream"] if self.seed == 1 else []))


def jobs_of(sizes):
    """Pairs of a run and one of its evaluations, what decides first: the recipe against its controls, its rivals, the seeds, then the parts."""
    for size in sizes:
        seeds = (1, 2, 3) if size != "large" else (1,)
        heads = {seed: [Run(size, variant, attention, "reset", seed) for attention in ("window", "full") for variant in ("control", "fwl")]
                 + [Run(size, "fwl", "window", state, seed) for state in ("documents", "stream")] for seed in seeds}
        for run in heads[1]:
            yield from ((run, name) for name in ("main", "other"))
        yield from ((run, name) for run in heads[1] if not run.fast for name in ("strided", "untrained"))
        yield from ((run, "dynamic") for run in heads[1])
        for seed in seeds[1:]:
            yield from ((run, name) for run in heads[seed] for name in ("main", "other"))
        for seed, state, attention in itertools.product(seeds, ("reset", "stream"), ("window", "full")):
            # A control carries nothing: with a window of attention its streams carry keys alone, else it is the same training.
            for variant in VARIANTS:
                run = Run(size, variant, attention, state, seed)
                if run.fast or state == "reset" or attention == "window":
                    yield from ((run, name) for name in ("main", "other"))


def eval_arguments(run, name, a):
    """Of `fwl eval`; None: this run has no such evaluation."""
    fast = run.fast
    test, valid = f"{a.data}/test", f"{a.data}/valid"
    context = ["--context", str(SIZES[run.size]["model.context"])]  # of whatever length a model was trained on
    all_of = ["--max-documents", str(a.test_documents), *context]
    slow = "slow,slow-carried" if run.attention == "window" else "slow"
    some = ["--max-documents", str(a.dynamic_documents), "--spread", "--tune", valid, "--tune-documents", str(a.tune_documents), *context]
    if name == "main":
        return ["--data", test, "--modes", "slow,fast,carried", "--carry", run.carries(), *all_of] if fast else ["--data", test, "--modes", slow, *all_of]
    if name == "strided" and not fast:
        # Every token but a window's first of a document with half a context before it, at twice the work: the control at its best.
        return ["--data", test, "--modes", "slow", "--stride", str(SIZES[run.size]["model.context"] // 2), *all_of]
    if name == "other" and a.other:
        return ["--data", a.other.split("=", 1)[1], "--train-data", f"{a.data}/train", "--modes", "slow,fast,carried" if fast else slow, *all_of]
    if name == "untrained" and not fast:
        return ["--data", test, "--modes", "slow,fast-untrained", "--tune", valid, "--tune-documents", str(a.tune_documents), *all_of]
    if name == "dynamic":
        # On top of fast weights with one rule: its best rate is searched all the same.
        modes = ["slow,fast,carried,carried-dynamic", "--dynamic-rule", "rms"] if fast else ["slow,dynamic"]
        return ["--data", test, "--modes", *modes, *some]
    return None


class Study:
    def __init__(self, a):
        self.a, self.out, self.started = a, pathlib.Path(a.out), time.monotonic()
        self.out.mkdir(parents=True, exist_ok=True)
        self.changed, self.worker = threading.Condition(), threading.local()

    def left(self):
        return self.a.budget_s - (time.monotonic() - self.started)

    def call(self, arguments, log):
        """True when the command ended well; False when it had to stop in time (exit code 75)."""
        environment = os.environ | ({"CUDA_VISIBLE_DEVICES": str(self.worker.gpu)} if self.a.gpus > 1 else {})
        with open(log, "a") as f:
            code = subprocess.call([self.a.fwl, *map(str, arguments)], stdout=f, stderr=subprocess.STDOUT, env=environment)
        if code not in (0, 75):
            raise RuntimeError(f"{self.a.fwl} {' '.join(map(str, arguments))} ended with exit code {code}, see {log}")
        return code == 0

    def train(self, run, folder):
        if (folder / "trained").exists():
            return True
        if self.left() < self.a.eval_reserve_s:
            return False
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text(json.dumps(vars(run)))
        settings = run.settings(self.a.tokens) | {"run.dir": folder, "data.path": self.a.data, "train.device": self.a.device, "train.dtype": self.a.dtype,
                                                  "train.resume": "auto", "train.max_seconds": max(1, int(self.left()))}
        sets = itertools.chain(*(("--set", f"{k}={v}") for k, v in settings.items()))
        if not self.call(["train", self.a.config, *sets], folder / "train.txt"):
            return False
        (folder / "trained").touch()
        return True

    def evaluate(self, folder, name, arguments):
        if self.left() < self.a.eval_reserve_s:
            return False
        result = folder / f"eval-{name}.json"
        batch = ["--batch", self.a.eval_batch, "--device", self.a.device]
        self.call(["eval", folder, *arguments, *batch, "--json", f"{result}.new"], folder / "eval.txt")
        shutil.move(f"{result}.new", result)
        return True

    def wanted(self):
        """What is to be done, in order: (run, evaluation, its arguments)."""
        jobs, seen = [], set()
        for run, name in jobs_of(self.a.size.split(",")):
            arguments = eval_arguments(run, name, self.a)
            chosen = arguments and self.rank(run) is not None and (run.name, name) not in seen
            chosen = chosen and (not self.a.evaluations or name in self.a.evaluations.split(","))
            seen.add((run.name, name))
            if chosen and not (self.out / run.name / f"eval-{name}.json").exists():
                jobs.append((run, name, arguments))
        return sorted(jobs, key=lambda job: self.rank(job[0]))

    def rank(self, run):
        """Which of --only's texts the run's name holds, in their order; None when none is."""
        texts = (self.a.only or "").split(",")
        return next((i for i, text in enumerate(texts) if text in run.name), None)

    def take(self):
        """The next job whose run no other worker is at; None when none is left, or when all are to stop."""
        with self.changed:
            while self.jobs and not self.stopped:
                for i, (run, *_) in enumerate(self.jobs):
                    if run.name not in self.busy:
                        self.busy.add(run.name)
                        return self.jobs.pop(i)
                self.changed.wait()
        return None

    def release(self, run, done):
        with self.changed:
            self.busy.remove(run.name)
            self.stopped |= not done
            self.changed.notify_all()

    def work(self, gpu):
        """Jobs until none is left, or one fails: what went wrong, then."""
        self.worker.gpu = gpu
        while job := self.take():
            run, name, arguments = job
            start, done = time.monotonic(), False
            try:
                done = self.train(run, self.out / run.name) and self.evaluate(self.out / run.name, name, arguments)
                print(f"{run.name}, {name}: {'done' if done else 'unfinished'} ({time.monotonic() - start:.0f} s)", flush=True)
            except RuntimeError as error:
                return str(error)
            finally:
                self.release(run, done)
        return None

    def go(self):
        self.jobs, self.busy, self.stopped = self.wanted(), set(), False
        with concurrent.futures.ThreadPoolExecutor(self.a.gpus) as workers:
            failures = [error for error in workers.map(self.work, range(self.a.gpus)) if error]
        tables.write(self.out)
        if failures:
            sys.exit("error: " + "; ".join(failures))

    def pack(self, target):
        """Logs and evaluations: what the tables need, and what says that an evaluation is done."""
        with tarfile.open(target, "w:gz") as archive:
            for pattern in ("*/run.json", "*/log.jsonl", "*/eval-*.json", "*/config.yaml", "table.md"):
                for file in sorted(self.out.glob(pattern)):
                    archive.add(file, arcname=str(file.relative_to(self.out)))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = pathlib.Path(__file__).resolve().parents[3]
    p.add_argument("--fwl", default=str(here / "build/bin/fwl"))
    p.add_argument("--config", default=str(here / "launch/configs/small.yaml"))
    p.add_argument("--data")
    p.add_argument("--other", help="NAME=SPLIT: text of another domain, e.g. wikitext=DIR/test")
    p.add_argument("--out", required=True)
    p.add_argument("--size", default="small", help="small, large, byte (on a CPU), tiny (a dry run), or several with commas")
    p.add_argument("--tokens", type=int, default=0, help="of each training; 0: the size's own")
    p.add_argument("--only", help="runs whose name holds one of these texts (with commas), in their order")
    p.add_argument("--evaluations", help="of the chosen runs, with commas: main, other, strided, untrained, dynamic; default: all")
    p.add_argument("--device", default="cuda")
    p.add_argument("--dtype", default="bf16")
    p.add_argument("--gpus", type=int, default=1, help="of this machine: so many runs at a time, one on each")
    p.add_argument("--budget-s", type=float, default=1e9, help="seconds after which nothing new begins and a training saves and stops")
    p.add_argument("--eval-reserve-s", type=float, default=30, help="no evaluation begins with less than this left")
    p.add_argument("--eval-batch", type=int, default=16)
    p.add_argument("--test-documents", type=int, default=0, help="of the test split and of --other; 0: all")
    p.add_argument("--dynamic-documents", type=int, default=40, help="evenly from the test split, for dynamic evaluation and what it is compared with")
    p.add_argument("--tune-documents", type=int, default=4, help="of the validation split")
    p.add_argument("--pack", help="write all results so far to this file")
    p.add_argument("--table", action="store_true", help="the tables alone")
    a = p.parse_args()
    if not a.table and not a.data:
        p.error("--data is needed to train")
    study = Study(a)
    tables.write(study.out) if a.table else study.go()
    if a.pack:
        study.pack(a.pack)


if __name__ == "__main__":
    main()
