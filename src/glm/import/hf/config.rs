//! `config.json` and its companions: the shape of the model, its end ids, its template.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::glm::arch::{Arch, Family};
use crate::glm::import::ImportError;
use crate::glm::import::blob::Blob;
use crate::glm::import::error::clip;
use crate::limits;

/// What of `config.json` matters. Everything may be missing: who needs a key says so.
#[derive(Debug, Default, Deserialize)]
pub(in crate::glm::import) struct Config {
    model_type: Option<String>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    pub(in crate::glm::import) num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: Option<usize>,
    vocab_size: Option<usize>,
    rms_norm_eps: Option<f32>,
    hidden_act: Option<String>,
    max_position_embeddings: Option<usize>,
    tie_word_embeddings: Option<bool>,
    eos_token_id: Option<OneOrMany>,
    rope_theta: Option<f32>,
    partial_rotary_factor: Option<f64>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<RopeParameters>,
    quantization_config: Option<IgnoredAny>,
    vision_config: Option<IgnoredAny>,
    n_routed_experts: Option<u64>,
    num_experts: Option<u64>,
    num_local_experts: Option<u64>,
    q_lora_rank: Option<u64>,
    kv_lora_rank: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct RopeParameters {
    rope_theta: Option<f32>,
    partial_rotary_factor: Option<f64>,
    rope_type: Option<String>,
    r#type: Option<String>,
    mrope_section: Option<IgnoredAny>,
}

/// `generation_config.json`.
#[derive(Debug, Default, Deserialize)]
struct Generation {
    eos_token_id: Option<OneOrMany>,
}

/// `tokenizer_config.json`.
#[derive(Debug, Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<Template>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Template {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Debug, Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    fn ids(&self) -> Vec<u32> {
        match self {
            OneOrMany::One(id) => vec![*id],
            OneOrMany::Many(ids) => ids.clone(),
        }
    }
}

/// What only the tensors tell.
#[derive(Debug, Clone, Copy)]
pub(super) struct FromTensors {
    /// Rows of the first layer's query projection.
    pub(super) q_rows: Option<usize>,
    /// Whether it has a bias.
    pub(super) qkv_bias: bool,
}

impl Config {
    /// Reads `config.json`; refuses what is not a dense GLM by its name.
    pub(in crate::glm::import) fn read(blob: &Blob) -> Result<Config, ImportError> {
        let config: Config = json(blob)?;
        config.refuse_others()?;
        Ok(config)
    }

    /// End ids, where the configuration has them.
    pub(super) fn end_ids(&self) -> Vec<u32> {
        self.eos_token_id.as_ref().map(OneOrMany::ids).unwrap_or_default()
    }

    /// Base and factor of the rotary embedding.
    pub(in crate::glm::import) fn rope(&self) -> (f32, f64) {
        let parameters = self.rope_parameters.as_ref();
        let theta = self.rope_theta.or(parameters.and_then(|p| p.rope_theta));
        let factor = self.partial_rotary_factor.or(parameters.and_then(|p| p.partial_rotary_factor));
        (theta.unwrap_or(ROPE_THETA), factor.unwrap_or(PARTIAL_ROTARY_FACTOR))
    }

    /// Positions that the model was made for.
    pub(in crate::glm::import) fn context_tokens_max(&self) -> Option<usize> {
        self.max_position_embeddings
    }

