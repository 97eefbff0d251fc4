//! Which constant of a graph is which weight: found by the operators that use them and by the names that exporters leave.
//!
//! A weight is what a `MatMul`, `Gemm`, `Gather`, `Add`, a norm, or a norm's last `Mul` takes beside activations. Its role is
//! told by, in this order, the operator's scope (torch's exporter notes it), the constant's own name, the operator's name.
//! Constants are followed through `DequantizeLinear`, `Transpose`, `Identity`; a `MatMul`'s matrix stands transposed.

use std::collections::HashMap;
use std::sync::Arc;

use super::graph::{Attribute, Graph, Initializer, Node};
use super::rope;
use crate::glm::arch::{Arch, Family};
use crate::glm::import::blob::Blob;
use crate::glm::import::checkpoint::{Checkpoint, LayerRole, Role, Roles};
use crate::glm::import::error::{ImportError, TensorProblem, clip};
use crate::glm::import::hf::{self, Config};
use crate::glm::import::names;
use crate::glm::import::tensor::{At, Encoding, Tensor, dimensions};

/// A constant as it is used.
#[derive(Clone)]
struct Weight {
    tensor: Tensor,
    /// Name of the constant at the root.
    root: String,
}

struct Finder<'a> {
    graph: &'a Graph,
    blob: &'a Blob,
    /// Which operator makes a value.
    makers: HashMap<&'a str, &'a Node>,
    externals: HashMap<String, Blob>,
}

/// Finds the weights of a graph and the shape of its model.
/// `config` is believed where the graph says nothing.
pub(super) fn checkpoint(
    graph: &Graph,
    blob: &Blob,
    config: Option<&Config>,
) -> Result<Checkpoint, ImportError> {
    let makers = graph.nodes.iter().flat_map(|node| node.outputs.iter().map(move |out| (out.as_str(), node)));
    let mut finder = Finder { graph, blob, makers: makers.collect(), externals: HashMap::new() };
    let mut roles = Roles::new(names::of_transformers);
    let mut eps = None;
    let mut tied = false;
    for node in &graph.nodes {
        let Some((role, weight)) = finder.weight(node)? else { continue };
        if names::is_norm(role) {
            eps = eps.or(node.float("epsilon"));
        }
        tied |= role == Role::Head && roles.find(Role::Embed).is_some_and(|embed| embed.name == weight.root);
        if let Some((role, bias)) = finder.gemm_bias(node, role)? {
            roles.insert(role, bias)?;
        }
        roles.insert(role, weight.tensor)?;
    }
    let eps = eps.or_else(|| finder.eps_of_parts());
    let ours = graph.producer == OURS;
    let arch = finder.arch(&roles, eps, tied, ours, config)?;
    let order = ours.then(|| halves(arch.head_dim, arch.rotary_dim));
    roles.checkpoint(arch, order)
}

/// Who writes the rows of a head in another order.
const OURS: &str = "outpost";

/// Where this project's exporter puts each row of a head: the even ones that turn, half of the rest, the odd ones, the other
/// half, so that turning is one operation on two halves.
fn halves(head_dim: usize, rotary_dim: usize) -> Arc<[usize]> {
    let (half, turned) = (head_dim / 2, rotary_dim / 2);
    let pairs = (0..turned).flat_map(|n| [n, half + n]);
    pairs.chain(turned..half).chain(half + turned..head_dim).collect()
}

