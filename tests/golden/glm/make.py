"""Makes the parity fixtures: tiny random GLM checkpoints and what transformers says about them (see README.md).

    pip install -r requirements.txt && python make.py [NAME ...]

Every directory is written as `save_pretrained` writes it, then loaded again, and only the loaded model is asked: what
config.json does not say is not in the expected numbers either.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import Glm4Config, Glm4ForCausalLM, GlmConfig, GlmForCausalLM
from transformers.utils import logging

HERE = Path(__file__).parent
PROMPT, DECODED, GREEDY = 24, 64, 256
# A greedy token must win by this much, and f32 must be this close to f64: rounding can't flip it.
MARGIN_MIN, ROUNDING_MAX = 0.01, 3e-5
CANDIDATES = 192  # prompts tried; the one that visits most different tokens is kept
SPECIAL = "<|endoftext|> [gMASK] <sop> <eop> <|system|> <|user|> <|assistant|> <|observation|>".split()
MERGES = [tuple(m.split()) for m in "Ġ t|h e|Ġt he|Ġ a|i n|o n|e r|Ġ s|r e|a n|an d|Ġ and|1 2|å ¤".split("|")]


@dataclass
class Case:
    name: str
    seed: int
    family: str = "glm"
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    inter: int = 96
    layers: int = 2
    vocab: int = 160
    rotary: float | None = 0.5  # None: not in config.json, where it means 0.5
    theta: float = 10_000.0
    eps: float = 1.5625e-07
    bias: bool = True
    tied: bool = False
    dtype: torch.dtype = torch.float32
    shard: str = "1GB"
    legacy: bool = False  # rope_theta and partial_rotary_factor at the top level, torch_dtype
    tokenizer: bool = False


CASES = [
    Case("glm_bias", 1, hidden=56, inter=80, vocab=128),
    Case("glm_edge", 2, kv_heads=1, rotary=1.0, theta=500_000.0, eps=1e-5, bias=False, tied=True, vocab=288,
         dtype=torch.bfloat16, legacy=True, tokenizer=True),
    Case("glm_sharded", 3, hidden=48, heads=8, kv_heads=8, head_dim=8, rotary=None, theta=1e6, eps=1e-6, tied=True, inter=64,
         vocab=128, shard="64KB"),
    Case("glm4_bias", 4, "glm4", heads=8, kv_heads=1, vocab=288, theta=10_000.0, eps=1e-5, dtype=torch.bfloat16,
         shard="90KB", tokenizer=True),
    # Nothing here is a multiple of a block of 32 or a panel of 16.
    Case("glm4_odd", 5, "glm4", hidden=50, heads=8, kv_heads=4, head_dim=6, inter=70, layers=3, vocab=150, rotary=1.0,
         theta=25_000.0, eps=3e-3, bias=False, tied=True, dtype=torch.float16),
    Case("glm4_deep", 6, "glm4", hidden=32, heads=2, kv_heads=2, head_dim=32, inter=40, layers=4, vocab=128,
         theta=50_000.0, eps=1e-2, dtype=torch.bfloat16),
]


def config_of(case):
    kind = {"glm": GlmConfig, "glm4": Glm4Config}[case.family]
    rope = {"rope_type": "default", "rope_theta": case.theta, "partial_rotary_factor": case.rotary or 0.5}
    return kind(
        vocab_size=case.vocab, hidden_size=case.hidden, intermediate_size=case.inter, num_hidden_layers=case.layers,
        num_attention_heads=case.heads, num_key_value_heads=case.kv_heads, head_dim=case.head_dim,
        max_position_embeddings=512, rms_norm_eps=case.eps, tie_word_embeddings=case.tied, rope_parameters=rope,
        attention_bias=case.bias, eos_token_id=end_ids(case), pad_token_id=end_ids(case)[0],
    )


def end_ids(case):
    """endoftext, user, observation: in a real tokenizer these stand behind the 256 bytes and the merges."""
    first = 256 + len(MERGES) if case.tokenizer else case.vocab - len(SPECIAL)
    return [first, first + SPECIAL.index("<|user|>"), first + SPECIAL.index("<|observation|>")]


def fill(model, case):
    """Wide weights: attention that looks at something, logits that are not flat, norms and biases that matter."""
    rng = np.random.default_rng(case.seed)
    for name, weight in model.named_parameters():
        noise = torch.from_numpy(rng.standard_normal(tuple(weight.shape)).astype(np.float32))
        if "norm" in name:
            weight.data = 1.0 + 0.25 * noise
        elif name.endswith("bias"):
            weight.data = 0.5 * noise
        else:
            gain = 3.0 if "embed" in name or "head" in name else 1.5
            weight.data = gain * noise / weight.shape[-1] ** 0.5


def save(model, case, home):
    shutil.rmtree(home, ignore_errors=True)
    model.to(case.dtype).save_pretrained(home, max_shard_size=case.shard)
    path = home / "config.json"
    config = json.loads(path.read_text())
    rope = config["rope_parameters"]
    if case.rotary is None:
        del rope["partial_rotary_factor"]
    if case.legacy:
        del config["rope_parameters"]
        config |= {"rope_theta": rope["rope_theta"], "partial_rotary_factor": rope["partial_rotary_factor"]}
        config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2) + "\n")
    if case.tokenizer:
        tokenizer(case).save(str(home / "tokenizer.json"))


def tokenizer(case):
    """All 256 bytes, a few merges, the special tokens at the end ids that the configuration names."""
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet()) + [left + right for left, right in MERGES]
    made = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=MERGES))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    pair = [(token, made.token_to_id(token)) for token in ("[gMASK]", "<sop>")]
    made.post_processor = processors.TemplateProcessing("[gMASK] <sop> $A", "[gMASK] <sop> $A $B:1", pair)
    assert made.token_to_id("<|observation|>") == end_ids(case)[2]
    return made


def load(case, home, dtype):
    kind = {"glm": GlmForCausalLM, "glm4": Glm4ForCausalLM}[case.family]
    return kind.from_pretrained(home, dtype=dtype, attn_implementation="eager").eval()


def run(model, prompts, steps):
    """Prefill, then greedy decoding with a cache: tokens [batch, steps], logits [batch, prompt + steps - 1, vocab]."""
    out = model(prompts, use_cache=True)
    logits, tokens = [out.logits], []
    for step in range(steps):
        tokens.append(logits[-1][:, -1].argmax(-1))
        if step + 1 < steps:
            out = model(tokens[-1][:, None], past_key_values=out.past_key_values, use_cache=True)
            logits.append(out.logits)
    return torch.stack(tokens, 1), torch.cat(logits, 1)


def margins(logits):
    best = logits[:, PROMPT - 1 :].topk(2).values
    return (best[..., 0] - best[..., 1]).amin(-1)


def make(case):
    home = HERE / case.name
    kind = {"glm": GlmForCausalLM, "glm4": Glm4ForCausalLM}[case.family]
    model = kind(config_of(case))
    fill(model, case)
    save(model, case, home)
    model = load(case, home, torch.float32)
    prompts = np.random.default_rng(case.seed + 100).integers(0, case.vocab, (CANDIDATES, PROMPT))
    prompts = torch.from_numpy(prompts)
    tokens, logits = run(model, prompts, GREEDY)
    clear = margins(logits) > MARGIN_MIN
    variety = torch.tensor([len(set(t.tolist())) for t in tokens]) * clear
    chosen = int(variety.argmax())
    assert clear[chosen], f"{case.name}: no prompt with clear margins, take another seed"

    prompt = prompts[chosen : chosen + 1]
    tokens, logits = run(model, prompt, GREEDY)
    exact_tokens, exact = run(load(case, home, torch.float64), prompt, GREEDY)
    margin, rounding = float(margins(logits)), float((logits - exact).abs().max())
    assert torch.equal(tokens, exact_tokens) and margin > MARGIN_MIN and rounding < ROUNDING_MAX, (margin, rounding)

    logits[0, : PROMPT + DECODED].numpy().astype("<f4").tofile(home / "expected.bin")
    expected = {
        "prompt": prompt[0].tolist(), "greedy": tokens[0].tolist(),
        "logits_rows": PROMPT + DECODED, "vocab": case.vocab,
        "margin_min": round(margin, 4), "rounding_max": float(f"{rounding:.2e}"),
    }
    (home / "expected.json").write_text(json.dumps(expected) + "\n")
    for file in home.iterdir():
        file.chmod(0o644)
    kib = sum(f.stat().st_size for f in home.iterdir()) / 1024
    print(f"{case.name}: {int(variety[chosen])} different tokens, {int(clear.sum())} prompts clear, margin {margin:.3f}, "
          f"f32 - f64 {rounding:.1e}, logits {logits.min():.1f}..{logits.max():.1f}, {kib:.0f} KiB")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    for case in CASES:
        if len(sys.argv) == 1 or case.name in sys.argv[1:]:
            make(case)
