#!/usr/bin/env python3
"""Writes inputs of `fwl report` into a folder: two runs, two evaluations with breakdowns, one scaling file. All numbers are
made up by formulas; only their form matters.

    make_report_inputs.py FOLDER
"""
import json
import math
import os
import sys

folder = sys.argv[1]


def write_run(name, factor, step_sizes):
    os.makedirs(f"{folder}/{name}", exist_ok=True)
    with open(f"{folder}/{name}/log.jsonl", "w") as log:
        for i in range(1, 301):
            loss = factor * (2 + 4 * math.exp(-i / 40)) + 0.05 * math.sin(i)
            line = {"step": 10 * i, "tokens": 40960 * i, "loss": loss, "loss_slow": loss + 0.2, "grad_norm": 1 + 0.3 * math.cos(i),
                    "learning_rate": 1e-3, "tokens_per_s": 5000 + 200 * math.sin(i / 7), "time_s": 8.0 * i, "skipped": 0}
            if step_sizes:
                line["step_size"] = {"dense1": 0.001 * (1 + i / 30), "dense2": 0.002 * (1 + i / 20)}
                line["state_norm"] = {"dense1": 3 * math.sqrt(i), "dense2": 5 * math.sqrt(i)}
                line["fast_to_slow"] = {"dense1": 0.01 * math.sqrt(i), "dense2": 0.03 * math.sqrt(i)}
                line["decay"] = {"dense1": 1 - 0.0001 * i, "dense2": 0.999}
            log.write(json.dumps(line) + "\n")


def bins(first, last, nats):
    edges = [(0, 0), (1, 1), (2, 2)] + [(2**k // 2 + 1, 2**k) for k in range(2, 40)]
    chosen = [e for e in edges if first <= e[0] and e[1] <= last]
    for i, (low, high) in enumerate(chosen):
        tokens = 50 + int(40000 * math.exp(-((i / len(chosen) - 0.6) / 0.3) ** 2))
        yield {"low": low, "high": high, "tokens": tokens, "nats": tokens * nats(i / len(chosen))}


def mode(gain, speed):
    return {"nats_per_token": 3.5 - gain, "perplexity": math.exp(3.5 - gain), "bits_per_byte": 1.5 - gain / 3, "tokens": 250000,
            "tokens_per_s": speed, "relative_time": 26000 / speed, "relative_flops": 20000 / speed, "peak_memory_bytes": 5.5e8,
            "nats_per_token_interval": [3.45 - gain, 3.55 - gain],
            "difference_to_static": {"percent": -100 * gain / 3.5, "percent_interval": [-100 * gain / 3.5 - 2, -100 * gain / 3.5 + 2]},
            "breakdowns": {"position": list(bins(1, 16384, lambda x: 4.2 - 1.5 * x - gain * x)),
                           "train_frequency": list(bins(1, 2**22, lambda x: 7 - 5 * x - gain * (1.2 - x))),
                           "occurrence": list(bins(0, 1024, lambda x: 4 - x - gain * math.sqrt(x))),
                           "document_length": list(bins(33, 32768, lambda x: 4 - x - gain * x))}}


write_run("control", 1.0, False)
write_run("fast", 0.8, True)
with open(f"{folder}/control.json", "w") as file:
    json.dump({"modes": {"slow": mode(0, 26000), "dynamic": mode(0.8, 6400)}}, file)
with open(f"{folder}/fwl.json", "w") as file:
    json.dump({"modes": {"slow": mode(-0.6, 20000), "fast": mode(1.1, 11200), "carried": mode(1.25, 10500)}}, file)
rows = [{"layout": f"{n}x1", "gpus": n, "model": "124M", "context": 4096, "tokens_per_s": 181300 * n * 0.98 ** math.log2(n),
         "efficiency": 0.98 ** math.log2(n), "kind": "weak"} for n in (1, 2, 4, 8)]
rows += [{"layout": f"1x{n}", "gpus": n, "model": "124M", "context": 262144, "tokens_per_s": 175000 * n * 0.94 ** math.log2(n),
          "kind": "sequence"} for n in (1, 2, 4, 8)]
plan = [{"layout": f"{n}x1", "gpus": n, "model": "124M", "context": 4096, "tokens_per_s": 181300 * n * 0.98 ** math.log2(n),
         "kind": "weak"} for n in (1, 8, 64, 512, 4096, 16384)]
with open(f"{folder}/scaling.json", "w") as file:
    json.dump({"scaling": rows, "plan": plan}, file)
