//! What every source becomes before anything is written: the shape, and for each role of a dense GLM the tensor that has it.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::{ImportError, TensorProblem};
use super::tensor::{Tensor, shape};
use crate::glm::arch::{Arch, Family};

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Embed,
    Norm,
    Head,
    Layer(usize, LayerRole),
}

/// What a tensor of a layer is for. Sources fuse queries, keys and values or not, gate and up likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum LayerRole {
    AttnNorm,
    Q,
    K,
    V,
    Qkv,
    QBias,
    KBias,
    VBias,
    QkvBias,
    O,
    PostAttnNorm,
    MlpNorm,
    Gate,
    Up,
    /// The gate's rows, then those of up.
    GateUp,
    Down,
    PostMlpNorm,
}

/// How a source names tensors, for messages about missing ones.
pub(super) type Naming = fn(Role) -> String;

/// Some rows of a tensor.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) tensor: Arc<Tensor>,
    first: usize,
    pub(super) rows: usize,
    /// Where each row of a head stands in the file, if not in its place.
    order: Option<Arc<[usize]>>,
}

/// Parts of one layer.
pub(super) struct LayerParts {
    pub(super) attn_norm: Part,
    /// Queries, keys, values: one part or three.
    pub(super) qkv: Vec<Part>,
    pub(super) qkv_bias: Vec<Part>,
    pub(super) o: Part,
    pub(super) post_attn_norm: Option<Part>,
    pub(super) mlp_norm: Part,
    pub(super) gate: Part,
    pub(super) up: Part,
    pub(super) down: Part,
    pub(super) post_mlp_norm: Option<Part>,
}

/// A dense GLM in somebody's files.
pub(super) struct Checkpoint {
    pub(super) arch: Arch,
    pub(super) embed: Part,
    pub(super) norm: Part,
    pub(super) layers: Vec<LayerParts>,
    /// `None`: the embedding.
    pub(super) head: Option<Part>,
}

impl Part {
    /// Where row `row` of this part stands in its tensor.
    pub(super) fn row(&self, row: usize) -> usize {
        match &self.order {
            Some(order) => self.first + row / order.len() * order.len() + order[row % order.len()],
            None => self.first + row,
        }
    }
}

/// Tensors by role, each once.
pub(super) struct Roles {
    naming: Naming,
    tensors: HashMap<Role, Arc<Tensor>>,
}

impl Roles {
    /// None yet; `naming` tells how the source would call a missing one.
    pub(super) fn new(naming: Naming) -> Roles {
        Roles { naming, tensors: HashMap::new() }
    }

    /// Files a tensor; two of a role are refused.
    pub(super) fn insert(&mut self, role: Role, tensor: Tensor) -> Result<(), ImportError> {
        let name = tensor.name.clone();
        match self.tensors.insert(role, Arc::new(tensor)) {
            None => Ok(()),
            Some(_) => Err(ImportError::tensor(&name, TensorProblem::Doubled)),
        }
    }

    /// The tensor of a role.
    pub(super) fn find(&self, role: Role) -> Option<&Arc<Tensor>> {
        self.tensors.get(&role)
    }

    /// Sorts everything into its place. `order`: where each row of a head of queries and keys stands, if not in its place.
    pub(super) fn checkpoint(
        mut self,
        arch: Arch,
        order: Option<Arc<[usize]>>,
    ) -> Result<Checkpoint, ImportError> {
        arch.validate()?;
        if order.as_ref().is_some_and(|order| !is_permutation(order, arch.head_dim)) {
            return Err(ImportError::unsupported(
                "this order of rows within a head",
                "export the model again",
            ));
        }
        let (hidden, vocab) = (arch.hidden, arch.vocab);
        let layers = (0..arch.layers).map(|n| self.layer(&arch, n, &order)).collect::<Result<Vec<_>, _>>()?;
        let checkpoint = Checkpoint {
            embed: self.matrix(Role::Embed, vocab, hidden)?,
            norm: self.vector(Role::Norm, hidden)?,
            head: match arch.tied_head {
                // A file may hold the tied head once more.
                true => self.tensors.remove(&Role::Head).and(None),
                false => Some(self.matrix(Role::Head, vocab, hidden)?),
            },
            layers,
            arch,
        };
        match self.tensors.values().next() {
            Some(left) => Err(left.problem(TensorProblem::Unknown)),
            None => Ok(checkpoint),
        }
    }

