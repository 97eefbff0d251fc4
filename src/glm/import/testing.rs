//! Small checkpoints for tests: the same numbers by name, in every container.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use serde_json::{Value, json};

use super::checkpoint::{LayerRole, Role};
use super::names;
use crate::glm::arch::{Arch, Family};

/// One tensor: dimensions and numbers.
pub(in crate::glm) type Plain = (Vec<usize>, Vec<f32>);

/// A valid shape with everything that may differ between checkpoints.
pub(in crate::glm) fn arch(family: Family, qkv_bias: bool, tied_head: bool) -> Arch {
    Arch {
        family,
        hidden: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        inter: 72,
        // A little more than the tokenizer has, as people pad it.
        vocab: 293,
        rotary_dim: 16,
        rope_theta: 10_000.0,
        rms_eps: 1e-5,
        qkv_bias,
        tied_head,
        context_tokens_max: 512,
    }
}

/// Tensors of a shape by transformers' names. A name has the same numbers wherever it stands.
pub(in crate::glm) fn tensors(arch: &Arch) -> BTreeMap<String, Plain> {
    use LayerRole as L;
    let mut all = BTreeMap::new();
    let mut add = |role: Role, dims: &[usize]| {
        let name = names::of_transformers(role);
        let seed = name.bytes().fold(7, |seed: u64, b| seed.wrapping_mul(31) + u64::from(b));
        let mut rng = fastrand::Rng::with_seed(seed);
        // Numbers that bf16 and f16 hold exactly.
        let number = |_| f32::from(rng.i8(..)) / 128.0;
        all.insert(name, (dims.to_vec(), (0..dims.iter().product()).map(number).collect()));
    };
    let (hidden, q, kv) = (arch.hidden, arch.attention_dim(), arch.kv_heads * arch.head_dim);
    add(Role::Embed, &[arch.vocab, hidden]);
    add(Role::Norm, &[hidden]);
    if !arch.tied_head {
        add(Role::Head, &[arch.vocab, hidden]);
    }
    for n in 0..arch.layers {
        let mut add = |role, dims: &[usize]| add(Role::Layer(n, role), dims);
        add(L::AttnNorm, &[hidden]);
        add(L::MlpNorm, &[hidden]);
        add(L::Q, &[q, hidden]);
        add(L::K, &[kv, hidden]);
        add(L::V, &[kv, hidden]);
        add(L::O, &[hidden, q]);
        add(L::GateUp, &[2 * arch.inter, hidden]);
        add(L::Down, &[hidden, arch.inter]);
        if arch.qkv_bias {
            [(L::QBias, q), (L::KBias, kv), (L::VBias, kv)].into_iter().for_each(|(role, n)| add(role, &[n]));
        }
        if arch.family == Family::Glm4 {
            add(L::PostAttnNorm, &[hidden]);
            add(L::PostMlpNorm, &[hidden]);
        }
    }
    all
}

/// `config.json` of a shape.
pub(in crate::glm) fn config(arch: &Arch) -> Value {
    json!({
        "model_type": arch.family.name(),
        "hidden_size": arch.hidden,
        "num_hidden_layers": arch.layers,
        "num_attention_heads": arch.heads,
        "num_key_value_heads": arch.kv_heads,
        "head_dim": arch.head_dim,
        "intermediate_size": arch.inter,
        "vocab_size": arch.vocab,
        "rms_norm_eps": arch.rms_eps,
        "hidden_act": "silu",
        "max_position_embeddings": arch.context_tokens_max,
        "tie_word_embeddings": arch.tied_head,
        "attention_bias": arch.qkv_bias,
        "eos_token_id": [1, 2, 3],
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": arch.rope_theta,
            "partial_rotary_factor": arch.rotary_dim as f64 / arch.head_dim as f64,
        },
    })
}

