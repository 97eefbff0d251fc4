"""Training: the teacher, the plain student, its continuation alone and distilled. Resumable, fixed seeds, CPU.

Matrices are trained by Muon (momentum, orthogonalised), the rest by AdamW; matrix products run in bfloat16 where the
processor multiplies it. Loss counts on answer tokens only. Distillation: alpha * T^2 * KL(teacher || student) + (1 -
alpha) * cross-entropy.
Checkpoints stand in $STUDENT_CHECKPOINTS (default: `checkpoints/` beside this file, ignored by git).
"""

import dataclasses
import json
import os
import random
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import distributed, multiprocessing

import scenarios
import shipped
import vocabulary as vocab
from glm import Glm, Shape, generate
from grammar import Grammar

CHECKPOINTS = Path(os.environ.get("STUDENT_CHECKPOINTS", Path(__file__).parent / "checkpoints"))
TEMPERATURE = 3.0
ALPHA = 0.7
BATCH_TOKENS = 2048
HEAD_WEIGHT = 8.0  # verdict and cause are two tokens of sixty, but take the most reasoning
MEASURED = int(os.environ.get("STUDENT_MEASURED", "400"))  # held-out scenarios after a training
# Where the processor only emulates bfloat16, a step takes five times as long in it.
PRECISION = torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32
SEED_HELD_OUT = 2  # data seeds of the runs differ from it; the split itself is by hash

STUDENT = Shape(len(vocab.TOKENS), hidden=128, layers=4, heads=4, kv_heads=2, inter=352)
# A teacher begins as the student with one or two more, at first silent layers after each of its own, and goes on longer.
TEACHER = dataclasses.replace(STUDENT, layers=8)
DEEP_TEACHER = dataclasses.replace(STUDENT, layers=12)


@dataclasses.dataclass
class Run:
    """One training. `start`: run whose weights it begins with; `level`, `decay`: height of the rate, falling part.

    `workers`: processes that share each step, every one with a batch of its own.
    """

    shape: Shape
    steps: int
    data_seed: int
    teacher: str | None = None
    start: str | None = None
    level: float = 1.0
    decay: float = 0.6
    weight_seed: int = 11
    workers: int = 1

    def rate(self, step):
        """Share of the base rate at one step: a short rise, a plateau, a straight fall to zero."""
        return self.level * min(1.0, (step + 1) / 50) * min(1.0, (self.steps - step) / (self.decay * self.steps))


# The plain student goes on twice from the same weights over the same scenarios: alone and with the teacher. What
# distillation is worth is the difference of these two.
RUNS = {
    "first": Run(STUDENT, 3000, data_seed=1),
    "teacher": Run(TEACHER, 2000, data_seed=6, start="first", level=0.9, decay=1.0),
    "plain": Run(STUDENT, 3600, data_seed=5, start="first", level=0.9, decay=1.0),
    "continued": Run(STUDENT, 1500, data_seed=7, start="plain", level=0.4, decay=1.0),
    "distilled": Run(STUDENT, 1500, data_seed=7, start="plain", level=0.4, decay=1.0, teacher="teacher"),
    "long": Run(STUDENT, 1850, data_seed=8, start="distilled", level=0.6, decay=1.0, teacher="teacher", workers=2),
    "deep_teacher": Run(DEEP_TEACHER, 500, data_seed=9, start="long", level=0.5, decay=1.0),
    "deep": Run(STUDENT, 400, data_seed=12, start="long", level=0.4, decay=1.0, teacher="deep_teacher"),
}


class Muon:
    """Momentum whose update is orthogonalised by five Newton-Schulz steps (K. Jordan, 2024).

    `parts`: for each matrix the row counts of what is stacked in it (query, key, value; gate, up), taken one by one.
    """

    def __init__(self, parameters, parts, rate, momentum=0.95):
        self.parameters, self.rate, self.momentum = list(parameters), rate, momentum
        self.buffers = [torch.zeros_like(p) for p in self.parameters]
        self.parts = parts

    @torch.no_grad()
    def step(self, scale):
        """One update at `scale` times the base rate."""
        for p, rows, buffer in zip(self.parameters, self.parts, self.buffers):
            buffer.lerp_(p.grad, 1 - self.momentum)
            update = torch.cat([orthogonal(part) for part in p.grad.lerp(buffer, self.momentum).split(rows)])
            p.add_(update, alpha=-self.rate * scale)


def orthogonal(g):
    """The nearest half-orthogonal matrix, roughly."""
    tall = g.shape[0] > g.shape[1]
    x = (g.T if tall else g).to(PRECISION)
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.T if tall else x).float() * max(1.0, g.shape[0] / g.shape[1]) ** 0.5


def stacked_rows(name, parameter, shape):
    """Row counts of the matrices that one parameter stacks."""
    if "qkv" in name:
        return [shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.kv_heads * shape.head_dim]
    return [shape.inter, shape.inter] if "gate_up" in name else [parameter.shape[0]]


