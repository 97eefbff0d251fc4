"""The models that are compared: shapes, and random weights of them as GGUF files."""

import json
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import onnx

FORMATS = {
    "f32": gguf.GGMLQuantizationType.F32,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "q4_0": gguf.GGMLQuantizationType.Q4_0,
}
STUDENT = Path(__file__).parents[2] / "models" / "student"
SPECIAL = "<|endoftext|> [MASK] [gMASK] [sMASK] <sop> <eop> <|system|> <|user|> <|assistant|> <|observation|>".split()


@dataclass(frozen=True)
class Shape:
    """Architecture numbers; an attention as wide as the residual stream, as architecture `chatglm` wants it."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inter: int
    vocab: int
    rotary: float = 1.0
    theta: float = 10_000.0
    eps: float = 1e-5
    context: int = 8192

    @property
    def head_dim(self):
        return self.hidden // self.heads

    @property
    def matrices(self):
        """Weights in matrices; the embedding counts, though decoding reads only a row of it."""
        qkv = (self.heads + 2 * self.kv_heads) * self.head_dim
        layer = self.hidden * (qkv + self.hidden + 3 * self.inter)
        return self.layers * layer + 2 * self.vocab * self.hidden


SHAPES = {
    "student": Shape(128, 4, 4, 2, 352, 598, rotary=0.5),
    "100m": Shape(768, 12, 12, 4, 2048, 8192, rotary=0.5),
    "edge-1.5b": Shape(2048, 28, 16, 4, 6144, 59264),
}


def random_weights(shape, seed=1):
    """Names and numbers in the order of the layers: wide enough that logits are not flat."""
    rng = np.random.default_rng(seed)

    def matrix(rows, cols, gain=1.0):
        numbers = rng.standard_normal((rows, cols), dtype=np.float32)
        numbers *= np.float32(gain / cols**0.5)
        return numbers

    def norm():
        return 1 + np.float32(0.1) * rng.standard_normal(shape.hidden, dtype=np.float32)

    qkv = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    yield "token_embd.weight", matrix(shape.vocab, shape.hidden, 3.0)
    for n in range(shape.layers):
        yield f"blk.{n}.attn_norm.weight", norm()
        yield f"blk.{n}.attn_qkv.weight", matrix(qkv, shape.hidden, 1.5)
        yield f"blk.{n}.attn_output.weight", matrix(shape.hidden, shape.hidden)
        yield f"blk.{n}.ffn_norm.weight", norm()
        yield f"blk.{n}.ffn_up.weight", matrix(2 * shape.inter, shape.hidden)
        yield f"blk.{n}.ffn_down.weight", matrix(shape.hidden, shape.inter)
    yield "output_norm.weight", norm()
    yield "output.weight", matrix(shape.vocab, shape.hidden, 3.0)


def write(path: Path, shape, format, weights):
    """One GGUF file, every matrix of it in `format`; whole or not at all."""
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "chatglm", use_temp_file=True)
    writer.add_name(path.stem)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.inter)
    writer.add_block_count(shape.layers)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_rope_dimension_count(int(shape.head_dim * shape.rotary))
    writer.add_rope_freq_base(shape.theta)
    writer.add_file_type({"f32": 0, "q4_0": 2, "q8_0": 7}[format])
    add_tokenizer(writer, shape.vocab)
    for name, numbers in weights:
        kind = FORMATS[format] if numbers.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)


def add_tokenizer(writer, vocab):
    """The bytes, one merge, special tokens at the end, and made-up words between: valid, and of no interest here."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    tokens = [chr(b) for b in printable] + [chr(256 + n) for n in range(len(others))] + ["th"]
    words = vocab - len(tokens) - len(SPECIAL)
    tokens += [f"w{n}" for n in range(words)] + SPECIAL
    kinds = [gguf.TokenType.NORMAL] * (vocab - len(SPECIAL)) + [gguf.TokenType.CONTROL] * len(SPECIAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("chatglm-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eot_token_id(tokens.index("<|user|>"))
    writer.add_unk_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)


def gguf_of(folder: Path, name, format):
    """The file of a shape in a format, written if it is not there."""
    path = folder / f"{name}-{format}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write(path, SHAPES[name], format, random_weights(SHAPES[name]))
    return path


def trained_weights():
    """The shipped student's weights as its graph computes with them, heads' rows in GLM's order."""
    graph = onnx.load(STUDENT / "student.onnx").graph
    tensors = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    shape = SHAPES["student"]
    half, turned = shape.head_dim // 2, int(shape.head_dim * shape.rotary) // 2
    # A head lies as [even turned, half of the rest, odd turned, other half]: see models/student/glm.py.
    rows = [row for n in range(turned) for row in (n, half + n)]
    rows += [*range(turned, half), *range(half + turned, shape.head_dim)]

    def matrix(name):
        """[out, in]"""
        return np.ascontiguousarray((tensors[f"{name}.codes"] * tensors[f"{name}.scale"]).T.astype(np.float32))

    def interleaved(weight):
        return weight.reshape(-1, shape.head_dim, shape.hidden)[:, rows].reshape(weight.shape)

    yield "token_embd.weight", tensors["embedding.codes"] * tensors["embedding.scale"][:, None]
    for n in range(shape.layers):
        here = f"layer{n}"
        q, k, v = (matrix(f"{here}.{part}.weight") for part in "qkv")
        yield f"blk.{n}.attn_norm.weight", tensors[f"{here}.norm_attention.weight"]
        yield f"blk.{n}.attn_qkv.weight", np.concatenate([interleaved(q), interleaved(k), v])
        yield f"blk.{n}.attn_output.weight", matrix(f"{here}.o.weight")
        yield f"blk.{n}.ffn_norm.weight", tensors[f"{here}.norm_mlp.weight"]
        yield f"blk.{n}.ffn_up.weight", np.concatenate([matrix(f"{here}.gate.weight"), matrix(f"{here}.up.weight")])
        yield f"blk.{n}.ffn_down.weight", matrix(f"{here}.down.weight")
    yield "output_norm.weight", tensors["norm.weight"]
    yield "output.weight", matrix("logits.weight")


def trained_gguf(folder: Path, format):
    """The shipped student as a GGUF file."""
    path = folder / f"trained-{format}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write(path, SHAPES["student"], format, trained_weights())
    return path


def golden_sequences():
    """Prompts with the answers that the student gives, and where each answer begins."""
    cases = json.loads((STUDENT / "golden.json").read_text())
    cases = cases if isinstance(cases, list) else cases["cases"]
    return [c["prompt_ids"] + c["answer_ids"] for c in cases], [len(c["prompt_ids"]) for c in cases]
