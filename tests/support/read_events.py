#!/usr/bin/env python3
"""Reads a run's TensorBoard events with TensorBoard itself and compares them with its log.jsonl. Prints what it found.

    read_events.py RUN FILES      FILES: how many event files the run has
"""
import glob
import json
import math
import sys

from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator

run, files = sys.argv[1], int(sys.argv[2])
found = glob.glob(run + "/events.out.tfevents.*")
assert len(found) == files, found
log = [json.loads(line) for line in open(run + "/log.jsonl")]
steps = [line["step"] for line in log]
for reader in (event_accumulator.EventAccumulator, plugin_event_accumulator.EventAccumulator):
    events = reader(run, size_guidance={"scalars": 0, "histograms": 0, "tensors": 0})
    events.Reload()
    if reader is plugin_event_accumulator.EventAccumulator:  # as the web interface reads: everything becomes a tensor
        from tensorboard.util import tensor_util
        values = {tag: [(e.step, float(tensor_util.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
                  for tag in events.Tags()["tensors"] if not tag.startswith("step_sizes/")}
        histograms = {tag: [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]
                      for tag in events.Tags()["tensors"] if tag.startswith("step_sizes/")}
        sums = {tag: [(step, rows[:, 2].sum()) for step, rows in h] for tag, h in histograms.items()}
    else:
        values = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
        histograms = {tag: [(e.step, e.histogram_value) for e in events.Histograms(tag)] for tag in events.Tags()["histograms"]}
        sums = {tag: [(step, h.num) for step, h in hs] for tag, hs in histograms.items()}
        for tag, hs in histograms.items():
            for (step, h), line in zip(hs, log):
                mean = line["step_size"][tag.split("/")[1]]
                assert math.isclose(h.sum / h.num, mean, rel_tol=1e-4), (tag, step, h.sum / h.num, mean)
                assert h.min <= mean * 1.0001 and mean <= h.max * 1.0001 and sum(h.bucket) == h.num, (tag, step)
    keys = {"loss/trained": "loss", "loss/slow": "loss_slow", "optimizer/gradient_norm": "grad_norm", "speed/tokens_per_s": "tokens_per_s"}
    for tag, key in keys.items():
        assert [step for step, _ in values[tag]] == steps, (reader, tag, values[tag], steps)
        for (step, value), line in zip(values[tag], log):
            assert math.isclose(value, line[key], rel_tol=1e-3), (tag, step, value, line[key])
    for key in ("step_size", "decay", "state_norm", "fast_to_slow"):
        for name in log[0][key]:
            for (step, value), line in zip(values[f"{key}/{name}"], log, strict=True):
                assert step == line["step"] and math.isclose(value, line[key][name], rel_tol=1e-4), (key, name, step, value)
    assert sums and all([step for step, _ in s] == steps for s in sums.values()), (reader, sums, steps)
    assert all(count > 1 for s in sums.values() for _, count in s), sums
print(f"{len(steps)} steps, {len(values)} scalars, {len(sums)} histograms in {files} file(s)")
