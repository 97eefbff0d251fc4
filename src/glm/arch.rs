//! The numbers that make a dense GLM: what a checkpoint must say before a graph can be built from it.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::reading::named_enum;

named_enum! {
    /// Which layer a model is made of.
    Family {
        /// Two norms per layer (GLM-4-9b-chat, GLM-Edge).
        Glm = "glm",
        /// Four norms per layer: the outputs of attention and MLP have one each (GLM-4-0414, GLM-Z1).
        Glm4 = "glm4",
    }
}

/// Shape of a dense GLM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arch {
    /// Which layer.
    pub family: Family,
    /// Elements of the residual stream.
    pub hidden: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Elements of one head; even.
    pub head_dim: usize,
    /// Elements between gate and down projection.
    pub inter: usize,
    /// Tokens of the vocabulary, padding rows included.
    pub vocab: usize,
    /// Leading elements of a head that rotary embedding turns, in interleaved pairs; even, at most `head_dim`.
    pub rotary_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Added to the mean square under the root of every norm.
    pub rms_eps: f32,
    /// Whether the projections to queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether the head is the embedding.
    pub tied_head: bool,
    /// Positions the model was made for.
    pub context_tokens_max: usize,
}

/// A shape that no dense GLM has; the checkpoint's fault.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "{field} = {value} is not possible ({allowed}); the checkpoint's configuration is damaged or not a dense GLM's"
)]
pub struct BadArch {
    /// Which number.
    pub field: &'static str,
    /// What it is.
    pub value: String,
    /// What it may be.
    pub allowed: String,
}

impl Arch {
    /// Elements of queries, keys and values of one token together: rows of the fused projection.
    pub fn qkv_rows(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Elements of all heads' outputs: columns of the output projection.
    pub fn attention_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Refuses numbers that can't be meant, before anything is sized by them.
    pub fn validate(&self) -> Result<(), BadArch> {
        let between = |field, value: usize, min: usize, max: usize| match (min..=max).contains(&value) {
            true => Ok(()),
            false => Err(BadArch { field, value: value.to_string(), allowed: format!("{min} to {max}") }),
        };
        between("hidden", self.hidden, 2, limits::GLM_WIDTH_MAX)?;
        between("layers", self.layers, 1, limits::GLM_LAYERS_MAX)?;
        between("heads", self.heads, 1, limits::GLM_HEADS_MAX)?;
        between("kv_heads", self.kv_heads, 1, self.heads)?;
        between("head_dim", self.head_dim, 2, limits::GLM_HEAD_DIM_MAX)?;
        between("inter", self.inter, 1, limits::GLM_WIDTH_MAX)?;
        between("vocab", self.vocab, 2, limits::GLM_VOCAB_MAX)?;
        between("rotary_dim", self.rotary_dim, 2, self.head_dim)?;
        between("context_tokens_max", self.context_tokens_max, 1, limits::GLM_CONTEXT_TOKENS_MAX)?;
        let refuse =
            |field, value: String, allowed: &str| Err(BadArch { field, value, allowed: allowed.to_owned() });
        if !self.heads.is_multiple_of(self.kv_heads) {
            return refuse(
                "kv_heads",
                self.kv_heads.to_string(),
                &format!("a divisor of heads = {}", self.heads),
            );
        }
        if !self.rotary_dim.is_multiple_of(2) {
            return refuse("rotary_dim", self.rotary_dim.to_string(), "an even number");
        }
        if !(self.rms_eps > 0.0 && self.rms_eps < 1.0) {
            return refuse("rms_eps", self.rms_eps.to_string(), "between 0 and 1");
        }
        if !(self.rope_theta >= 1.0 && self.rope_theta.is_finite()) {
            return refuse("rope_theta", self.rope_theta.to_string(), "1 or more");
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small valid shape to vary.
    pub(crate) fn tiny() -> Arch {
        Arch {
            family: Family::Glm,
            hidden: 64,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            inter: 96,
            vocab: 128,
            rotary_dim: 8,
            rope_theta: 10_000.0,
            rms_eps: 1e-5,
            qkv_bias: false,
            tied_head: false,
            context_tokens_max: 512,
        }
    }

    #[test]
    fn impossible_shapes_are_refused_by_the_name_of_the_number() {
        assert_eq!(tiny().validate(), Ok(()));
        type Spoil = fn(&mut Arch);
        let cases: [(&str, Spoil); 6] = [
            ("hidden", |a| a.hidden = usize::MAX),
            ("kv_heads", |a| a.kv_heads = 3),
            ("kv_heads", |a| a.kv_heads = 0),
            ("rotary_dim", |a| a.rotary_dim = 7),
            ("rms_eps", |a| a.rms_eps = f32::NAN),
            ("rope_theta", |a| a.rope_theta = f32::INFINITY),
        ];
        for (field, spoil) in cases {
            let mut arch = tiny();
            spoil(&mut arch);
            assert_eq!(arch.validate().unwrap_err().field, field);
        }
    }
}
