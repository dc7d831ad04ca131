"""Trains or evaluates the peer on random tokens as it is told on standard input: each line is a number of steps, each answer one line of JSON
with their wall seconds and the peak of the GPU's memory. Arguments: a JSON object (see compare.py)."""
import contextlib
import json
import sys
import time

import torch
from model import LanguageModel, optimizer_of


def main():
    a = json.loads(sys.argv[1])
    device = torch.device(a["device"])
    torch.manual_seed(1)
    torch.set_num_threads(a["threads"])
    torch.set_float32_matmul_precision("highest")
    model = LanguageModel(a["vocabulary"], a["layers"], a["heads"], a["width"], a["window"], a["chunk"]).to(device)
    optimizer, run = optimizer_of(model), torch.compile(model) if a["compile"] else model
    token, label = (torch.randint(0, a["vocabulary"], (a["batch"], a["context"]), device=device) for _ in range(2))
    rows = a["micro_batch"] or a["batch"]
    lower = lambda: torch.autocast(device.type, torch.bfloat16, enabled=a["dtype"] == "bf16")

    def loss_of(first):
        part = slice(first, first + rows)
        with lower():
            return run(token[part], label[part], a["fast"]) * (rows / a["batch"])

    def train():
        total = torch.zeros((), device=device)
        for first in range(0, a["batch"], rows):
            loss = loss_of(first)
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    def evaluate():
        return sum(loss_of(first) for first in range(0, a["batch"], rows))

    step = evaluate if a["evaluate"] else train
    with torch.no_grad() if a["evaluate"] else contextlib.nullcontext():
        for line in sys.stdin:
            start = time.perf_counter()
            for _ in range(int(line)):
                loss = step()
            loss = float(loss)  # waits for the GPU
            peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
            print(json.dumps(dict(wall_s=time.perf_counter() - start, loss=loss, peak_memory_bytes=peak)), flush=True)


if __name__ == "__main__":
    main()
