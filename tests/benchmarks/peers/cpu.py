#!/usr/bin/env python3
"""fwl's training step against the same model in PyTorch, eager and with torch.compile, on this machine's CPU cores.

    tests/benchmarks/peers/cpu.py [--fwl build/bin/fwl] [--config launch/configs/small.yaml] [--set KEY=VALUE ...] [--threads N]
                                  [--steps 3] [--repetitions 5] [--work static,fwl] [--peers eager,compile] [--json FILE]

All take turns, a few steps each, so that they meet the same noise; minimum, median and maximum of the repetitions are shown, wall time a
step. On a machine that others use too, compare minima (CPU time would count waiting threads that spin). The peers run under tests/support/test-python; torch.compile needs g++.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "..", "..", ".."))


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--fwl", default=os.path.join(ROOT, "build/bin/fwl"))
    p.add_argument("--config", default=os.path.join(ROOT, "launch/configs/small.yaml"))
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    p.add_argument("--vocabulary", type=int, default=4096, help="the quickstart's")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--steps", type=int, default=3)
    p.add_argument("--repetitions", type=int, default=5)
    p.add_argument("--work", default="static,fwl")
    p.add_argument("--peers", default="eager,compile")
    p.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    p.add_argument("--json")
    return p.parse_args()


class Fwl:
    """`fwl bench train`, a process a measurement; its start is not part of the figure."""

    def __init__(self, a, work):
        update = "slow_gradient" if work == "fwl" else "none"
        settings = [f"model.vocab_size={a.vocabulary}", f"model.fast_weight.update={update}", f"train.dtype={a.dtype}", "train.device=cpu", *a.set]
        self.command = [a.fwl, "bench", "train", a.config, "--warmup", "2", "--repetitions", "1"]
        for s in settings:
            self.command += ["--set", s]
        self.environment = dict(os.environ, OMP_NUM_THREADS=str(a.threads))

    def measure(self, steps):
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            subprocess.run([*self.command, "--steps", str(steps), "--json", out.name], check=True, env=self.environment, stdout=subprocess.DEVNULL)
            return json.load(open(out.name))["step_s"]

    def close(self):
        pass


class Peer:
    """step_server.py, one process for all repetitions."""

    def __init__(self, a, work, kind, shape):
        settings = dict(shape, threads=a.threads, fast=work == "fwl", compile=kind == "compile", dtype=a.dtype)
        environment = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
        self.process = subprocess.Popen([os.path.join(ROOT, "tests/support/test-python"), os.path.join(HERE, "step_server.py"), json.dumps(settings)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.measure(2)  # compiles, warms up

    def measure(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the peer ended with code {self.process.wait()} (nothing to compare with). Read its message above.")
        return json.loads(line)["wall_s"] / steps

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def shape_of(a):
    """The peer's sizes, from the resolved config of the program."""
    settings = [x for s in (f"model.vocab_size={a.vocabulary}", *a.set) for x in ("--set", s)]
    text = subprocess.run([a.fwl, "train", a.config, "--print-config", *settings], check=True, capture_output=True, text=True).stdout
    values, path = {}, []
    for line in text.splitlines():
        body = line.split("#")[0].rstrip()
        if ":" not in body:
            continue
        depth = (len(body) - len(body.lstrip())) // 2
        key, value = body.strip().split(":", 1)
        path = path[:depth] + [key]
        values[".".join(path)] = value.strip()
    number = lambda key: int(values[key])
    return dict(vocabulary=a.vocabulary, layers=number("model.layers"), heads=number("model.heads"), width=number("model.width"),
                window=number("model.window"), context=number("model.context"), chunk=number("model.fast_weight.chunk") or 64,
                batch=number("train.global_batch"), micro_batch=number("train.micro_batch"))


def summary(values):
    return dict(min=min(values), median=statistics.median(values), max=max(values))


def main():
    a = arguments()
    shape = shape_of(a)
    tokens = shape["batch"] * shape["context"]
    results = {}
    for work in a.work.split(","):
        runners = {"fwl": Fwl(a, work), **{k: Peer(a, work, k, shape) for k in a.peers.split(",") if k}}
        times = {name: [] for name in runners}
        for _ in range(a.repetitions):
            for name, runner in runners.items():
                times[name].append(runner.measure(a.steps))
        for runner in runners.values():
            runner.close()
        results[work] = {name: summary(list_) for name, list_ in times.items()}
        for name, r in results[work].items():
            print(f"{work:7s} {name:8s} ms a step: min {r['min'] * 1e3:7.1f}  median {r['median'] * 1e3:7.1f}  max {r['max'] * 1e3:7.1f};"
                  f"  {tokens / r['min']:8.0f} tokens/s;  fwl is {r['min'] / results[work]['fwl']['min']:.2f}x as fast", flush=True)
    if a.json:
        with open(a.json, "w") as out:
            json.dump(dict(config=a.config, settings=a.set, shape=shape, dtype=a.dtype, threads=a.threads, steps=a.steps,
                           repetitions=a.repetitions, unit="s a step", load_average=os.getloadavg(), results=results), out, indent=1)


if __name__ == "__main__":
    main()
