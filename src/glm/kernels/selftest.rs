//! The kernels of this processor held against the portable ones, by the program itself.

use super::{BadMatrix, Epilogue, Format, Isa, Kernels, Matrix};

/// A shape with a part-filled panel and several blocks, for one token and for more than a tile of them.
const ROWS: usize = 40;
const COLS: usize = 96;
const TOKENS: [usize; 2] = [1, 19];
/// Sums of 96 products below 1 differ by their order alone.
const WITHIN: f32 = 1e-3;

/// Kernels that multiply wrongly: a fault of this build on this processor.
#[derive(Debug, thiserror::Error)]
pub enum Unlike {
    /// The test itself.
    #[error(transparent)]
    Matrix(#[from] BadMatrix),
    /// Another product than that of the portable kernels.
    #[error("{isa}, {format}, {tokens} tokens: {found} where portable kernels have {wanted}")]
    Product {
        /// Which kernels.
        isa: Isa,
        /// How the weights are kept.
        format: Format,
        /// Columns of the other factor.
        tokens: usize,
        /// The wrong number.
        found: f32,
        /// The right one.
        wanted: f32,
    },
}

/// Multiplies matrices of every format by every instruction set that this machine has, and names these. Blocks for
/// milliseconds.
pub fn selftest() -> Result<Vec<Isa>, Unlike> {
    let all = Isa::available();
    for (&format, tokens) in Format::ALL.iter().flat_map(|format| TOKENS.map(|tokens| (format, tokens))) {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.f32() * 2.0 - 1.0).collect() };
        let w = Matrix::pack(ROWS, COLS, format, &numbers(ROWS * COLS))?;
        let x = numbers(tokens * COLS);
        let product = |isa| {
            let mut out = vec![f32::NAN; tokens * ROWS];
            Kernels::new(isa, 1).linear(&w, None, Epilogue::None, &x, tokens, &mut out);
            out
        };
        let right = product(Isa::Portable);
        for &isa in &all {
            // A NaN is near to nothing.
            let near = |a: f32, b: f32| (a - b).abs() <= WITHIN;
            let wrong = product(isa).into_iter().zip(&right).find(|(a, b)| !near(*a, **b));
            if let Some((found, &wanted)) = wrong {
                return Err(Unlike::Product { isa, format, tokens, found, wanted });
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_instruction_set_of_this_machine_is_tried() {
        assert_eq!(super::selftest().unwrap(), super::Isa::available());
    }
}
