"""Puts the measurements of scaling.sh into one JSON file and one table. Arguments: the work folder, the fwl program, `yes` on
CPUs, number of ranks, seconds taken, the JSON file to write. Ends with 1 when a check failed."""
import json
import os
import re
import subprocess
import sys

work, fwl, on_cpu, ranks, seconds, target = sys.argv[1:7]
on_cpu, ranks = on_cpu == "yes", int(ranks)
failures = []


def rows():
    for line in open(f"{work}/index.tsv"):
        name, section, kind, model, gpus, layout, context, code, took = line.rstrip("\n").split("\t")
        path = f"{work}/{name}.json"
        result = json.load(open(path)) if os.path.exists(path) else None
        yield dict(name=name, section=section, kind=kind, model=model, gpus=int(gpus), layout=layout, context=int(context),
                   code=int(code), seconds=int(took), result=result)


rows = list(rows())
for r in rows:
    if r["code"] != 0:
        failures.append(f"{r['name']}: exit code {r['code']}")
done = [r for r in rows if r["code"] == 0 and r["result"]]


def verification():
    for r in rows:
        if r["section"] == "verify":
            result = r["result"] or {}
            yield dict(layout=r["layout"], passed=r["code"] == 0, worst=result.get("worst"), dtype=result.get("dtype"), seconds=r["seconds"])


def per_gpu(r):
    return r["result"]["tokens_per_s"]["median"] / r["gpus"]


def base_of(r):
    """One GPU's row of the same line. A length that one GPU does not hold is held against the longest one it does."""
    ones = [o for o in done if o["section"] == "scaling" and o["kind"] == r["kind"] and o["model"] == r["model"] and o["gpus"] == 1]
    same = [o for o in ones if o["context"] == r["context"]]
    return same[0] if same else max(ones, key=lambda o: o["context"], default=None)


def scaling_row(r):
    b, base = r["result"], base_of(r)
    return dict(layout=r["layout"], gpus=r["gpus"], model=r["model"], context=r["context"], kind=r["kind"],
                global_batch=b["global_batch"], tokens_per_s=b["tokens_per_s"]["median"], range=b["tokens_per_s"],
                efficiency=per_gpu(r) / per_gpu(base) if base else None, base_context=base["context"] if base else None,
                step_s=b["step_s"], hidden_share=b["hidden_share"], communication_s=b["communication_s"],
                bytes_sent_per_step=b["bytes_sent_per_step"], bytes_predicted_per_step=b["bytes_predicted_per_step"],
                peak_memory_bytes=b["peak_memory_bytes"])


def planned(r, calibration):
    """The prediction of `fwl plan` for the row's own layout, rates from this machine's single-GPU rows."""
    config = f"{work}/planned.yaml"
    open(config, "w").write(r["result"]["config"])
    command = [fwl, "plan", config, "--gpus", str(r["gpus"]), "--calibrate", calibration, "--json", f"{work}/planned.json"]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        failures.append(f"fwl plan for {r['name']}: {ran.stderr.strip()[:200]}")
        return None
    layouts = json.load(open(f"{work}/planned.json"))["plan"]["layouts"]
    return next((p for p in layouts if p["layout"] == r["layout"]), None)


def predictions(measurements):
    if on_cpu:
        return []
    ones = [m for m in measurements if m["layout"] == "1x1"]
    calibration = f"{work}/calibration.json"
    json.dump({"measurements": ones}, open(calibration, "w"))
    result = []
    for r in done:
        plan = planned(r, calibration) if r["section"] == "scaling" else None
        if plan:
            result.append(dict(layout=r["layout"], gpus=r["gpus"], model=r["model"], context=r["context"], kind=r["kind"],
                               tokens_per_s=plan["tokens_per_s"], memory_bytes=plan["memory_bytes"]["total"],
                               error=plan["tokens_per_s"] / r["result"]["tokens_per_s"]["median"] - 1))
    return result


def exchanges():
    """Step times of each algorithm at a size, and whether the one that `auto` takes is the fastest (or within 2 %)."""
    found = [r for r in done if r["section"] == "exchange"]
    for what in ("state", "window", "full"):
        field = "state_exchange" if what == "state" else "attention_exchange"
        for gpus in sorted({r["gpus"] for r in found}):
            here = {r["kind"]: r["result"] for r in found if r["gpus"] == gpus}
            auto = here.get("full-auto") if what == "full" else here.get("state-auto")
            times = {b[field]: b["step_s"] for kind, b in here.items()
                     if kind.startswith(what + "-") and not kind.endswith("auto")}
            if auto is None or not times:
                continue
            picked = auto[field]
            times.setdefault(picked, auto["step_s"])  # `halo` is measured as what auto takes
            best = min(times, key=times.get)
            yield dict(what=dict(state="state", window="attention with a window", full="attention over the whole context")[what],
                       gpus=gpus, context=auto["context"], step_s=times, auto=picked, best=best,
                       right=times[picked] <= 1.02 * times[best])