    /// The shape, where `blob` is named for what is missing.
    pub(super) fn arch(&self, blob: &Blob, tensors: FromTensors) -> Result<Arch, ImportError> {
        let due = |key: &'static str, number: Option<usize>| {
            number.ok_or_else(|| blob.damaged(format!("the key {key} is missing")))
        };
        let family = self.model_type.as_deref().and_then(Family::from_name);
        let heads = due("num_attention_heads", self.num_attention_heads)?;
        let by_rows = tensors.q_rows.and_then(|rows| rows.checked_div(heads));
        let head_dim = due("head_dim", self.head_dim.or(by_rows))?;
        let (rope_theta, factor) = self.rope();
        let arch = Arch {
            family: family.ok_or_else(|| blob.damaged("the key model_type is missing"))?,
            hidden: due("hidden_size", self.hidden_size)?,
            layers: due("num_hidden_layers", self.num_hidden_layers)?,
            heads,
            kv_heads: self.num_key_value_heads.unwrap_or(heads),
            head_dim,
            inter: due("intermediate_size", self.intermediate_size)?,
            vocab: due("vocab_size", self.vocab_size)?,
            rotary_dim: rotary_dim(head_dim, factor),
            rope_theta,
            rms_eps: self.rms_norm_eps.unwrap_or(RMS_EPS),
            qkv_bias: tensors.qkv_bias,
            tied_head: self.tie_word_embeddings.unwrap_or(false),
            context_tokens_max: due("max_position_embeddings", self.max_position_embeddings)?,
        };
        arch.validate()?;
        Ok(arch)
    }

    fn refuse_others(&self) -> Result<(), ImportError> {
        let dense = "dense GLMs are (model_type glm or glm4)";
        let refuse = |what: String, instead: &str| Err(ImportError::unsupported(what, instead));
        for (key, number) in [
            ("n_routed_experts", self.n_routed_experts),
            ("num_experts", self.num_experts),
            ("num_local_experts", self.num_local_experts),
        ] {
            if let Some(n) = number.filter(|n| *n > 0) {
                return refuse(format!("a mixture of experts ({key} = {n})"), dense);
            }
        }
        for (key, rank) in [("q_lora_rank", self.q_lora_rank), ("kv_lora_rank", self.kv_lora_rank)] {
            if let Some(n) = rank.filter(|n| *n > 0) {
                return refuse(format!("multi-head latent attention ({key} = {n})"), dense);
            }
        }
        if self.quantization_config.is_some() {
            return refuse(
                "a checkpoint that is quantised already (quantization_config)".into(),
                "give the original weights, or a GGUF file",
            );
        }
        if self.vision_config.is_some() {
            return refuse("a model that sees (vision_config)".into(), dense);
        }
        self.refuse_types(dense)?;
        self.refuse_ropes()
    }

    fn refuse_types(&self, dense: &str) -> Result<(), ImportError> {
        let refuse = |what: String, instead: &str| Err(ImportError::unsupported(what, instead));
        match self.model_type.as_deref() {
            // Said by whoever needs it.
            None | Some("glm" | "glm4") => {}
            Some("chatglm") => {
                return refuse(
                    "model_type chatglm, a checkpoint with code of its own".into(),
                    "take the one in transformers' own form (its name ends in -hf)",
                );
            }
            Some(other) if other.contains("moe") => {
                return refuse(format!("model_type {}, a mixture of experts", clip(other)), dense);
            }
            Some(other) if other.starts_with("deepseek") => {
                return refuse(format!("model_type {}, multi-head latent attention", clip(other)), dense);
            }
            Some(other) => return refuse(format!("model_type {}", clip(other)), dense),
        }
        match self.hidden_act.as_deref() {
            None | Some("silu" | "swish") => Ok(()),
            Some(other) => refuse(format!("hidden_act {}", clip(other)), "a GLM has silu"),
        }
    }

    fn refuse_ropes(&self) -> Result<(), ImportError> {
        for rope in self.rope_parameters.iter().chain(&self.rope_scaling) {
            match rope.rope_type.as_deref().or(rope.r#type.as_deref()) {
                None | Some("default") => {}
                Some(other) => {
                    let what = format!("rotary embedding of type {}", clip(other));
                    return Err(ImportError::unsupported(what, "a GLM has the default one"));
                }
            }
            if rope.mrope_section.is_some() {
                return Err(ImportError::unsupported(
                    "rotary embedding in sections (mrope_section)",
                    "a GLM has the default one",
                ));
            }
        }
        Ok(())
    }
}

/// Elements that are turned, as transformers rounds.
pub(in crate::glm::import) fn rotary_dim(head_dim: usize, factor: f64) -> usize {
    (head_dim as f64 * factor) as usize
}

/// End ids of `generation_config.json`.
pub(super) fn generation_end_ids(blob: &Blob) -> Result<Vec<u32>, ImportError> {
    let generation: Generation = json(blob)?;
    Ok(generation.eos_token_id.as_ref().map(OneOrMany::ids).unwrap_or_default())
}

/// The chat template of `tokenizer_config.json`; of several the one called `default`.
pub(super) fn tokenizer_template(blob: &Blob) -> Result<Option<String>, ImportError> {
    let config: TokenizerConfig = json(blob)?;
    Ok(match config.chat_template {
        Some(Template::One(template)) => Some(template),
        Some(Template::Named(all)) => all.into_iter().find(|t| t.name == "default").map(|t| t.template),
        None => None,
    })
}

fn json<T: for<'de> Deserialize<'de>>(blob: &Blob) -> Result<T, ImportError> {
    let bytes = blob.whole(limits::IMPORT_CONFIG_BYTES_MAX)?;
    serde_json::from_slice(&bytes).map_err(|e| blob.damaged(format!("it can't be understood ({e})")))
}

// What transformers takes where a configuration is silent.
const ROPE_THETA: f32 = 10_000.0;
const PARTIAL_ROTARY_FACTOR: f64 = 0.5;
const RMS_EPS: f32 = 1.5625e-7;
