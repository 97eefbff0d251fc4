//! All weights of a GLM, as the graph takes them: fused, packed, in place.
//!
//! [`tensors`] is the list of what a model of some shape consists of, in the order in which a bundle holds it. Whoever makes
//! or reads weights goes by it.
//!
//! | tensor | shape |
//! |---|---|
//! | `embed`, `head` | vocab x hidden; a tied model has no `head` |
//! | `norm` and the norms of a layer | hidden |
//! | `layers.N.qkv` | rows of the queries, the keys, the values, head by head, x hidden |
//! | `layers.N.o` | hidden x heads * head_dim |
//! | `layers.N.gate_up` | panels of 16 rows of the gate and of the same 16 rows of up, in turns, x hidden |
//! | `layers.N.down` | hidden x inter |

use crate::glm::arch::{Arch, Family};
use crate::glm::kernels::{Matrix, PANEL_ROWS};

/// A model's weights with its shape.
#[derive(Debug, Clone)]
pub struct Weights {
    /// The shape.
    pub arch: Arch,
    /// One row per token.
    pub embed: Matrix,
    /// From the first to the last.
    pub layers: Vec<LayerWeights>,
    /// The norm behind the last layer.
    pub norm: Vec<f32>,
    /// One row per token; `None`: the embedding's.
    pub head: Option<Matrix>,
}

/// Weights of one layer.
#[derive(Debug, Clone)]
pub struct LayerWeights {
    /// The norm before attention.
    pub attn_norm: Vec<f32>,
    /// Queries, keys and values.
    pub qkv: Matrix,
    /// Added to them, where the model has it.
    pub qkv_bias: Option<Vec<f32>>,
    /// Attention's output projection.
    pub o: Matrix,
    /// The norm of attention's output, `glm4` only.
    pub post_attn_norm: Option<Vec<f32>>,
    /// The norm before the MLP.
    pub mlp_norm: Vec<f32>,
    /// Gate and up, panels in turns.
    pub gate_up: Matrix,
    /// The way back to the residual stream.
    pub down: Matrix,
    /// The norm of the MLP's output, `glm4` only.
    pub post_mlp_norm: Option<Vec<f32>>,
}

/// What a tensor is, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorShape {
    /// So many f32, one after the other.
    Vector(usize),
    /// Panels.
    Matrix {
        /// Elements of the product.
        rows: usize,
        /// Elements of what is multiplied.
        cols: usize,
    },
}

impl TensorShape {
    /// How many numbers it has.
    pub fn numbers(self) -> u64 {
        match self {
            TensorShape::Vector(len) => len as u64,
            TensorShape::Matrix { rows, cols } => rows as u64 * cols as u64,
        }
    }
}

/// Rows of a fused gate-up matrix.
pub fn gate_up_rows(arch: &Arch) -> usize {
    2 * arch.inter.next_multiple_of(PANEL_ROWS)
}

/// Every tensor of a model of this shape, by name, in a bundle's order.
pub fn tensors(arch: &Arch) -> Vec<(String, TensorShape)> {
    let norm = TensorShape::Vector(arch.hidden);
    let matrix = |rows, cols| TensorShape::Matrix { rows, cols };
    let mut all = vec![("embed".to_owned(), matrix(arch.vocab, arch.hidden))];
    for layer in 0..arch.layers {
        let mut add = |name: &str, shape| all.push((format!("layers.{layer}.{name}"), shape));
        add("attn_norm", norm);
        add("qkv", matrix(arch.qkv_rows(), arch.hidden));
        if arch.qkv_bias {
            add("qkv_bias", TensorShape::Vector(arch.qkv_rows()));
        }
        add("o", matrix(arch.hidden, arch.attention_dim()));
        if arch.family == Family::Glm4 {
            add("post_attn_norm", norm);
        }
        add("mlp_norm", norm);
        add("gate_up", matrix(gate_up_rows(arch), arch.hidden));
        add("down", matrix(arch.hidden, arch.inter));
        if arch.family == Family::Glm4 {
            add("post_mlp_norm", norm);
        }
    }
    all.push(("norm".to_owned(), norm));
    if !arch.tied_head {
        all.push(("head".to_owned(), matrix(arch.vocab, arch.hidden)));
    }
    all
}

/// Where weights come from, tensor by tensor.
pub trait TensorSource {
    /// What may go wrong.
    type Error;
    /// A matrix of the list.
    fn matrix(&mut self, name: &str) -> Result<Matrix, Self::Error>;
    /// A vector of the list.
    fn vector(&mut self, name: &str) -> Result<Vec<f32>, Self::Error>;
}

impl Weights {
    /// Collects what [`tensors`] lists; the source answers for the shapes.
    pub fn collect<S: TensorSource>(arch: &Arch, source: &mut S) -> Result<Weights, S::Error> {
        let layers = (0..arch.layers).map(|n| LayerWeights::collect(arch, n, source));
        Ok(Weights {
            layers: layers.collect::<Result<_, _>>()?,
            embed: source.matrix("embed")?,
            norm: source.vector("norm")?,
            head: if arch.tied_head { None } else { Some(source.matrix("head")?) },
            arch: arch.clone(),
        })
    }

    /// The matrix that gives the logits.
    pub fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embed)
    }

    /// Bytes of all matrices: what one token reads at most.
    pub fn matrix_bytes(&self) -> usize {
        let layers = self.layers.iter().flat_map(|l| [&l.qkv, &l.o, &l.gate_up, &l.down]);
        layers.chain([&self.embed]).chain(&self.head).map(|m| m.bytes().len()).sum()
    }
}

impl LayerWeights {
    fn collect<S: TensorSource>(arch: &Arch, layer: usize, source: &mut S) -> Result<LayerWeights, S::Error> {
        let name = |tensor: &str| format!("layers.{layer}.{tensor}");
        let four_norms = arch.family == Family::Glm4;
        let mut optional =
            |there: bool, tensor: &str| there.then(|| source.vector(&name(tensor))).transpose();
        let qkv_bias = optional(arch.qkv_bias, "qkv_bias")?;
        let post_attn_norm = optional(four_norms, "post_attn_norm")?;
        let post_mlp_norm = optional(four_norms, "post_mlp_norm")?;
        Ok(LayerWeights {
            attn_norm: source.vector(&name("attn_norm"))?,
            qkv: source.matrix(&name("qkv"))?,
            qkv_bias,
            o: source.matrix(&name("o"))?,
            post_attn_norm,
            mlp_norm: source.vector(&name("mlp_norm"))?,
            gate_up: source.matrix(&name("gate_up"))?,
            down: source.matrix(&name("down"))?,
            post_mlp_norm,
        })
    }
}
