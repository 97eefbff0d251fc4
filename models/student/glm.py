"""A compact GLM for training on a CPU, weight for weight the same as transformers' `GlmForCausalLM`.

Pre-norm blocks with RMSNorm, grouped-query attention, rotary embedding on half of each head, a fused gate-up projection
with SiLU, no biases, an untied head. Queries, keys and values are one matrix here, with the rows of a head in an order
that turns cheaply; `interleaved_rows` leads back to GLM's.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass
class Shape:
    """Architecture numbers; `head_dim` and `rotary_dim` in elements."""

    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inter: int
    head_dim: int = 32
    rotary_dim: int = 16
    rope_theta: float = 10000.0
    eps: float = 1e-5
    context: int = 256


def rotary_table(shape):
    """Cosine and sine of every position over half a head: [context, head_dim / 2] each; 1 and 0 where nothing turns."""
    steps = torch.arange(0, shape.rotary_dim, 2, dtype=torch.float32) / shape.rotary_dim
    angles = torch.arange(shape.context, dtype=torch.float32)[:, None] * shape.rope_theta**-steps
    angles = F.pad(angles, (0, (shape.head_dim - shape.rotary_dim) // 2))
    return angles.cos(), angles.sin()


def interleaved_rows(shape):
    """Where GLM's order of a head's elements finds its rows in ours: `ours[rows]` is GLM's, one head.

    GLM turns neighbours (0, 1), (2, 3), .. and passes the rest. Ours is [even turned, half of the rest, odd turned,
    other half], so that turning is one operation on two halves.
    """
    half, turned = shape.head_dim // 2, shape.rotary_dim // 2
    pairs = [row for n in range(turned) for row in (n, half + n)]
    return pairs + list(range(turned, half)) + list(range(half + turned, shape.head_dim))


def rotate(x, cos, sin):
    """Turns the two halves of each head against each other; x is [B, heads, S, head_dim]."""
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Block(nn.Module):
    """One layer."""

    def __init__(self, s):
        super().__init__()
        self.s = s
        self.norm_attention = nn.Parameter(torch.ones(s.hidden))
        self.norm_mlp = nn.Parameter(torch.ones(s.hidden))
        self.qkv = nn.Linear(s.hidden, (s.heads + 2 * s.kv_heads) * s.head_dim, bias=False)
        self.out = nn.Linear(s.heads * s.head_dim, s.hidden, bias=False)
        self.gate_up = nn.Linear(s.hidden, 2 * s.inter, bias=False)
        self.down = nn.Linear(s.inter, s.hidden, bias=False)

    def forward(self, x, cos, sin, past=None):
        """x [B, S, hidden]; `past` holds keys and values of earlier positions; returns x and the new past."""
        s, (b, t, _) = self.s, x.shape
        qkv = self.qkv(F.rms_norm(x, (s.hidden,), self.norm_attention, s.eps))
        qkv = qkv.view(b, t, s.heads + 2 * s.kv_heads, s.head_dim).transpose(1, 2)
        qk, v = qkv.split((s.heads + s.kv_heads, s.kv_heads), dim=1)
        q, k = rotate(qk, cos, sin).split((s.heads, s.kv_heads), dim=1)
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        share = s.heads // s.kv_heads
        y = F.scaled_dot_product_attention(
            q, k.repeat_interleave(share, 1), v.repeat_interleave(share, 1), is_causal=t > 1
        )
        x = x + self.out(y.transpose(1, 2).reshape(b, t, -1))
        gate, up = self.gate_up(F.rms_norm(x, (s.hidden,), self.norm_mlp, s.eps)).chunk(2, dim=-1)
        return x + self.down(up * F.silu(gate)), (k, v)


class Glm(nn.Module):
    """The whole model."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab, shape.hidden)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden))
        self.head = nn.Linear(shape.hidden, shape.vocab, bias=False)
        cos, sin = rotary_table(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02 if "embed" in name else p.shape[1] ** -0.5)
            if name.endswith(("out.weight", "down.weight")):
                p.data.mul_((2 * shape.layers) ** -0.5)

    def parameters_count(self):
        """Number of weights."""
        return sum(p.numel() for p in self.parameters())

    def hidden_states(self, ids, past=None):
        """ids [B, S] -> normalised states [B, S, hidden] and the new past."""
        start = 0 if past is None else past[0][0].shape[2]
        cos, sin = (x[start : start + ids.shape[1]] for x in (self.cos, self.sin))
        x, present = self.embed(ids), []
        for n, block in enumerate(self.blocks):
            x, kv = block(x, cos, sin, None if past is None else past[n])
            present.append(kv)
        return F.rms_norm(x, (self.shape.hidden,), self.norm, self.shape.eps), present

    def forward(self, ids, past=None):
        """ids [B, S] -> logits [B, S, vocab] and the new past. A call on a filled past takes one token per row."""
        states, present = self.hidden_states(ids, past)
        return self.head(states), present


@torch.no_grad()
def generate(model, prompts, end_ids, tokens_max=160, grammar=None):
    """Greedy answers to prompts (lists of ids), end token included; prompts of one length are run together.

    `grammar`: makes a state of a prompt, with `mask()` and `accept(id)`; without it every token may come.
    """
    answers = [None] * len(prompts)
    by_length = {}
    for n, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(n)
    for members in by_length.values():
        ids, past, active = torch.tensor([prompts[n] for n in members]), None, list(members)
        out = {n: [] for n in members}
        states = {n: grammar(prompts[n]) for n in members} if grammar else {}
        for _ in range(tokens_max):
            logits, past = model(ids, past)
            logits = logits[:, -1]
            if grammar:
                logits = logits + torch.stack([states[n].mask() for n in active])
            chosen = logits.argmax(-1)
            for n, token in zip(active, chosen.tolist()):
                out[n].append(token)
                if grammar:
                    states[n].accept(token)
            going = [j for j, token in enumerate(chosen.tolist()) if token not in end_ids]
            if not going:
                break
            if len(going) < len(active):
                active = [active[j] for j in going]
                keep = torch.tensor(going)
                past, chosen = [(k[keep], v[keep]) for k, v in past], chosen[keep]
            ids = chosen[:, None]
        for n in members:
            answers[n] = out[n]
    return answers
