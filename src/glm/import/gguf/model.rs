//! What the keys and tensors of a GGUF file mean: the shape, and the role of each tensor.

use super::reader::{Gguf, Value};
use crate::glm::arch::{Arch, Family};
use crate::glm::import::ImportError;
use crate::glm::import::checkpoint::{LayerRole, Role, Roles};
use crate::glm::import::error::{TensorProblem, clip};
use crate::limits;

/// The architecture's own prefix of keys, with the family it stands for.
pub(super) fn family(gguf: &Gguf) -> Result<(String, Family), ImportError> {
    let dense = "dense GLMs are (chatglm, glm4)";
    let name = gguf
        .text("general.architecture")
        .ok_or_else(|| gguf.blob.damaged("the key general.architecture is missing"))?;
    let family = match name {
        "chatglm" => Family::Glm,
        "glm4" => Family::Glm4,
        other => {
            let kind = match other {
                _ if other.contains("moe") => ", a mixture of experts",
                _ if other.starts_with("deepseek") || other.contains("dsa") => {
                    ", multi-head latent attention"
                }
                _ => "",
            };
            return Err(ImportError::unsupported(format!("GGUF architecture {}{kind}", clip(other)), dense));
        }
    };
    for key in ["expert_count", "nextn_predict_layers", "attention.q_lora_rank", "attention.kv_lora_rank"] {
        if let Some(n) = gguf.integer(&format!("{name}.{key}")).filter(|n| *n > 0) {
            return Err(ImportError::unsupported(format!("a {name} with {key} = {n}"), dense));
        }
    }
    if let Some(scaling) =
        gguf.text(&format!("{name}.rope.scaling.type")).filter(|scaling| *scaling != "none")
    {
        let what = format!("rotary embedding scaled by {}", clip(scaling));
        return Err(ImportError::unsupported(what, "a GLM has the default one"));
    }
    let mut sections = 0;
    gguf.integers(&format!("{name}.rope.dimension_sections"), |_, n| {
        sections += i128::from(n != 0);
        Ok(())
    })?;
    if sections > 0 {
        return Err(ImportError::unsupported("rotary embedding in sections, a model that sees", dense));
    }
    Ok((name.to_owned(), family))
}

/// Files every tensor under its role.
pub(super) fn roles(gguf: &Gguf, inter: usize) -> Result<Roles, ImportError> {
    let mut roles = Roles::new(name);
    for info in &gguf.tensors {
        let role = role(&info.name).ok_or_else(|| ImportError::tensor(&info.name, TensorProblem::Unknown))?;
        let tensor = gguf.tensor(info)?;
        // Gate and up in one: the gate's rows, then those of up.
        let role = match role {
            Role::Layer(n, LayerRole::Up) if tensor.rows == 2 * inter => Role::Layer(n, LayerRole::GateUp),
            role => role,
        };
        roles.insert(role, tensor)?;
    }
    Ok(roles)
}

/// The number of elements between gate and down, which tells whether they are fused.
pub(super) fn inter(gguf: &Gguf, prefix: &str) -> Result<usize, ImportError> {
    size(gguf, prefix, "feed_forward_length")
}