def batches(seed, skip):
    """Endless batches: ids and weights of the answer tokens, [B, S] each, similar lengths together.

    Two fifths of the rows are drills, verdict and cause alone: short, so they take a fifth of the time.
    """
    rng, chunk = random.Random(seed), 0
    while True:
        whole = scenarios.samples(seed * 100_000 + chunk, 3000, held_out=False)
        pool = [(p + a, len(p)) for _, _, p, a in whole]
        pool += [(p + a, len(p)) for p, a in scenarios.drills(seed * 100_000 + chunk, 2000)]
        pool.sort(key=lambda x: len(x[0]) + rng.random())
        found, rows = [], []
        for row in pool:
            if rows and len(row[0]) * (len(rows) + 1) > BATCH_TOKENS:
                found.append(rows)
                rows = []
            rows.append(row)
        rng.shuffle(found)  # the last, unfinished batch holds the longest rows and is dropped
        for rows in found:
            if skip > 0:
                skip -= 1
                continue
            width = max(len(ids) for ids, _ in rows)
            ids = torch.tensor([ids + [vocab.PAD] * (width - len(ids)) for ids, _ in rows])
            place = torch.arange(width)[None]
            first = torch.tensor([[n] for _, n in rows])
            end = torch.tensor([[len(ids)] for ids, _ in rows])
            weight = ((place >= first) & (place < end)).float()
            yield ids, torch.where((place >= first) & (place < first + 2), HEAD_WEIGHT * weight, weight)
        chunk += 1


def loss_of(model, teacher, ids, weights):
    """Mean loss per answer token, weighted: (what is trained on, cross-entropy)."""
    inputs, wanted, chosen = ids[:, :-1], ids[:, 1:], weights[:, 1:] > 0
    weight = weights[:, 1:][chosen] / weights.sum()
    with products():
        states, _ = model.hidden_states(inputs)
        logits = model.head(states[chosen])
    logits = logits.float()
    hard = (weight * F.cross_entropy(logits, wanted[chosen], reduction="none")).sum()
    if teacher is None:
        return hard, hard
    with torch.no_grad(), products():
        states, _ = teacher.hidden_states(inputs)
        target = F.log_softmax(teacher.head(states[chosen]).float() / TEMPERATURE, dim=-1)
    divergence = F.kl_div(F.log_softmax(logits / TEMPERATURE, dim=-1), target, log_target=True, reduction="none")
    soft = (weight * divergence.sum(-1)).sum()
    return ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * hard, hard