impl Finder<'_> {
    /// The weight that an operator takes and its role, if it takes one.
    fn weight(&mut self, node: &Node) -> Result<Option<(Role, Weight)>, ImportError> {
        let input = |n: usize| node.inputs.get(n).map_or("", String::as_str);
        let found = match node.op.as_str() {
            "Gather" => self.resolve(input(0), false)?,
            "MatMul" => self.resolve(input(1), true)?,
            "Gemm" => self.resolve(input(1), node.int("transB").unwrap_or(0) == 0)?,
            "RMSNormalization" | "SimplifiedLayerNormalization" => self.resolve(input(1), false)?,
            "Add" | "Mul" => match self.resolve(input(0), false)? {
                None => self.resolve(input(1), false)?,
                found => found,
            },
            _ => return Ok(None),
        };
        let Some(weight) = found else { return Ok(None) };
        let role = self.role(node, &weight.root);
        let is_vector = weight.tensor.cols == 1;
        let unknown = || Err(weight.tensor.problem(TensorProblem::Unknown));
        let role = match (node.op.as_str(), role) {
            // A table of angles, or the arithmetic of masks and positions.
            ("Gather", None) => return Ok(None),
            ("Add" | "Mul", _) if !is_vector || weight.tensor.rows == 1 => return Ok(None),
            ("Add", Some(role)) if !names::is_norm(role) => match names::bias(role) {
                Some(role) => role,
                None => return unknown(),
            },
            ("Mul", Some(role)) if names::is_norm(role) => role,
            ("Add" | "Mul", _) => return Ok(None),
            ("Gather", Some(Role::Embed)) => Role::Embed,
            ("MatMul" | "Gemm", Some(role)) if !is_vector && !names::is_norm(role) => role,
            ("RMSNormalization" | "SimplifiedLayerNormalization", Some(role)) if names::is_norm(role) => role,
            _ => return unknown(),
        };
        Ok(Some((role, weight)))
    }

    /// The third input of a `Gemm`.
    fn gemm_bias(&mut self, node: &Node, role: Role) -> Result<Option<(Role, Tensor)>, ImportError> {
        if node.op != "Gemm" || node.inputs.len() < 3 {
            return Ok(None);
        }
        if [node.float("alpha"), node.float("beta")].into_iter().flatten().any(|x| x != 1.0) {
            return Err(ImportError::unsupported("a scaled Gemm", "export plain projections"));
        }
        let Some(weight) = self.resolve(&node.inputs[2], false)? else { return Ok(None) };
        match names::bias(role) {
            Some(bias) => Ok(Some((bias, weight.tensor))),
            None => Err(weight.tensor.problem(TensorProblem::Unknown)),
        }
    }

    fn role(&self, node: &Node, root: &str) -> Option<Role> {
        let output = node.outputs.first().map_or("", String::as_str);
        [&node.scope, root, &node.name, output].into_iter().find_map(names::role)
    }

    /// Follows a value to its constant, a matrix's rows being elements of the product: `across` for one that stands as the
    /// right side of a product.
    fn resolve(&mut self, value: &str, mut across: bool) -> Result<Option<Weight>, ImportError> {
        let (mut value, mut scaled) = (value, None);
        for _ in 0..STEPS_MAX {
            if let Some(constant) = self.graph.initializers.get(value) {
                return self.weight_of(constant, across, scaled);
            }
            let Some(&node) = self.makers.get(value) else { return Ok(None) };
            match node.op.as_str() {
                "Identity" => {}
                "Transpose" if node.ints("perm").is_none_or(|perm| *perm == [1, 0]) => across = !across,
                "DequantizeLinear" if scaled.is_none() => scaled = Some(node),
                "Constant" => {
                    let constant = node.attributes.iter().find_map(|(_, a)| match a {
                        Attribute::Tensor(constant) => {
                            Some(Initializer { name: value.to_owned(), ..constant.clone() })
                        }
                        _ => None,
                    });
                    return constant.map_or(Ok(None), |constant| self.weight_of(&constant, across, scaled));
                }
                _ => return Ok(None),
            }
            value = node.inputs.first().map_or("", String::as_str);
        }
        Ok(None)
    }

    fn weight_of(
        &mut self,
        constant: &Initializer,
        across: bool,
        scaled: Option<&Node>,
    ) -> Result<Option<Weight>, ImportError> {
        if !(1..=2).contains(&constant.dims.len()) || !matches!(constant.data_type, 1 | 3 | 10 | 16) {
            return Ok(None);
        }
        let tensor = self.tensor(constant)?;
        let flat = tensor.cols == 1 && constant.dims.len() == 1;
        let tensor = if across && !flat { tensor.across() } else { tensor };
        let root = constant.name.clone();
        let tensor = match (tensor.encoding, scaled) {
            (Encoding::I8, Some(node)) => self.dequantised(tensor, node, across)?,
            (Encoding::I8, None) | (_, Some(_)) => return Ok(None),
            _ => tensor,
        };
        Ok(Some(Weight { tensor, root }))
    }

    /// Codes with the scales of their rows.
    fn dequantised(&mut self, codes: Tensor, node: &Node, across: bool) -> Result<Tensor, ImportError> {
        let odd = |what: &str| {
            let what = format!("int8 weight {} with {what}", clip(&codes.name));
            ImportError::unsupported(what, "int8 weights need one scale per output channel and no zero point")
        };
        let scales = match node.inputs.get(1).and_then(|name| self.graph.initializers.get(name)) {
            Some(scales) if scales.data_type == 1 => self.tensor(scales)?,
            _ => return Err(odd("scales that are no constant of f32")),
        };
        if let Some(zero) = node.inputs.get(2).filter(|name| !name.is_empty()) {
            let zero = self.graph.initializers.get(zero).filter(|zero| zero.data_type == 3);
            let zero = self.bytes_of(zero.ok_or_else(|| odd("a zero point that is no constant"))?)?;
            if zero.iter().any(|&byte| byte != 0) {
                return Err(odd("a zero point"));
            }
        }
        let mut numbers = vec![0.0; scales.rows];
        scales.into_vector().numbers(0..numbers.len(), &mut Vec::new(), &mut numbers)?;
        if numbers.len() == 1 && codes.rows > 1 {
            numbers = vec![numbers[0]; codes.rows];
        }
        let axis = node.int("axis").unwrap_or(1);
        let rows_axis = i64::from(across);
        if numbers.len() != codes.rows || (axis != rows_axis && axis != rows_axis - 2 && codes.rows > 1) {
            return Err(odd("scales along another axis"));
        }
        Ok(codes.with_scales(numbers))
    }

    /// A constant as a tensor in the file's own orientation.
    fn tensor(&mut self, constant: &Initializer) -> Result<Tensor, ImportError> {
        let dims: &[u64] = if constant.dims.is_empty() { &[1] } else { &constant.dims };
        let shape = dimensions(self.blob, &constant.name, dims)?;
        let encoding = match constant.data_type {
            1 => Encoding::F32,
            3 => Encoding::I8,
            10 => Encoding::F16,
            16 => Encoding::Bf16,
            other => {
                let what = format!("ONNX element type {other} of weight {}", clip(&constant.name));
                return Err(ImportError::unsupported(what, "export weights as f32, f16, bf16 or int8"));
            }
        };
        let (blob, at, bytes) = self.place(constant, shape, encoding)?;
        Tensor::new(&constant.name, shape, encoding, At { blob: &blob, at, bytes })
    }

    fn bytes_of(&mut self, constant: &Initializer) -> Result<Vec<u8>, ImportError> {
        let shape = dimensions(self.blob, &constant.name, &constant.dims)?;
        let (blob, at, bytes) = self.place(constant, shape, Encoding::I8)?;
        blob.part(at, bytes)
    }

    fn place(
        &mut self,
        constant: &Initializer,
        [rows, cols]: [usize; 2],
        encoding: Encoding,
    ) -> Result<(Blob, u64, u64), ImportError> {
        let wanted = encoding.row_bytes(cols).and_then(|row| row.checked_mul(rows as u64));
        match (&constant.raw, &constant.external) {
            (Some(span), None) => Ok((self.blob.clone(), span.at, span.len)),
            (None, Some(external)) => {
                let blob = match self.externals.get(&external.location) {
                    Some(blob) => blob.clone(),
                    None => external.open(self.blob.path(), &constant.name)?,
                };
                self.externals.insert(external.location.clone(), blob.clone());
                Ok((blob, external.offset, external.length.or(wanted).unwrap_or(0)))
            }
            _ => {
                let what = format!("weight {} without its bytes in one piece", clip(&constant.name));
                Err(ImportError::unsupported(what, "store weights as raw data"))
            }
        }
    }

    /// The epsilon of a norm that was exported in parts: what is added inside its scope.
    fn eps_of_parts(&mut self) -> Option<f32> {
        let graph = self.graph;
        let mut adds = graph.nodes.iter().filter(|node| node.op == "Add");
        adds.find_map(|node| {
            let scope = [&node.scope, &node.name].into_iter().find_map(|name| names::role(name))?;
            let constant = node.inputs.iter().find_map(|name| graph.initializers.get(name))?;
            if !names::is_norm(scope) || constant.dims.iter().any(|&d| d != 1) || constant.data_type != 1 {
                return None;
            }
            let mut eps = [0.0];
            let tensor = self.tensor(constant).ok()?;
            tensor.numbers(0..1, &mut Vec::new(), &mut eps).ok()?;
            Some(eps[0])
        })
    }

    fn arch(
        &mut self,
        roles: &Roles,
        eps: Option<f32>,
        tied: bool,
        ours: bool,
        config: Option<&Config>,
    ) -> Result<Arch, ImportError> {
        let graph = self.graph;
        let no =
            |what: &str| ImportError::NoCheckpoint { path: self.blob.path().to_owned(), what: what.into() };
        let missing = |role| ImportError::tensor(&names::of_transformers(role), TensorProblem::Missing);
        let find = |role| roles.find(role).ok_or_else(|| missing(role));
        let embed = find(Role::Embed)?;
        let layers = (0..).take_while(|&n| roles.find(Role::Layer(n, LayerRole::AttnNorm)).is_some()).count();
        let caches: Vec<_> = graph.inputs.iter().filter(|port| port.dims.len() == 4).collect();
        let cache = match caches.first().map(|port| port.dims.as_slice()) {
            Some(&[_, Some(kv_heads), _, Some(head_dim)]) if caches.len() == 2 * layers => {
                [kv_heads, head_dim]
            }
            _ => {
                return Err(no(&format!(
                    "it has {layers} layers with known names and {} inputs that could be a cache [1, kv heads, past, head dim], \
                 two per layer are due",
                    caches.len()
                )));
            }
        };
        let [kv_heads, head_dim] = cache.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let q = find(Role::Layer(0, LayerRole::Q))?;
        let first = |role| Role::Layer(0, role);
        let rope = rope::of_graph(graph, ours, head_dim, |constant| self.tensor(constant))?;
        let by_config = || {
            let (theta, factor) = config?.rope();
            Some((theta, hf::rotary_dim(head_dim, factor)))
        };
        let (rope_theta, rotary_dim) = rope.map(|r| (r.theta, r.rotary_dim)).or_else(by_config).ok_or_else(|| {
            no("its rotary frequencies can't be found by their name; put the model's config.json beside it")
        })?;
        Ok(Arch {
            family: match roles.find(first(LayerRole::PostAttnNorm)) {
                Some(_) => Family::Glm4,
                None => Family::Glm,
            },
            hidden: embed.cols,
            layers,
            heads: q.rows / head_dim.max(1),
            kv_heads,
            head_dim,
            inter: find(first(LayerRole::Down))?.cols,
            vocab: embed.rows,
            rotary_dim,
            rope_theta,
            rms_eps: eps.ok_or_else(|| no("its norms have no epsilon that could be read"))?,
            qkv_bias: roles.find(first(LayerRole::QBias)).is_some(),
            tied_head: tied,
            context_tokens_max: rope
                .and_then(|r| r.positions)
                .or_else(|| config?.context_tokens_max())
                .unwrap_or(CONTEXT_TOKENS_UNKNOWN),
        })
    }
}

/// Constants hide behind no more operators than this.
const STEPS_MAX: usize = 8;
/// Context of a graph that does not tell its own.
const CONTEXT_TOKENS_UNKNOWN: usize = 4096;