/// The shape.
pub(super) fn arch(gguf: &Gguf, prefix: &str, family: Family, roles: &Roles) -> Result<Arch, ImportError> {
    let due = |key| size(gguf, prefix, key);
    let optional = |key: &str| match gguf.get(&format!("{prefix}.{key}")) {
        Some(_) => size(gguf, prefix, key).map(Some),
        None => Ok(None),
    };
    let (hidden, heads) = (due("embedding_length")?, due("attention.head_count")?);
    let head_dim = match optional("attention.key_length")? {
        Some(head_dim) => head_dim,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    let missing = |role| ImportError::tensor(&name(role), TensorProblem::Missing);
    let embed = roles.find(Role::Embed).ok_or_else(|| missing(Role::Embed))?;
    let first = |role| roles.find(Role::Layer(0, role)).is_some();
    let arch = Arch {
        family,
        hidden,
        layers: due("block_count")?,
        heads,
        kv_heads: optional("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        inter: due("feed_forward_length")?,
        vocab: embed.rows,
        rotary_dim: optional("rope.dimension_count")?.unwrap_or(head_dim),
        rope_theta: gguf.real(&format!("{prefix}.rope.freq_base")).unwrap_or(10_000.0) as f32,
        rms_eps: real(gguf, prefix, "attention.layer_norm_rms_epsilon")? as f32,
        qkv_bias: first(LayerRole::QkvBias) || first(LayerRole::QBias),
        tied_head: roles.find(Role::Head).is_none(),
        context_tokens_max: due("context_length")?,
    };
    arch.validate()?;
    Ok(arch)
}

fn size(gguf: &Gguf, prefix: &str, key: &str) -> Result<usize, ImportError> {
    let key = format!("{prefix}.{key}");
    let missing = || gguf.blob.damaged(format!("the key {key} is missing"));
    let number = match gguf.get(&key).ok_or_else(missing)? {
        Value::Integer(n) => Some(*n),
        // One number per layer, where all are the same.
        Value::List(_) => {
            let mut all = None;
            gguf.integers(&key, |_, n| match *all.get_or_insert(n) == n {
                true => Ok(()),
                false => Err(ImportError::unsupported(
                    format!("{key} that differs by layer"),
                    "a GLM's layers are alike",
                )),
            })?;
            all
        }
        _ => None,
    };
    let number =
        number.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= limits::GLM_CONTEXT_TOKENS_MAX);
    number.ok_or_else(|| gguf.blob.damaged(format!("the key {key} is no number that could be")))
}

fn real(gguf: &Gguf, prefix: &str, key: &str) -> Result<f64, ImportError> {
    let key = format!("{prefix}.{key}");
    gguf.real(&key).ok_or_else(|| gguf.blob.damaged(format!("the key {key} is missing or no number")))
}

const LAYER_NAMES: [(&str, LayerRole); 16] = [
    ("attn_norm.weight", LayerRole::AttnNorm),
    ("attn_q.weight", LayerRole::Q),
    ("attn_k.weight", LayerRole::K),
    ("attn_v.weight", LayerRole::V),
    ("attn_qkv.weight", LayerRole::Qkv),
    ("attn_q.bias", LayerRole::QBias),
    ("attn_k.bias", LayerRole::KBias),
    ("attn_v.bias", LayerRole::VBias),
    ("attn_qkv.bias", LayerRole::QkvBias),
    ("attn_output.weight", LayerRole::O),
    ("post_attention_norm.weight", LayerRole::PostAttnNorm),
    ("ffn_norm.weight", LayerRole::MlpNorm),
    ("ffn_gate.weight", LayerRole::Gate),
    ("ffn_up.weight", LayerRole::Up),
    ("ffn_down.weight", LayerRole::Down),
    ("post_ffw_norm.weight", LayerRole::PostMlpNorm),
];

/// The role of a tensor by its name.
fn role(name: &str) -> Option<Role> {
    match name {
        "token_embd.weight" => return Some(Role::Embed),
        "output_norm.weight" => return Some(Role::Norm),
        "output.weight" => return Some(Role::Head),
        _ => {}
    }
    let (layer, tensor) = name.strip_prefix("blk.")?.split_once('.')?;
    let n = layer.parse().ok().filter(|n: &usize| *n < limits::GLM_LAYERS_MAX && n.to_string() == layer)?;
    let (_, role) = LAYER_NAMES.iter().find(|(name, _)| *name == tensor)?;
    Some(Role::Layer(n, *role))
}

/// What the tensor of a role is called.
fn name(role: Role) -> String {
    let (n, role) = match role {
        Role::Embed => return "token_embd.weight".to_owned(),
        Role::Norm => return "output_norm.weight".to_owned(),
        Role::Head => return "output.weight".to_owned(),
        Role::Layer(n, LayerRole::GateUp) => (n, LayerRole::Up),
        Role::Layer(n, role) => (n, role),
    };
    let tensor = LAYER_NAMES.iter().find(|(_, r)| *r == role).map_or("", |(name, _)| name);
    format!("blk.{n}.{tensor}")
}
