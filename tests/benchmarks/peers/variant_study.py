#!/usr/bin/env python3
"""Variants of the Fast Weight Layer and of the body below it, in PyTorch, on the same tokens in the same
order.

    variant_study.py --data DIR --out DIR [--variants control,fwl,...] [--tokens N] [--seed 1] [--jobs 3]

DATA is a data set as `fwl tokenize` writes it, with the splits train and test (or valid). Each variant is a
process; --jobs of them share the GPU, so that one trains while another compiles. Speed is measured alone:
the others wait. OUT gets VARIANT-seedS-tokensN.json, a log beside each, and at the end a table is printed;
variant_tables.py makes RESULTS.md of such files. What OUT holds already is not run again. A look on a CPU:

    variant_study.py --data DIR --out /tmp/look --size tiny --device cpu --tokens 40960 --variants fwl
"""

import argparse
import fcntl
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
import variant_model as models

EDGES = (0, 512, 2048, 8192, 32_768, 131_072, 1 << 40)  # places in a document
RESETS = (2048, 8192, 32_768)  # how far fast weights are carried, beside whole documents
STARTED = time.monotonic()


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--variants", default="control,fwl")
    p.add_argument("--size", default="small", choices=list(models.SIZES))
    p.add_argument("--tokens", type=int, default=0, help="of training; 0: the split once")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--device", default="cuda")
    p.add_argument("--no-compile", action="store_true")
    p.add_argument("--jobs", type=int, default=3)
    p.add_argument(
        "--budget-s", type=float, default=1e9, help="after so many seconds what still runs is ended"
    )
    p.add_argument("--max-documents", type=int, default=0, help="of the test split; 0: all")
    p.add_argument("--commit", default="", help="noted in the results")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    return p.parse_args()


def say(*words):
    print(f"[{time.monotonic() - STARTED:6.1f} s]", *words, flush=True)


# ---- data: fwl's splits and its order of samples (data/loader.cpp, data/sample_order.cpp)


class Split:
    def __init__(self, folder, name):
        import h5py

        manifest = json.loads((folder / "manifest.json").read_text())
        self.document_start, self.vocabulary = manifest["document_start"], manifest["vocab_size"]
        tokens, offsets = [], [np.zeros(1, np.int64)]
        for shard in manifest["splits"][name]["shards"]:
            with h5py.File(folder / shard["file"]) as f:
                tokens.append(f["tokens"][:])
                offsets.append(f["documents/offsets"][1:] + offsets[-1][-1])
        self.tokens, self.offsets = np.concatenate(tokens).astype(np.int32), np.concatenate(offsets)


U64 = np.uint64


def mix_bits(x):
    with np.errstate(over="ignore"):
        x = x + U64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> U64(30))) * U64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> U64(27))) * U64(0x94D049BB133111EB)
    return x ^ (x >> U64(31))


def key_of(stream, seed, epoch):
    return mix_bits(mix_bits(np.array([seed], U64) ^ mix_bits(np.array([stream], U64))) ^ U64(epoch))