/// A safetensors file. `dtype`: `F32`, `F16` or `BF16`.
pub(in crate::glm) fn safetensors(tensors: &BTreeMap<String, Plain>, dtype: &str) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    for (name, (dims, numbers)) in tensors {
        let begin = data.len();
        for &x in numbers {
            match dtype {
                "F16" => data.extend(f16::from_f32(x).to_le_bytes()),
                "BF16" => data.extend(bf16::from_f32(x).to_le_bytes()),
                _ => data.extend(x.to_le_bytes()),
            }
        }
        header.insert(
            name.clone(),
            json!({"dtype": dtype, "shape": dims, "data_offsets": [begin, data.len()]}),
        );
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// Bytes, a few merges and GLM's marks: 278 tokens.
pub(in crate::glm) const TOKENIZER: &[u8] =
    include_bytes!("../../../tests/golden/glm/glm_edge/tokenizer.json");

/// A whole Hugging Face directory.
pub(in crate::glm) fn write_hf(dir: &Path, arch: &Arch, dtype: &str) {
    std::fs::create_dir_all(dir).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
    write("config.json", config(arch).to_string().as_bytes());
    write("model.safetensors", &safetensors(&tensors(arch), dtype));
    write("tokenizer.json", TOKENIZER);
    write("tokenizer_config.json", br#"{"chat_template": "{{ messages }}"}"#);
    write("generation_config.json", br#"{"eos_token_id": [5, 6]}"#);
}

/// The same in several files with an index.
pub(in crate::glm) fn write_sharded_hf(dir: &Path, arch: &Arch, shards: usize) {
    write_hf(dir, arch, "F32");
    std::fs::remove_file(dir.join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    let mut parts = vec![BTreeMap::new(); shards];
    for (n, (name, tensor)) in tensors(arch).into_iter().enumerate() {
        map.insert(name.clone(), format!("model-{}.safetensors", n % shards).into());
        parts[n % shards].insert(name, tensor);
    }
    for (n, part) in parts.iter().enumerate() {
        std::fs::write(dir.join(format!("model-{n}.safetensors")), safetensors(part, "F32")).unwrap();
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

/// The same bytes cut, flipped, doubled or with another number in them, mostly near the front, where headers stand.
pub(in crate::glm) fn spoiled(rng: &mut fastrand::Rng, whole: &[u8], head: usize) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..rng.usize(1..4) {
        let end = if rng.u8(..) < 200 { bytes.len().min(head) } else { bytes.len() };
        if end == 0 {
            return bytes;
        }
        let at = rng.usize(0..end);
        match rng.u8(0..6) {
            0 => bytes.truncate(at),
            1 => bytes[at] = rng.u8(..),
            2 => bytes[at] ^= 1 << rng.u8(0..8),
            3 => {
                let number = [0, 1, u64::MAX, i64::MAX as u64, 1 << 32, rng.u64(..)][rng.usize(0..6)];
                let len = 8.min(bytes.len() - at);
                bytes[at..at + len].copy_from_slice(&number.to_le_bytes()[..len]);
            }
            4 => {
                let len = rng.usize(0..64).min(bytes.len() - at);
                bytes.drain(at..at + len);
            }
            _ => {
                let part = bytes[at..(at + rng.usize(0..64)).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

/// A value of a key of a GGUF file.
pub(in crate::glm) enum Key {
    U32(u32),
    F32(f32),
    Text(&'static str),
    Texts(Vec<String>),
    Numbers(Vec<i32>),
}

/// A tensor of a GGUF file: name, dimensions with the rows first, ggml's number of the type, bytes.
pub(in crate::glm) type Stored = (String, Vec<usize>, u32, Vec<u8>);

/// A GGUF file of version 3.
pub(in crate::glm) fn gguf(keys: &[(String, Key)], tensors: &[Stored]) -> Vec<u8> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((keys.len() as u64).to_le_bytes());
    for (key, value) in keys {
        text(&mut out, key);
        let list = |out: &mut Vec<u8>, kind: u32, count: usize| {
            out.extend([9_u32, kind].into_iter().flat_map(u32::to_le_bytes));
            out.extend((count as u64).to_le_bytes());
        };
        match value {
            Key::U32(n) => out.extend([4, *n].into_iter().flat_map(u32::to_le_bytes)),
            Key::F32(x) => out.extend([6, x.to_bits()].into_iter().flat_map(u32::to_le_bytes)),
            Key::Text(t) => {
                out.extend(8_u32.to_le_bytes());
                text(&mut out, t);
            }
            Key::Texts(all) => {
                list(&mut out, 8, all.len());
                all.iter().for_each(|t| text(&mut out, t));
            }
            Key::Numbers(all) => {
                list(&mut out, 5, all.len());
                out.extend(all.iter().flat_map(|n| n.to_le_bytes()));
            }
        }
    }
    let mut offset = 0;
    for (name, dims, kind, bytes) in tensors {
        text(&mut out, name);
        out.extend((dims.len() as u32).to_le_bytes());
        out.extend(dims.iter().rev().flat_map(|d| (*d as u64).to_le_bytes()));
        out.extend(kind.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += bytes.len().next_multiple_of(32);
    }
    for (_, _, _, bytes) in tensors {
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(bytes);
    }
    out
}

/// The keys of a shape.
pub(in crate::glm) fn gguf_keys(arch: &Arch) -> Vec<(String, Key)> {
    let prefix = if arch.family == Family::Glm4 { "glm4" } else { "chatglm" };
    let key = |name: &str, n: usize| (format!("{prefix}.{name}"), Key::U32(n as u32));
    vec![
        ("general.architecture".into(), Key::Text(prefix)),
        key("context_length", arch.context_tokens_max),
        key("embedding_length", arch.hidden),
        key("feed_forward_length", arch.inter),
        key("block_count", arch.layers),
        key("attention.head_count", arch.heads),
        key("attention.head_count_kv", arch.kv_heads),
        key("attention.key_length", arch.head_dim),
        key("rope.dimension_count", arch.rotary_dim),
        (format!("{prefix}.rope.freq_base"), Key::F32(arch.rope_theta)),
        (format!("{prefix}.attention.layer_norm_rms_epsilon"), Key::F32(arch.rms_eps)),
    ]
}

/// The tensors of a shape by GGUF's names, as f32: queries, keys and values apart, gate and up in one.
pub(in crate::glm) fn gguf_tensors(arch: &Arch) -> Vec<Stored> {
    let renamed = |name: &str| {
        let parts = [
            ("model.embed_tokens.", "token_embd."),
            ("model.norm.", "output_norm."),
            ("lm_head.", "output."),
            ("model.layers.", "blk."),
            ("input_layernorm.", "attn_norm."),
            ("post_self_attn_layernorm.", "post_attention_norm."),
            ("post_attention_layernorm.", "ffn_norm."),
            ("post_mlp_layernorm.", "post_ffw_norm."),
            ("self_attn.q_proj.", "attn_q."),
            ("self_attn.k_proj.", "attn_k."),
            ("self_attn.v_proj.", "attn_v."),
            ("self_attn.o_proj.", "attn_output."),
            ("mlp.gate_up_proj.", "ffn_up."),
            ("mlp.down_proj.", "ffn_down."),
        ];
        parts.into_iter().fold(name.to_owned(), |name, (theirs, ours)| name.replace(theirs, ours))
    };
    let bytes = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    tensors(arch)
        .into_iter()
        .map(|(name, (dims, numbers))| (renamed(&name), dims, 0, bytes(&numbers)))
        .collect()
}
