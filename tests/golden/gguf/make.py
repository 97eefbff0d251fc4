"""Golden files for the GGUF reader, made with the `gguf` and `tokenizers` packages: `python make.py`.

- `<type>.bin`: blocks of one type and the numbers that `gguf.quants.dequantize` makes of them: u32 count of blocks, the
  blocks, then f32. Bytes are random; scales are kept finite.
- `tiny.gguf`: a chatglm of random weights in several types, with a tokenizer.
- `tiny.json`: some rows of its tensors as numbers.
- `tokenizer.json`: the tokenizer that its keys were made of.
"""

import json
import struct
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Where the halves stand in a block.
SCALES = {T.Q4_0: [0], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}


def blocks(rng, kind, count):
    """Random blocks with small scales."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    data = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in SCALES[kind]:
        data[:, at : at + 2] = rng.uniform(-0.1, 0.1, (count, 1)).astype(np.float16).view(np.uint8)
    return data


def block_files(rng):
    for kind in SCALES:
        data = blocks(rng, kind, 12)
        numbers = gguf.quants.dequantize(data, kind).astype(np.float32)
        head = struct.pack("<I", len(data))
        (HERE / f"{kind.name.lower()}.bin").write_bytes(head + data.tobytes() + numbers.tobytes())


def tokenizer():
    """A small byte-level BPE in GLM's form."""
    tok = Tokenizer(models.BPE(ignore_merges=False))
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)
    tok.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tok.decoder = decoders.ByteLevel()
    corpus = ["the pump of line 3 is warm, the pump is hot", "温度 过高 温度 正常", "it's 12345 km", "a  b\n\nc"] * 4
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(corpus, trainer)
    special = ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
    tok.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in special])
    tok.add_tokens([AddedToken("<plain>", normalized=False)])
    tok.post_processor = processors.TemplateProcessing(
        single="[gMASK] <sop> $A",
        pair="[gMASK] <sop> $A $B:1",
        special_tokens=[(s, tok.token_to_id(s)) for s in ("[gMASK]", "<sop>")],
    )
    return tok


def tiny(rng):
    """A chatglm with fused matrices and separate types."""
    tok = tokenizer()
    made = json.loads(tok.to_str())
    added = {t["id"]: t for t in made["added_tokens"]}
    vocab = tok.get_vocab_size() + 5  # the model's is padded
    hidden, layers, heads, kv_heads, head_dim, inter = 64, 2, 4, 2, 16, 96
    w = gguf.GGUFWriter(HERE / "tiny.gguf", "chatglm")
    w.add_context_length(512)
    w.add_embedding_length(hidden)
    w.add_feed_forward_length(inter)
    w.add_block_count(layers)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(8)
    w.add_rope_freq_base(10000.0)
    texts = {i: t for t, i in tok.get_vocab().items()}
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("chatglm-bpe")
    w.add_token_list([texts.get(i, f"[PAD{i}]") for i in range(vocab)])
    kind = lambda i: 5 if i not in texts else 1 if i not in added else 3 if added[i]["special"] else 4
    w.add_token_types([kind(i) for i in range(vocab)])
    w.add_token_merges([" ".join(m) for m in made["model"]["merges"]])
    w.add_eos_token_id(tok.token_to_id("<|endoftext|>"))
    w.add_eot_token_id(tok.token_to_id("<|user|>"))
    w.add_add_bos_token(False)
    w.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    rows = {}

    def add(name, shape, kind):
        data = rng.normal(0, 0.2, shape).astype(np.float32)
        stored = gguf.quants.quantize(data, kind)
        numbers = data if kind == T.F32 else gguf.quants.dequantize(stored, kind).astype(np.float32)
        w.add_tensor(name, stored, raw_dtype=kind)
        at = [0, shape[0] // 2, shape[0] - 1] if len(shape) == 2 else []
        rows[name] = {str(r): numbers[r].tolist() for r in at}
        if len(shape) == 1:
            rows[name] = {"0": numbers.tolist()}

    add("token_embd.weight", (vocab, hidden), T.Q4_0)
    add("output.weight", (vocab, hidden), T.Q8_0)
    add("output_norm.weight", (hidden,), T.F32)
    kinds = [(T.Q4_0, T.Q8_0), (T.F16, T.BF16)]
    for n, (a, b) in zip(range(layers), kinds):
        add(f"blk.{n}.attn_norm.weight", (hidden,), T.F32)
        add(f"blk.{n}.attn_qkv.weight", ((heads + 2 * kv_heads) * head_dim, hidden), a)
        add(f"blk.{n}.attn_qkv.bias", ((heads + 2 * kv_heads) * head_dim,), T.F32)
        add(f"blk.{n}.attn_output.weight", (hidden, heads * head_dim), b)
        add(f"blk.{n}.ffn_norm.weight", (hidden,), T.F32)
        add(f"blk.{n}.ffn_up.weight", (2 * inter, hidden), a)
        add(f"blk.{n}.ffn_down.weight", (hidden, inter), b)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    (HERE / "tiny.json").write_text(json.dumps(rows) + "\n", encoding="utf-8")
    (HERE / "tokenizer.json").write_text(json.dumps(made, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    rng = np.random.default_rng(7)
    block_files(rng)
    tiny(rng)