def sample_starts(tokens, context, seed, samples):
    """First token of each of the first `samples` training windows."""
    windows = max(1, (tokens - context) // context)
    half_bits = 1
    while (1 << (2 * half_bits)) < windows:
        half_bits += 1
    mask, starts = U64((1 << half_bits) - 1), []
    for epoch in range((samples + windows - 1) // windows):
        key = key_of(0x6F72646572, seed, epoch)
        word = np.arange(windows, dtype=U64)
        todo = np.ones(windows, bool)
        while todo.any():
            x, right = word[todo] >> U64(half_bits), word[todo] & mask
            for r in range(6):
                x, right = right, x ^ (mix_bits(key ^ mix_bits(right + U64(r << 48))) & mask)
            word[todo] = (x << U64(half_bits)) | right
            todo[todo] = word[todo] >= U64(windows)
        spare = tokens - 1 - windows * context
        shift = int(key_of(0x7368696674, seed, epoch)[0] % U64(min(context - 1, spare) + 1))
        starts.append(word.astype(np.int64) * context + shift)
    return np.concatenate(starts)[:samples]


# ---- turns on the GPU


class Turns:
    """Work that may share the GPU, and work that needs it alone. Who waits to be alone closes the gate
    first."""

    def __init__(self, folder):
        self.gate, self.gpu = (open(folder / f".{name}", "a") for name in ("gate", "gpu"))

    def shared(self, work):
        fcntl.flock(self.gate, fcntl.LOCK_SH)
        fcntl.flock(self.gpu, fcntl.LOCK_SH)
        fcntl.flock(self.gate, fcntl.LOCK_UN)
        return self.finish(work)

    def alone(self, work):
        fcntl.flock(self.gate, fcntl.LOCK_EX)
        fcntl.flock(self.gpu, fcntl.LOCK_EX)
        fcntl.flock(self.gate, fcntl.LOCK_UN)
        return self.finish(work)

    def finish(self, work):
        try:
            result = work()
            synchronize()
            return result
        finally:
            fcntl.flock(self.gpu, fcntl.LOCK_UN)


def synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# ---- training


def groups_of(model):
    """Decay of matrices alone; the layer's step sizes and decays at thirty times the rate
    (train.optimizer)."""
    fast = model.fast_trained()
    rest = [p for p in model.parameters() if p.dim() < 2 and not any(p is q for q in fast)]
    return [
        dict(params=[p for p in model.parameters() if p.dim() > 1], weight_decay=0.1, factor=1.0),
        dict(params=rest, weight_decay=0.0, factor=1.0),
        dict(params=fast, weight_decay=0.0, factor=30.0),
    ]


def learning_rate_at(step, steps, peak):
    warmup = min(100, steps // 5)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


class Training:
    def __init__(self, a, size, model, split):
        self.a, self.size, self.model, self.split = a, size, model, split
        self.optimizer = torch.optim.AdamW(groups_of(model), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)
        self.parameters = list(model.parameters())
        tokens = min(a.tokens or 1 << 60, len(split.tokens) - size["context"])
        self.steps = max(10, tokens // (size["batch"] * size["context"]))
        starts = sample_starts(len(split.tokens), size["context"], a.seed, self.steps * size["batch"])
        self.starts = torch.from_numpy(starts).to(a.device).view(self.steps, size["batch"])
        self.data = torch.from_numpy(split.tokens).to(a.device)
        self.inside = torch.arange(size["context"] + 1, device=a.device)
        self.losses, self.curve = [], []

    def gradients(self, step):
        window = self.data[self.starts[step, :, None] + self.inside].long()
        objective, loss = self.model.loss(window[:, :-1], window[:, 1:], self.split.document_start)
        objective.backward()
        return loss.detach()

    def update(self, step):
        rate = learning_rate_at(step, self.steps, self.size["rate"])
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        loss = self.gradients(step)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def go(self, turns):
        self.gradients(0)  # compiles
        self.optimizer.zero_grad(set_to_none=True)
        every = max(1, min(25, self.steps // 10))
        for first in range(0, self.steps, every):
            last = min(first + every, self.steps)
            losses = turns.shared(lambda: [self.update(step) for step in range(first, last)])
            self.losses.append(torch.stack(losses).mean().item())
            assert math.isfinite(self.losses[-1]), f"the loss is {self.losses[-1]} before step {last}"
            self.curve.append((last, round(self.losses[-1], 5)))
            if len(self.curve) % 8 == 1 or last == self.steps:
                say(f"step {last} of {self.steps}, loss {self.losses[-1]:.4f}")

    def speed(self, turns, steps=30):
        """Tokens/s of forward, backward and update, alone on the GPU; the weights change no more that
        matters."""

        def work():
            synchronize()
            began = time.monotonic()
            for _ in range(steps):
                self.gradients(0)
                torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
                for group in self.optimizer.param_groups:
                    group["lr"] = 0.0
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
            synchronize()
            return time.monotonic() - began

        self.optimizer.zero_grad(set_to_none=True)
        return round(steps * self.size["batch"] * self.size["context"] / turns.alone(work))


# ---- evaluation: every token of a document but its start is scored once


class Scores:
    """Nats of a mode, by place in the document and by document."""

    def __init__(self, documents):
        self.nats, self.tokens = np.zeros(documents), np.zeros(documents, np.int64)
        self.place_nats, self.place_tokens = np.zeros(len(EDGES) - 1), np.zeros(len(EDGES) - 1, np.int64)

    def add(self, document, first, nats):
        self.nats[document] += nats.sum()
        self.tokens[document] += len(nats)
        place = np.searchsorted(EDGES, np.arange(first, first + len(nats)), side="right") - 1
        self.place_nats += np.bincount(place, nats, len(self.place_nats))
        self.place_tokens += np.bincount(place, minlength=len(self.place_nats))

    def report(self):
        total = int(self.tokens.sum())
        places = {
            str(low): round(float(n / t), 5)
            for low, n, t in zip(EDGES, self.place_nats, self.place_tokens)
            if t
        }
        return dict(
            nats_per_token=round(float(self.nats.sum() / total), 5),
            tokens=total,
            by_place=places,
            by_document=(self.nats / self.tokens).round(4).tolist(),
        )


def sequences_of(split, documents, length):
    """(document, first token, count): whole documents (length 0) or windows of them, the longest first."""
    found = []
    for d in range(documents):
        first, count = int(split.offsets[d]), int(split.offsets[d + 1] - split.offsets[d] - 1)
        for done in range(0, count, length or count):
            found.append((d, first + done, min(length or count, count - done)))
    return sorted(found, key=lambda s: -s[2])


@torch.no_grad()
def evaluate(a, model, split, turns):
    """Mode -> scores. static, fast: windows of the context from nothing. slow-carried: whole documents,
    with what the mixers remember going on. carried, carried-N: the fast weights go on too, over documents
    or N tokens."""
    documents = min(a.max_documents or 1 << 30, len(split.offsets) - 1)
    data, context, layer = torch.from_numpy(split.tokens), model.size["context"], model.variant.layer
    windows = {"static": model.slow_nats} | ({"fast": model.fast_nats} if layer else {})
    whole = {} if "F" in model.variant.mixers else {"slow-carried": model.slow_nats}
    if layer:
        resets = {f"carried-{n}": n for n in RESETS if n >= context} | {"carried": 0}
        whole |= {name: lambda h, y, n=n: model.fast_nats(h, y, n) for name, n in resets.items()}
    scores = {mode: Scores(documents) for mode in (*windows, *whole)}

    def score(group, modes):
        longest = -(-group[0][2] // 128) * 128  # what lies behind a row's end changes nothing before it
        rows = torch.full((len(group), longest + 1), split.document_start, dtype=torch.long)
        for r, (_, first, count) in enumerate(group):
            rows[r, : count + 1] = data[first : first + count + 1]
        rows = rows.to(a.device)
        h, label = model.hidden(rows[:, :-1]), rows[:, 1:]
        for mode, nats_of in modes.items():
            host = nats_of(h, label).double().cpu().numpy()
            for r, (d, first, count) in enumerate(group):
                scores[mode].add(d, first - int(split.offsets[d]), host[r, :count])

    for length, rows, modes in ((context, 16, windows), (0, 5, whole)):
        sequences = sequences_of(split, documents, length)
        for first in range(0, len(sequences), rows):
            if modes:
                turns.shared(lambda: score(sequences[first : first + rows], modes))
    return {mode: s.report() for mode, s in scores.items()}


@torch.no_grad()
def planted(a, model, split, turns, passage=128, distance=1024, rows=16, batches=8):
    """Nats a passage costs where it stands for the second time, `distance` tokens (two windows) behind its
    first, less where another passage stood there. What is between comes from another document, before and
    after too."""
    size = min(model.size["context"], 2048)
    passage, distance = passage * size // 2048, distance * size // 2048
    random = np.random.default_rng(5)
    long = [d for d in range(len(split.offsets) - 1) if split.offsets[d + 1] - split.offsets[d] > 2 * size]
    take = lambda d, n: split.tokens[
        (s := random.integers(split.offsets[d] + 1, split.offsets[d + 1] - n)) : s + n
    ]
    found = []
    for _ in range(batches):
        pairs = []
        for _ in range(rows):
            first, second = random.choice(long, 2, replace=len(long) < 2)
            text, same, other = take(first, size + 1).copy(), take(second, passage), take(second, passage)
            again = size - passage - passage // 2
            text[0], text[again : again + passage] = split.document_start, same
            for planted_ in (same, other):
                row = text.copy()
                row[again - distance : again - distance + passage] = planted_
                pairs.append(row)
        rows_bt = torch.from_numpy(np.stack(pairs)).long().to(a.device)

        def work():
            h, label = model.hidden(rows_bt[:, :-1]), rows_bt[:, 1:]
            nats = (model.fast_nats if model.variant.layer else model.slow_nats)(h, label)
            return nats[:, again + 3 : again + passage - 1].double().mean(1).view(-1, 2).cpu()

        found.append(turns.shared(work))
    again, fresh = torch.cat(found).mean(0).tolist()
    return dict(
        passage=passage,
        distance=distance,
        rows=rows * batches,
        fresh=round(fresh, 4),
        again=round(again, 4),
        drop=round(fresh - again, 4),
    )


# ---- one variant, and all of them


def label_of(name, a):
    return f"{name}-seed{a.seed}" + (f"-tokens{a.tokens}" if a.tokens else "")


def worker(a):
    torch.manual_seed(a.seed)
    size, out = models.SIZES[a.size], pathlib.Path(a.out)
    folder, turns = pathlib.Path(a.data), Turns(out)
    splits = json.loads((folder / "manifest.json").read_text())["splits"]
    train, test = Split(folder, "train"), Split(folder, "test" if "test" in splits else "valid")
    model = models.LanguageModel(size, models.VARIANTS[a.worker], train.vocabulary).to(a.device)
    if a.device == "cuda" and not a.no_compile:
        models.COMPILED["on"] = None
    training = Training(a, size, model, train)
    say(f"{sum(p.numel() for p in model.parameters()):,} parameters, {training.steps} steps")
    training.go(turns)
    about = dict(
        variant=a.worker,
        settings=vars(models.VARIANTS[a.worker]),
        seed=a.seed,
        size=a.size,
        steps=training.steps,
        tokens=training.steps * size["batch"] * size["context"],
        parameters=sum(p.numel() for p in model.parameters()),
        torch=torch.__version__,
        device=torch.cuda.get_device_name(0) if a.device == "cuda" else "cpu",
        commit=a.commit,
        date=time.strftime("%Y-%m-%d"),
        command=" ".join(sys.argv[1:]),
        loss_curve=training.curve,
        state=state_of(model),
    )
    about["training_tokens_per_s"] = training.speed(turns)
    say("speed alone:", about["training_tokens_per_s"])
    model.eval()
    about["evaluation"] = evaluate(a, model, test, turns)
    about["planted"] = planted(a, model, test, turns)
    say({mode: e["nats_per_token"] for mode, e in about["evaluation"].items()}, about["planted"])
    (out / f"{label_of(a.worker, a)}.json").write_text(json.dumps(about))


def state_of(model):
    if not model.variant.layer:
        return None
    top = model.top
    scale = top["log_scale"].exp().tolist() if "log_scale" in top else []
    return dict(
        step_size_times_width=round(top["log_step"].exp().mean().item() * model.size["width"], 3),
        decays=[round(x, 5) for x in models.log_decays(top, model.largest()).exp().tolist()],
        scales=[round(x, 3) for x in scale],
    )


def start(a, name):
    out = pathlib.Path(a.out)
    log = open(out / f"{label_of(name, a)}.log", "w")
    return subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--worker", name],
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def main():
    a = arguments()
    if a.worker:
        return worker(a)
    out = pathlib.Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    names = a.variants.split(",")
    unknown = [n for n in names if n not in models.VARIANTS]
    if unknown:
        sys.exit(f"no such variant: {unknown}. Choose among {list(models.VARIANTS)}.")
    waiting, running = [n for n in names if not (out / f"{label_of(n, a)}.json").exists()], {}
    while waiting or running:
        for name in [n for n, p in running.items() if p.poll() is not None]:
            code = running.pop(name).returncode
            say(f"{name} {'done' if code == 0 else f'FAILED with {code}'}")
        while waiting and len(running) < a.jobs:
            name = waiting.pop(0)
            say(f"{name} starts")
            running[name] = start(a, name)
        if time.monotonic() - STARTED > a.budget_s:
            for name, process in running.items():
                say(f"{name} ended: no time left")
                process.kill()
            break
        time.sleep(0.3)
    for name in names:
        file = out / f"{label_of(name, a)}.json"
        if file.exists():
            r = json.loads(file.read_text())
            print(
                f"{name:20s} {r['training_tokens_per_s']:>9,} tokens/s",
                {m: e["nats_per_token"] for m, e in r["evaluation"].items()},
                "planted",
                r["planted"]["drop"],
                r["state"],
            )


if __name__ == "__main__":
    main()