    fn layer(
        &mut self,
        arch: &Arch,
        n: usize,
        order: &Option<Arc<[usize]>>,
    ) -> Result<LayerParts, ImportError> {
        use LayerRole as L;
        let role = |role| Role::Layer(n, role);
        let (hidden, inter) = (arch.hidden, arch.inter);
        let four_norms = arch.family == Family::Glm4;
        let (gate, up) = self.gate_up(arch, n)?;
        Ok(LayerParts {
            attn_norm: self.vector(role(L::AttnNorm), hidden)?,
            qkv: self.qkv(arch, n, [L::Qkv, L::Q, L::K, L::V], hidden, order)?,
            qkv_bias: match arch.qkv_bias {
                true => self.qkv(arch, n, [L::QkvBias, L::QBias, L::KBias, L::VBias], 1, order)?,
                false => Vec::new(),
            },
            o: self.matrix(role(L::O), hidden, arch.attention_dim())?,
            post_attn_norm: four_norms.then(|| self.vector(role(L::PostAttnNorm), hidden)).transpose()?,
            mlp_norm: self.vector(role(L::MlpNorm), hidden)?,
            gate,
            up,
            down: self.matrix(role(L::Down), hidden, inter)?,
            post_mlp_norm: four_norms.then(|| self.vector(role(L::PostMlpNorm), hidden)).transpose()?,
        })
    }

    fn qkv(
        &mut self,
        arch: &Arch,
        n: usize,
        [fused, q, k, v]: [LayerRole; 4],
        cols: usize,
        order: &Option<Arc<[usize]>>,
    ) -> Result<Vec<Part>, ImportError> {
        let (q_rows, kv_rows) = (arch.attention_dim(), arch.kv_heads * arch.head_dim);
        let turned = |part: Part| Part { order: order.clone(), ..part };
        if self.find(Role::Layer(n, fused)).is_some() {
            let all = self.matrix(Role::Layer(n, fused), arch.qkv_rows(), cols)?;
            if order.is_none() {
                return Ok(vec![all]);
            }
            let part = |first, rows| Part { first, rows, ..all.clone() };
            return Ok(vec![
                turned(part(0, q_rows)),
                turned(part(q_rows, kv_rows)),
                part(q_rows + kv_rows, kv_rows),
            ]);
        }
        Ok(vec![
            turned(self.matrix(Role::Layer(n, q), q_rows, cols)?),
            turned(self.matrix(Role::Layer(n, k), kv_rows, cols)?),
            self.matrix(Role::Layer(n, v), kv_rows, cols)?,
        ])
    }

    fn gate_up(&mut self, arch: &Arch, n: usize) -> Result<(Part, Part), ImportError> {
        let fused = Role::Layer(n, LayerRole::GateUp);
        if self.find(Role::Layer(n, LayerRole::Gate)).is_none() {
            let all = self.matrix(fused, 2 * arch.inter, arch.hidden)?;
            let up = Part { first: arch.inter, rows: arch.inter, ..all.clone() };
            return Ok((Part { rows: arch.inter, ..all }, up));
        }
        Ok((
            self.matrix(Role::Layer(n, LayerRole::Gate), arch.inter, arch.hidden)?,
            self.matrix(Role::Layer(n, LayerRole::Up), arch.inter, arch.hidden)?,
        ))
    }

    fn vector(&mut self, role: Role, rows: usize) -> Result<Part, ImportError> {
        self.matrix(role, rows, 1)
    }

    fn matrix(&mut self, role: Role, rows: usize, cols: usize) -> Result<Part, ImportError> {
        let missing = || ImportError::tensor(&(self.naming)(role), TensorProblem::Missing);
        let tensor = self.tensors.get(&role).cloned().ok_or_else(missing)?;
        if (tensor.rows, tensor.cols) != (rows, cols) {
            let (wanted, found) = (shape(rows, cols), tensor.shape());
            return Err(tensor.problem(TensorProblem::Shape { wanted, found }));
        }
        self.tensors.remove(&role);
        Ok(Part { tensor, first: 0, rows, order: None })
    }
}

fn is_permutation(order: &[usize], len: usize) -> bool {
    let mut seen = vec![false; len];
    order.len() == len && order.iter().all(|&i| i < len && !std::mem::replace(&mut seen[i], true))
}
