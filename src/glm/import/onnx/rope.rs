//! Rotary embedding out of a graph: from this project's table of cosines, or from torch's inverse frequencies.

use super::graph::{Graph, Initializer};
use crate::glm::import::ImportError;
use crate::glm::import::tensor::Tensor;
use crate::limits;

/// What a table tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rope {
    pub(super) theta: f32,
    pub(super) rotary_dim: usize,
    /// Where the table ends; inverse frequencies have no end.
    pub(super) positions: Option<usize>,
}

/// Finds the rotary embedding, `None` where no constant has a known name.
pub(super) fn of_graph(
    graph: &Graph,
    ours: bool,
    head_dim: usize,
    mut tensor: impl FnMut(&Initializer) -> Result<Tensor, ImportError>,
) -> Result<Option<Rope>, ImportError> {
    let mut numbers = |constant: &Initializer| -> Result<(Tensor, Vec<f32>), ImportError> {
        let tensor = tensor(constant)?;
        if tensor.rows.saturating_mul(tensor.cols) > limits::GLM_CONTEXT_TOKENS_MAX * limits::GLM_HEAD_DIM_MAX
        {
            return Err(ImportError::unsupported("a table of angles this large", "export the model again"));
        }
        let mut numbers = vec![0.0; tensor.rows * tensor.cols];
        tensor.numbers(0..tensor.rows, &mut Vec::new(), &mut numbers)?;
        Ok((tensor, numbers))
    };
    if ours {
        let table =
            |name: &str| graph.initializers.get(name).filter(|t| t.dims.len() == 2 && t.data_type == 1);
        let (Some(cos), Some(sin)) = (table("table.cos"), table("table.sin")) else { return Ok(None) };
        let ((cos, cosines), (sin, sines)) = (numbers(cos)?, numbers(sin)?);
        if (cos.rows, cos.cols) != (sin.rows, sin.cols) || cos.cols != head_dim || cos.rows < 2 {
            return Err(ImportError::unsupported("this table of angles", "export the model again"));
        }
        return of_tables(&cosines, &sines, head_dim).map(Some);
    }
    let named = graph.initializers.values().filter(|t| t.name.ends_with("inv_freq"));
    let Some(constant) = named.min_by_key(|t| &t.name) else { return Ok(None) };
    let pairs = constant.dims.iter().filter(|&&d| d != 1).count();
    if pairs > 1 || constant.data_type != 1 {
        return Ok(None);
    }
    let flat = Initializer { dims: vec![constant.dims.iter().product()], ..constant.clone() };
    let (_, frequencies) = numbers(&flat)?;
    let rotary_dim = 2 * frequencies.len();
    let theta = theta(frequencies.get(1).copied(), rotary_dim)?;
    let right = |(n, f): (usize, &f32)| (f - frequency(theta, n, rotary_dim)).abs() <= 1e-5 * f.abs();
    match frequencies.iter().enumerate().all(right) {
        true => Ok(Some(Rope { theta, rotary_dim, positions: None })),
        false => Err(ImportError::unsupported("scaled rotary embedding", "a GLM has the plain one")),
    }
}

/// Rows are positions; each row has a head's halves twice the same: angles that turn, then zeros.
fn of_tables(cosines: &[f32], sines: &[f32], head_dim: usize) -> Result<Rope, ImportError> {
    let half = head_dim / 2;
    let (cos, sin) = (&cosines[head_dim..][..half], &sines[head_dim..][..half]);
    let turned = sin.iter().take_while(|s| **s != 0.0).count();
    let rotary_dim = 2 * turned;
    let second = (turned > 1).then(|| sin[1].atan2(cos[1]));
    let theta = theta(second, rotary_dim)?;
    let odd = || ImportError::unsupported("this table of angles", "export the model again");
    let rows = cosines.chunks_exact(head_dim).zip(sines.chunks_exact(head_dim));
    for (position, (cos, sin)) in rows.enumerate() {
        for i in 0..half {
            let wanted = if i < turned { position as f32 * frequency(theta, i, rotary_dim) } else { 0.0 };
            let near = |is: f32, wanted: f32| (is - wanted).abs() < 1e-3;
            let both = near(cos[i], wanted.cos()) && near(sin[i], wanted.sin());
            if !both || cos[half + i] != cos[i] || sin[half + i] != sin[i] {
                return Err(odd());
            }
        }
    }
    Ok(Rope { theta, rotary_dim, positions: Some(cosines.len() / head_dim) })
}

fn frequency(theta: f32, n: usize, rotary_dim: usize) -> f32 {
    (f64::from(theta).powf(-2.0 * n as f64 / rotary_dim as f64)) as f32
}

/// The base whose second frequency this is. Bases are whole numbers; what is a rounding error away from one is meant to be it.
fn theta(second: Option<f32>, rotary_dim: usize) -> Result<f32, ImportError> {
    let Some(second) = second else {
        return Err(ImportError::unsupported("rotary embedding of a single pair", "export the model again"));
    };
    let theta = f64::from(second).powf(-(rotary_dim as f64) / 2.0);
    let whole = theta.round();
    let near = (theta - whole).abs() < 1e-4 * whole;
    Ok(if near { whole } else { theta } as f32)
}