def stop_results():
    path = f"{work}/stops.tsv"
    for line in open(path) if os.path.exists(path) else []:
        signal, victim, code, start, ended = line.rstrip("\n").split("\t")
        text = open(f"{work}/stop-{signal}.txt").read()
        # What a rank says comes before what the launcher says of it.
        named = sorted((l for l in text.splitlines() if re.search(rf"\brank {victim}\b", l)), key=lambda l: "mpirun" in l)
        result = dict(signal="SIG" + signal, rank=int(victim), of=ranks, exit_code=int(code), seconds_until_all_ended=round(float(ended) - float(start), 2),
                      late_rank_named=bool(named), named_by="launcher" if named and "mpirun" in named[0] else "fwl" if named else None, said=named[0].strip()[:300] if named else None)
        if int(code) in (0, 124):
            failures.append(f"SIG{signal}: exit code {code}")
        if not named:
            failures.append(f"SIG{signal}: rank {victim} is not named")
        yield result


def resumption():
    path = f"{work}/resume.tsv"
    if not os.path.exists(path):
        return None
    half, step, code, last = open(path).read().rstrip("\n").split("\t", 3)
    try:
        reached = json.loads(last)["step"]
    except (ValueError, KeyError):
        reached = None
    result = dict(ranks=int(half), from_step=int(step), exit_code=int(code), last_step=reached, passed=code == "0" and reached is not None and reached > int(step))
    if not result["passed"]:
        failures.append(f"resume on {half} ranks: exit code {code}")
    return result


measurements = [dict(r["result"], name=r["name"], gpu="h200") for r in done if r["section"] in ("scaling", "exchange")]
device = "CPU" if on_cpu else subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True).stdout.split("\n")[0]
for m in measurements:
    m["gpu"] = next((g for g in ("a100", "h100", "h200", "b200") if g in device.lower()), "h200")
scaling = [scaling_row(r) for r in done if r["section"] == "scaling"]
plan = predictions(measurements)
kill = list(stop_results())
report = dict(device=device, ranks=ranks, seconds=int(seconds), verify=list(verification()), scaling=scaling, plan=plan, exchanges=list(exchanges()),
              kill=kill, resume=resumption(), skipped=open(f"{work}/skipped").read().splitlines(), measurements=measurements)
if not any(r["section"] == "scaling" for r in done):
    failures.append("nothing was measured")
report["failures"] = failures
json.dump(report, open(target + ".part", "w"), indent=1)
os.replace(target + ".part", target)

print(f"\n{device}, {ranks} ranks, {seconds} s")
print(f"{'verify':9} {'worst':>9}")
for v in report["verify"]:
    print(f"{v['layout']:9} {v['worst'] if v['worst'] is not None else float('nan'):9.1e} {'ok' if v['passed'] else 'FAILED'}")
print(f"{'kind':9} {'model':9} {'layout':7} {'T':>7} {'B':>5} {'tokens/s':>11} {'efficiency':>10} {'plan':>8} {'hidden':>7} {'grad MB':>8} {'attn MB':>8} {'state MB':>8} {'GB':>6}")
for s in scaling:
    p = next((p for p in plan if all(p[k] == s[k] for k in ("layout", "model", "context", "kind"))), None)
    sent = s["bytes_sent_per_step"]
    error = f"{100 * p['error']:+.1f} %" if p else ""
    print(f"{s['kind']:9} {s['model']:9} {s['layout']:7} {s['context']:7} {s['global_batch']:5} {s['tokens_per_s']:11,.0f} {100 * (s['efficiency'] or float('nan')):8.1f} % {error:>8} "
          f"{max(0, 100 * s['hidden_share']):5.0f} % {sent['gradients'] / 1e6:8.1f} {sent['attention'] / 1e6:8.1f} {sent['state'] / 1e6:8.1f} {s['peak_memory_bytes'] / 1e9:6.2f}")
for e in report["exchanges"]:
    times = ", ".join(f"{name} {1e3 * t:.1f} ms" for name, t in e["step_s"].items())
    print(f"{e['gpus']} ranks, {e['what']}: {times}; auto takes {e['auto']}: {'right' if e['right'] else 'WRONG, ' + e['best'] + ' is faster'}")
for k in kill:
    print(f"{k['signal']} to rank {k['rank']} of {k['of']}: all ended after {k['seconds_until_all_ended']} s, exit code {k['exit_code']}, rank {'named by ' + k['named_by'] if k['late_rank_named'] else 'NOT named'}")
if report["resume"]:
    r = report["resume"]
    print(f"resume on {r['ranks']} ranks from step {r['from_step']}: {'ok, step ' + str(r['last_step']) if r['passed'] else 'FAILED'}")
for name in report["skipped"]:
    print(f"skipped (no time left): {name}")
for f in failures:
    print(f"FAILED: {f}")
sys.exit(1 if failures else 0)
