#!/usr/bin/env python3
"""fwl's training and evaluation steps against the same model in PyTorch, eager and with torch.compile, on this machine's CPU cores or a GPU of it.

    tests/benchmarks/peers/compare.py [--device cpu|cuda] [--fwl build/bin/fwl] [--config launch/configs/small.yaml] [--set KEY=VALUE ...]
        [--also NAME:KEY=VALUE,... ...] [--steps 3] [--repetitions 5] [--work static,fwl,eval-static,eval-fwl] [--peers eager,compile] [--json FILE]

All take turns, a few steps each, so that they meet the same noise; minimum, median and maximum of the repetitions are shown, wall time a
step, and on a GPU the peak of its memory. --also measures the work with fast weights again with other settings. On a machine that others use too, compare minima (CPU
time would count waiting threads that spin). The peers run under --python, which needs torch; torch.compile needs g++.
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
    p.add_argument("--also", action="append", default=[], metavar="NAME:KEY=VALUE,...")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    p.add_argument("--python", default=os.path.join(ROOT, "tests/support/test-python"))
    p.add_argument("--chunk", type=int, default=0, help="of the peer's linear attention; 0: the config's, or 64 on a CPU and 512 on a GPU")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--steps", type=int, default=3)
    p.add_argument("--repetitions", type=int, default=5)
    p.add_argument("--work", default="static,fwl")
    p.add_argument("--peers", default="eager,compile")
    p.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    p.add_argument("--json")
    return p.parse_args()


class Fwl:
    """`fwl bench`, a process a measurement; its start is not part of the figure."""

    def __init__(self, a, work, also):
        update = "none" if work == "static" else "slow_gradient"
        settings = [f"model.vocab_size={a.vocabulary}", f"model.fast_weight.update={update}", f"train.dtype={a.dtype}", f"train.device={a.device}", *a.set, *also]
        self.mode = {"eval-static": "slow", "eval-fwl": "fast"}.get(work)
        self.command = [a.fwl, "bench", "eval" if self.mode else "train", a.config, "--warmup", "2", "--repetitions", "1"]
        for s in settings:
            self.command += ["--set", s]
        self.environment = dict(os.environ, OMP_NUM_THREADS=str(a.threads))

    def measure(self, steps):
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            subprocess.run([*self.command, "--steps", str(steps), "--json", out.name], check=True, env=self.environment, stdout=subprocess.DEVNULL)
            result = json.load(open(out.name))
        if not self.mode:
            return result["step_s"], result["peak_memory_bytes"]
        mode = result["modes"][self.mode]
        return result["batch"] * result["context"] / mode["tokens_per_s"]["median"], mode["peak_memory_bytes"]

    def close(self):
        pass


class Peer:
    """step_server.py, one process for all repetitions."""

    def __init__(self, a, work, kind, shape):
        settings = dict(shape, threads=a.threads, fast=work.endswith("fwl"), evaluate=work.startswith("eval"), compile=kind == "compile", dtype=a.dtype,
                        device=a.device)
        environment = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
        self.process = subprocess.Popen([a.python, os.path.join(HERE, "step_server.py"), json.dumps(settings)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.ask(2)  # compiles, warms up; its answer is to be read before measure()

    def ask(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()

    def measure(self, steps):
        self.ask(steps)
        answer = self.answer()
        return answer["wall_s"] / steps, answer["peak_memory_bytes"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the peer ended with code {self.process.wait()} (nothing to compare with). Read its message above.")
        return json.loads(line)

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
                window=number("model.window"), context=number("model.context"), chunk=a.chunk or number("model.fast_weight.chunk") or (64 if a.device == "cpu" else 512),
                batch=number("train.global_batch"), micro_batch=number("train.micro_batch"))


def summary(measured):
    times = [seconds for seconds, _ in measured]
    return dict(min=min(times), median=statistics.median(times), max=max(times), peak_memory_bytes=max(memory for _, memory in measured))


def main():
    a = arguments()
    shape = shape_of(a)
    tokens = shape["batch"] * shape["context"]
    works, kinds, results = a.work.split(","), [kind for kind in a.peers.split(",") if kind], {}
    peers = {(work, kind): Peer(a, work, kind, shape) for work in works for kind in kinds}  # they compile side by side
    for peer in peers.values():
        peer.answer()
    for work in works:
        runners = {"fwl": Fwl(a, work, [])}
        if work.endswith("fwl"):
            runners |= {name: Fwl(a, work, settings.split(",")) for name, settings in (also.split(":", 1) for also in a.also)}
        runners |= {kind: peers[work, kind] for kind in kinds}
        measured = {name: [] for name in runners}
        for _ in range(a.repetitions):
            for name, runner in runners.items():
                measured[name].append(runner.measure(a.steps))
        for runner in runners.values():
            runner.close()
        results[work] = {name: summary(list_) for name, list_ in measured.items()}
        for name, r in results[work].items():
            memory = f";  {r['peak_memory_bytes'] / 1e9:5.2f} GB" if a.device == "cuda" else ""
            print(f"{work:11s} {name:12s} ms a step: min {r['min'] * 1e3:7.1f}  median {r['median'] * 1e3:7.1f}  max {r['max'] * 1e3:7.1f};"
                  f"  {tokens / r['median']:9.0f} tokens/s;  fwl is {r['median'] / results[work]['fwl']['median']:.2f}x as fast{memory}", flush=True)
    if a.json:
        with open(a.json, "w") as out:
            json.dump(dict(config=a.config, settings=a.set, shape=shape, dtype=a.dtype, device=a.device, threads=a.threads, steps=a.steps,
                           repetitions=a.repetitions, unit="s a step", load_average=os.getloadavg(), results=results), out, indent=1)


if __name__ == "__main__":
    main()
