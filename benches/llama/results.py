"""What speed.py and quality.py measured, as a table in a file: by default $LLAMA_WORK/RESULTS.md."""

import itertools
import sys
from pathlib import Path

import engines
import models
import quality

# In the order of the table.
CASES = ["prefill 128", "prefill 1024", "decode at 0", "decode at 1024", "start"]
TARGETS = {"prefill": ("at least 0.9", 0.9, 1), "decode": ("at least 1.0", 1.0, 1), "start": ("below 1.0", 1.0, -1)}


def main():
    speed = engines.kept(engines.WORK / "speed.json") or {"rows": []}
    kl = engines.kept(engines.WORK / "quality.json") or []
    if not (speed["rows"] or kl):
        sys.exit(f"{engines.WORK} holds no measurements: run.sh speed, run.sh quality")
    parts = [head(speed), "## Speed, start, memory", *speed_tables(speed["rows"]), short_of(speed["rows"])]
    if kl:
        parts += ["## Quality", quality_table(kl)]
    if (reuse := engines.WORK / "reuse.txt").exists():
        parts += ["## Reuse, batching, and the student beside its teacher", "`cargo bench --bench reuse`, one core:",
                  f"```text\n{reuse.read_text().rstrip()}\n```"]
    path = Path(sys.argv[1] if len(sys.argv) > 1 else engines.WORK / "RESULTS.md")
    path.write_text("\n\n".join(parts) + "\n")
    print(f"written: {path}", file=sys.stderr)


def head(speed):
    gb = ", ".join(f"{gb} GB/s with {threads}" for threads, gb in sorted(speed.get("read_gb_per_s", {}).items()))
    when = sorted(row["time"] for row in speed["rows"])
    loads = sorted(row["load"] for row in speed["rows"])
    lines = [
        "# The engine against llama.cpp",
        "",
        "Written by `benches/llama/run.sh table`; same weights, same cores, the two in turn, medians of the rounds' ratios. llama.cpp is",
        "built twice where the processor has matrix tiles (`native` with them, `vector` without) and the faster one is the peer.",
        "`decode at N`: 64 tokens written behind N; `start`: from opening the files (in the page cache) to the first logits, `cold`",
        "with the files dropped from it. MiB resident is the peak, mapped weights included; own is what no file stands behind; none",
        "where the process was over before it could be looked at. Decoding is compared with what reading memory gave just before:",
        "a model that fits the caches is faster than memory, and so is any where others took some of it during that measurement.",
        "",
        f"- machine: {speed.get('machine', '')}; reading memory gives {gb} threads",
        f"- versions: {speed.get('versions', '')}",
    ]
    if when:
        lines.append(f"- measured {when[0]} to {when[-1]} UTC, load average {loads[0]:.1f} to {loads[-1]:.1f}: above 1 others worked on "
                     "the machine too, and absolute figures are lower than it could give")
    return "\n".join(lines + [f"- {told}" for told in speed.get("systems", []) + speed.get("notes", [])])


def speed_tables(rows):
    for shape in dict.fromkeys(row["shape"] for row in rows):
        lines = [
            f"### {shape}",
            "",
            "| format | threads | what | ours | llama.cpp | build | ratio | target | of memory's speed | MiB resident | own |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [line(row) for row in sorted((r for r in rows if r["shape"] == shape), key=order)]
        yield "\n".join(lines)


def order(row):
    return row["format"], row["threads"], CASES.index(row["case"])


def line(row):
    ours, theirs = row["median"].get("outpost"), row["median"][row["peer"]]
    kind = row["case"].split()[0]
    both = lambda key, of=1: " / ".join("" if side is None or not side[key] else f"{side[key] / of:.0f}" for side in (ours, theirs))
    if kind == "start":
        told = ["" if side is None else f"{side['first_token_ms']:.1f} ms, cold {side['cold_ms']:.0f}" for side in (ours, theirs)]
    else:
        told = ["" if side is None else f"{side['tokens_per_s']:.1f} tokens/s" for side in (ours, theirs)]
    ratio = "" if ours is None else f"{row['ratio']:.2f}" + ("" if meets(row) else " (short)")
    share = f"{row['of_bandwidth'] * 100:.0f} % ({row['gb_per_s']:.1f} GB/s)" if "of_bandwidth" in row else ""
    cells = [row["format"], row["threads"], row["case"], *told, row["peer"].removeprefix("llama.cpp "), ratio, TARGETS[kind][0], share,
             both("rss", 1 << 20), both("anonymous", 1 << 20)]
    return "| " + " | ".join(map(str, cells)) + " |"


def meets(row):
    _, target, sign = TARGETS[row["case"].split()[0]]
    return sign * row["ratio"] >= sign * target


def short_of(rows):
    rows = [row for row in rows if "ratio" in row]
    short = [row for row in rows if not meets(row)]
    seen = [(row, row["median"]["outpost"]["rss"], row["median"][row["peer"]]["rss"]) for row in rows]
    seen = [(row, ours, theirs) for row, ours, theirs in seen if ours and theirs]
    heavier = [row for row, ours, theirs in seen if ours > theirs]
    names = ", ".join(dict.fromkeys(row["shape"] for row in heavier))
    key = ("shape", "format", "threads", "case")
    measured = {tuple(r[k] for k in key) for r in rows}
    shapes = {row["shape"] for row in rows}
    whole = [shape for shape in models.SHAPES if shape not in shapes]
    wanted = itertools.product(models.SHAPES, ("q4_0", "q8_0"), (1, 2), CASES)
    missing = [row for row in wanted if row not in measured and row[0] in shapes]
    told = f"{len(rows) - len(short)} of {len(rows)} rows meet their target; of {len(seen)} that were long enough "
    told += "to be looked at, resident memory is higher than llama.cpp's in " + (f"{len(heavier)} ({names})." if heavier else "none.")
    return told + "".join(f" Not measured: {shape}." for shape in whole) + "".join(
        f" Not measured: {shape} {format}, {threads} threads, {case}." for shape, format, threads, case in missing
    )


def quality_table(rows):
    lines = [
        "Against f32 weights with f32 keys and values in llama.cpp; keys and values in f16. `trained` is the shipped student over its",
        "own golden answers, the rest are random weights. The last column is the KL divergence by that of llama.cpp's better build",
        "with the standard error of the difference: ours is no worse where it is not above 1 by more than twice the error.",
        "",
        "| model | format | engine | KL mean | KL p99 | KL max | same first token | perplexity | KL by llama.cpp's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(f"| {r['model']} | {r['format']} | {r['engine']} | {r['kl']:.3e} | {r['kl_p99']:.3e} | {r['kl_max']:.3e} | "
                     f"{r['same_first']:.4f} | {r['perplexity']:.5f} | {quality.times(r)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
