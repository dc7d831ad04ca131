"""Trains the peer on random tokens as it is told on standard input: each line is a number of steps, each answer one line of JSON with
their wall seconds. Arguments: a JSON object (see cpu.py)."""
import json
import sys
import time

import torch
from model import LanguageModel, optimizer_of


def main():
    a = json.loads(sys.argv[1])
    torch.manual_seed(1)
    torch.set_num_threads(a["threads"])
    torch.set_float32_matmul_precision("highest")
    model = LanguageModel(a["vocabulary"], a["layers"], a["heads"], a["width"], a["window"], a["chunk"])
    optimizer, run = optimizer_of(model), torch.compile(model) if a["compile"] else model
    token, label = (torch.randint(0, a["vocabulary"], (a["batch"], a["context"])) for _ in range(2))
    rows = a["micro_batch"] or a["batch"]

    def step():
        total = 0.0
        for first in range(0, a["batch"], rows):
            part = slice(first, first + rows)
            with torch.autocast("cpu", torch.bfloat16, enabled=a["dtype"] == "bf16"):
                loss = run(token[part], label[part], a["fast"]) * (rows / a["batch"])
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            loss = step()
        print(json.dumps(dict(wall_s=time.perf_counter() - start, loss=loss)), flush=True)


if __name__ == "__main__":
    main()