def products():
    """Within it, matrix products are made in `PRECISION`."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=PRECISION == torch.bfloat16)


def worker(rank, name):
    """One of several processes that train together."""
    torch.set_num_threads(1)
    if sys.platform == "linux":  # the workers are all here, whatever the machine's name resolves to
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    meeting = f"file://{(CHECKPOINTS / name).resolve()}.meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=RUNS[name].workers)
    train(name, rank)
    distributed.destroy_process_group()


def average_gradients(model, workers):
    """The mean over all workers, in one exchange."""
    gradients = [p.grad for p in model.parameters()]
    flat = torch.cat([g.reshape(-1) for g in gradients]) / workers
    distributed.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients])):
        gradient.copy_(part.view_as(gradient))


def train(name, rank=0):
    """Runs or continues one training and leaves it as `<name>.pt`."""
    run = RUNS[name]
    torch.manual_seed(run.weight_seed)
    model = grown(load(run.start), run.shape).train() if run.start else Glm(run.shape)
    teacher = load(run.teacher) if run.teacher else None
    inner = [(n, p) for n, p in model.named_parameters() if p.dim() == 2 and n.startswith("blocks")]
    matrices, parts = [p for _, p in inner], [stacked_rows(n, p, run.shape) for n, p in inner]
    others = [p for n, p in model.named_parameters() if not (p.dim() == 2 and n.startswith("blocks"))]
    muon = Muon(matrices, parts, rate=0.02)
    adam = torch.optim.AdamW(others, lr=0.004, betas=(0.9, 0.95), weight_decay=0.0)
    path, step, spent = CHECKPOINTS / f"{name}.part.pt", 0, 0.0
    if path.exists():
        saved = torch.load(path)
        step, spent, muon.buffers = saved["step"], saved["spent_s"], saved["muon"]
        model.load_state_dict(saved["model"])
        adam.load_state_dict(saved["adam"])
    started, recent = time.time() - spent, []
    print(f"{name}: {model.parameters_count()} parameters, {run.steps} steps from {step}", flush=True)
    for ids, weights in batches(run.data_seed + 10 * rank, step):
        scale = run.rate(step)
        for group in adam.param_groups:
            group["lr"] = 0.004 * scale
        loss, hard = loss_of(model, teacher, ids, weights)
        model.zero_grad(set_to_none=True)
        loss.backward()
        if run.workers > 1:
            average_gradients(model, run.workers)
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        muon.step(scale)
        adam.step()
        step += 1
        recent.append(hard.item())
        if step % 100 == 0 and rank == 0:
            mean, recent = sum(recent) / len(recent), []
            print(f"{name} step {step} cross-entropy {mean:.4f} {time.time() - started:.0f} s", flush=True)
        if rank == 0 and (step % 100 == 0 or step == run.steps):
            saved = {"step": step, "spent_s": time.time() - started, "muon": muon.buffers}
            torch.save({"model": model.state_dict(), "adam": adam.state_dict(), **saved}, path)
        if step >= run.steps:
            break
    if rank > 0:
        return
    figures = {"steps": run.steps, "training_s": round(time.time() - started), **measure(model)}
    finished = {"shape": run.shape.__dict__, "model": model.state_dict(), "figures": figures}
    torch.save(finished, CHECKPOINTS / f"{name}.pt")
    print(name, json.dumps(figures), flush=True)


def grown(model, shape):
    """The same function with more layers: behind each layer stand new ones that add nothing yet."""
    if model.shape == shape:
        return model
    larger, times = Glm(shape), shape.layers // model.shape.layers
    state = {name: w for name, w in model.state_dict().items() if not name.startswith("blocks")}
    larger.load_state_dict(state, strict=False)
    for n, block in enumerate(larger.blocks):
        block.load_state_dict(model.blocks[n // times].state_dict())
        if n % times:
            block.out.weight.data.zero_()
            block.down.weight.data.zero_()
    return larger


def load(name):
    """A finished model; where the checkpoint of the shipped run is gone, the shipped model itself."""
    path = CHECKPOINTS / f"{name}.pt"
    if not path.exists() and name == shipped.run():
        return shipped.model(STUDENT)
    saved = torch.load(path)
    model = Glm(Shape(**saved["shape"]))
    model.load_state_dict(saved["model"])
    return model.eval()


@torch.no_grad()
def measure(model, count=MEASURED, cases=None):
    """Greedy answers on `cases`, or on scenarios of two to six events whose combination training never saw.

    Every figure is a share or a mean.
    """
    cases = cases or list(scenarios.samples(SEED_HELD_OUT, count, held_out=True))
    answers = generate(model, [p for _, _, p, _ in cases], vocab.END_IDS)
    guided = generate(model, [p for _, _, p, _ in cases], vocab.END_IDS, grammar=Grammar)
    pairs = [(got, wanted) for got, (_, _, _, wanted) in zip(answers, cases)]
    total, tokens = 0.0, 0
    for _, _, prompt, wanted in cases:
        logits, _ = model(torch.tensor([(prompt + wanted)[:-1]]))
        total += F.cross_entropy(logits[0, len(prompt) - 1 :], torch.tensor(wanted), reduction="sum").item()
        tokens += len(wanted)
    return {
        "held_out": len(pairs),
        "exact": sum(got == wanted for got, wanted in pairs) / len(pairs),
        "verdict": sum(got[:1] == wanted[:1] for got, wanted in pairs) / len(pairs),
        "cause": sum(got[1:2] == wanted[1:2] for got, wanted in pairs) / len(pairs),
        "exact_en": share([got == wanted for (got, wanted), c in zip(pairs, cases) if c[1] == "en"]),
        "exact_zh": share([got == wanted for (got, wanted), c in zip(pairs, cases) if c[1] == "zh"]),
        "exact_with_grammar": share([got == c[3] for got, c in zip(guided, cases)]),
        "verdict_with_grammar": share([got[:1] == c[3][:1] for got, c in zip(guided, cases)]),
        "cause_with_grammar": share([got[1:2] == c[3][1:2] for got, c in zip(guided, cases)]),
        "exact_by_events": by_events(answers, cases),
        "exact_by_events_with_grammar": by_events(guided, cases),
        "cross_entropy": total / tokens,
    }


def by_events(answers, cases):
    """Number of events -> share of exact answers."""
    hits = {}
    for got, (facts, _, _, wanted) in zip(answers, cases):
        hits.setdefault(len(facts["events"]), []).append(got == wanted)
    return {n: share(hits[n]) for n in sorted(hits)}


def share(hits):
    """Part of `hits` that is true; 0 for none."""
    return sum(hits) / max(1, len(hits))


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("STUDENT_THREADS", "1")))
    CHECKPOINTS.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or RUNS:
        if (CHECKPOINTS / f"{name}.pt").exists():
            continue
        if RUNS[name].workers == 1:
            train(name)
        else:
            (CHECKPOINTS / f"{name}.meeting").unlink(missing_ok=True)
            multiprocessing.spawn(worker, (name,), nprocs=RUNS[name].workers)
