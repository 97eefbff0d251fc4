"""Speed, memory and start, ours and llama.cpp's in turn, every case a process of its own on named cores.

Rows are kept in one JSON file and measured anew when asked for, so that a run may be parted; `run.sh table` writes them down.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import engines
import models

# What is asked: tokens of the prompt, tokens written, tokens in the context before.
CASES = {
    "prefill 128": (128, 0, 0),
    "prefill 1024": (1024, 0, 0),
    "decode at 0": (0, 64, 0),
    "decode at 1024": (0, 64, 1024),
}
BITS = {"q4_0": 4.5, "q8_0": 8.5}
# A model of microseconds is asked often enough in a process to be measured at all.
REPEAT = {"student": 20, "100m": 3, "edge-1.5b": 1}


def arguments():
    parser = argparse.ArgumentParser(prog="run.sh speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small models, one format, short prompts, two rounds")
    parser.add_argument("--shapes", nargs="+", default=list(models.SHAPES), choices=models.SHAPES)
    parser.add_argument("--formats", nargs="+", default=list(BITS), choices=BITS)
    parser.add_argument("--threads", nargs="+", default=[1, 2], type=int)
    parser.add_argument("--cases", nargs="+", default=[*CASES, "start"], choices=[*CASES, "start"])
    parser.add_argument("--rounds", default=5, type=int, help="times that every engine is asked, in turn")
    parser.add_argument("--missing", action="store_true", help="leave out what was measured before")
    parser.add_argument("--only-llama", action="store_true", help="measure the peer alone")
    parser.add_argument("--json", default=str(engines.WORK / "speed.json"), help="where everything measured goes")
    args = parser.parse_args()
    if args.quick:
        args.shapes, args.formats, args.rounds = ["student", "100m"], ["q4_0"], 2
        args.cases = ["prefill 128", "decode at 0", "start"]
    return args


def main():
    args = arguments()
    ours = [] if args.only_llama else [engines.Outpost()]
    sides = ours + engines.peers()
    bandwidth = {threads: read_bandwidth(threads) for threads in args.threads}
    report = engines.kept(args.json) or {"rows": []}
    report |= {"machine": machine(), "versions": engines.versions(), "read_gb_per_s": report.get("read_gb_per_s", {})}
    report["read_gb_per_s"] |= {str(threads): read_bandwidth(threads) for threads in args.threads}
    for shape, format, threads, case in itertools.product(args.shapes, args.formats, args.threads, args.cases):
        row = {"shape": shape, "format": format, "threads": threads, "case": case}
        same = [r for r in report["rows"] if all(r[key] == value for key, value in row.items())]
        if args.missing and same:
            continue
        gguf = models.gguf_of(engines.WORK / "gguf", shape, format)
        asked = worthwhile(sides, row, report["rows"])
        row |= {"load": os.getloadavg()[0], "time": time.strftime("%Y-%m-%d %H:%M")}
        row["runs"] = start(asked, gguf, threads, args.rounds) if case == "start" else \
            bench(asked, gguf, threads, CASES[case], REPEAT[shape], args.rounds)
        judge(row, report["read_gb_per_s"][str(threads)])
        report["rows"] = [r for r in report["rows"] if r not in same] + [row]
        report["systems"] = sorted({*report.get("systems", []), *(f"{s.name}: {s.system(gguf)}" for s in engines.peers())})
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
        print(text(row), flush=True)


def worthwhile(sides, row, rows):
    """A build that lost the short case by a tenth is not asked the long one, which takes minutes."""
    short = {"prefill 1024": "prefill 128", "decode at 1024": "decode at 0"}.get(row["case"])
    for known in rows:
        if known["case"] == short and all(known[key] == row[key] for key in ("shape", "format", "threads")):
            best = known["median"][known["peer"]]["tokens_per_s"]
            slow = [name for name, m in known["median"].items() if m["tokens_per_s"] < 0.9 * best and name != "outpost"]
            return [side for side in sides if side.name not in slow]
    return sides


def bench(sides, gguf, threads, case, repeat, rounds):
    runs = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            measured, _ = side.bench(gguf, threads, *case, repeat)
            runs[side.name].append(measured)
    return runs


def start(sides, gguf, threads, rounds):
    runs = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            engines.forget(side.files(gguf))
            cold = side.start(gguf, threads)
            warm = side.start(gguf, threads)
            runs[side.name].append({"cold_ms": cold["first_token_ms"], **warm})
    return runs


def judge(row, gb_per_s):
    """Adds medians per engine and, against the best of llama.cpp's builds, the median of the rounds' ratios."""
    key = "first_token_ms" if row["case"] == "start" else "tokens_per_s"
    # A run that was over before it could be looked at has no memory to tell of.
    row["median"] = {name: {k: median([run[k] for run in runs if run[k]] or [0]) for k in runs[0]} for name, runs in row["runs"].items()}
    better = min if key == "first_token_ms" else max
    peers = [name for name in row["runs"] if name != "outpost"]
    row["peer"] = better(peers, key=lambda name: row["median"][name][key])
    if "outpost" in row["runs"]:
        pairs = zip(row["runs"]["outpost"], row["runs"][row["peer"]])
        row["ratio"] = median(ours[key] / theirs[key] for ours, theirs in pairs)
    if row["case"].startswith("decode"):
        row["read_bytes"] = read_bytes(models.SHAPES[row["shape"]], row["format"], CASES[row["case"]])
        name = "outpost" if "outpost" in row["runs"] else row["peer"]
        row["gb_per_s"] = row["median"][name]["tokens_per_s"] * row["read_bytes"] / 1e9
        row["of_bandwidth"] = row["gb_per_s"] / gb_per_s


def read_bytes(shape, format, case):
    """Bytes that one decoded token reads: every matrix but the embedding, and keys and values in f16."""
    weights = (shape.matrices - shape.vocab * shape.hidden) * BITS[format] / 8
    context = case[2] + case[1] / 2
    return weights + context * shape.layers * 2 * shape.kv_heads * shape.head_dim * 2


def text(row):
    key, unit = ("first_token_ms", "ms") if row["case"] == "start" else ("tokens_per_s", "t/s")
    sides = ", ".join(f"{name} {m[key]:.1f}" for name, m in row["median"].items())
    ratio = f", ratio {row['ratio']:.2f}" if "ratio" in row else ""
    return f"{row['shape']} {row['format']} {row['threads']} threads, {row['case']}: {sides} {unit}{ratio}"


def read_bandwidth(threads):
    """Measured here and now, with all cores that are asked."""
    binary = engines.WORK / "bandwidth"
    source = Path(__file__).with_name("bandwidth.cpp")
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["c++", "-O3", "-march=native", "-std=c++17", "-pthread", source, "-o", binary], check=True)
    return float(engines.run([binary, threads], threads)[0])


def machine():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"The load average is {load:.1f}: something else runs, and these figures tell of that too.", file=sys.stderr)
    return f"{cpu}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
