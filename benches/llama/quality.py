"""What quantising costs: KL divergence and perplexity against f32 weights, ours and llama.cpp's on the same blocks.

The shipped student is asked about its own golden answers, a random 100 M model about random tokens. f32 is llama.cpp's
(weights, keys and values), and how far our own f32 is from it stands beside. Perplexity is that of the golden answers'
tokens; where there are no real answers, that of text which the f32 model itself would write.
"""

import argparse
import json
import sys

import engines
import models
import numpy as np

FORMATS = ["f32", "q8_0", "q4_0"]


def main():
    parser = argparse.ArgumentParser(prog="run.sh quality", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["trained", "100m"], choices=["trained", "100m"])
    parser.add_argument("--only-llama", action="store_true", help="measure the peer alone")
    parser.add_argument("--json", default=str(engines.WORK / "quality.json"), help="where everything measured goes")
    args = parser.parse_args()
    rows = [row for row in engines.kept(args.json) or [] if row["model"] not in args.models]
    for row in (row for name in args.models for row in compare(name, args.only_llama)):
        rows.append(row)
        print(f"{row['model']} {row['format']}, {row['engine']}: KL {row['kl']:.3e}, by llama.cpp's {times(row)}, "
              f"perplexity {row['perplexity']:.5f}", flush=True)
    with open(args.json, "w") as file:
        json.dump(rows, file, indent=1)
    worse = [row for row in rows if row["engine"] == "outpost" and row["ratio"] and row["ratio"] - 2 * row["error"] > 1.0]
    for row in worse:
        print(f"worse than llama.cpp: {row['model']} {row['format']}, KL {times(row)}", file=sys.stderr)
    sys.exit(bool(worse))


def times(row):
    return "" if row["ratio"] is None else f"{row['ratio']:.3f} ± {row['error']:.3f}"


def compare(name, only_llama):
    """One row per format and engine; `ratio` is the mean KL divergence by that of llama.cpp's best build, `error` its standard error."""
    folder = engines.WORK / "gguf"
    if name == "trained":
        sequences, first = models.golden_sequences()
        path = lambda format: models.trained_gguf(folder, format)
        vocab = models.SHAPES["student"].vocab
    else:
        rng = np.random.default_rng(7)
        vocab = models.SHAPES[name].vocab
        sequences, first = [rng.integers(0, vocab, 256).tolist() for _ in range(4)], None
        path = lambda format: models.gguf_of(folder, name, format)
    peers = engines.peers()
    reference = log_softmax(peers[0].logits(path("f32"), sequences, "f32"), vocab)
    sides = peers if only_llama else [engines.Outpost(), *peers]
    for format in FORMATS:
        rows = []
        for side in sides:
            # In f32 the arithmetic alone is compared, so keys and values are whole too.
            logits = log_softmax(side.logits(path(format), sequences, "f32" if format == "f32" else "f16"), vocab)
            measured, kl = measure(reference, logits, sequences, first)
            rows.append(({"model": name, "format": format, "engine": side.name, **measured}, kl))
        best = min((kl for row, kl in rows if row["engine"] != "outpost"), key=np.mean)
        for row, kl in rows:
            # Both sides have the same tokens: the error is that of their difference.
            error = (kl - best).std() / len(kl) ** 0.5
            row["ratio"], row["error"] = (kl.mean() / best.mean(), error / best.mean()) if best.mean() > 0 else (None, None)
            yield row


def log_softmax(raw, vocab):
    logits = np.frombuffer(raw, "<f4").reshape(-1, vocab).astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def measure(reference, logits, sequences, first):
    p = np.exp(reference)
    kl = (p * (reference - logits)).sum(-1)
    if first is None:
        loss = -(p * logits).sum(-1).mean()
    else:
        losses, row = [], 0
        for ids, begin in zip(sequences, first):
            losses += [-logits[row + i - 1, ids[i]] for i in range(begin, len(ids))]
            row += len(ids)
        loss = np.mean(losses)
    same = (reference.argmax(-1) == logits.argmax(-1)).mean()
    told = {"kl": kl.mean(), "kl_p99": np.quantile(kl, 0.99), "kl_max": kl.max(), "same_first": same, "perplexity": float(np.exp(loss))}
    return told, kl


if __name__ == "__main__":
    main()
