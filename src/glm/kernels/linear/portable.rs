//! Plain Rust: the reference for every other kernel, and what runs where there is none.

use half::f16;

use super::super::matrix::{BLOCK_COLS, PANEL_ROWS};
use super::activations::Four;
use super::{LinearFns, Panels, Quantised, QuantisedMut, Sums};

/// No instruction set is asked for, so that these may be called anywhere.
pub(super) const FNS: LinearFns = LinearFns { quantise, f32, q8_0, q4_0, silu_gate };

/// Blocks whose numbers are all smaller are zeros: one over them would not be finite.
pub(super) const SMALLEST: f32 = 1e-30;

fn quantise(x: &[f32], cols: usize, to: QuantisedMut<'_>) {
    to.fill(x, cols, |x| {
        let mut four = Four { q: [[0; BLOCK_COLS]; 4], scales: [0.0; 4], sums: [0; 4] };
        let (blocks, _) = x.as_chunks::<BLOCK_COLS>();
        for (b, x) in blocks.iter().enumerate() {
            let largest = x.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
            if largest >= SMALLEST {
                let inverse = 127.0 / largest;
                four.q[b] = x.map(|x| (x * inverse).round_ties_even() as i8);
                four.scales[b] = largest / 127.0;
                four.sums[b] = four.q[b].iter().map(|&q| i32::from(q)).sum();
            }
        }
        four
    });
}

fn f32(panels: Panels<'_>, x: &[f32], cols: usize, sums: &mut [Sums]) {
    for (panel, sums) in panels.with_sums(sums) {
        for (sums, x) in sums.iter_mut().zip(x.chunks_exact(cols)) {
            *sums = Sums([0.0; PANEL_ROWS]);
            for (column, x) in panel.chunks_exact(PANEL_ROWS * 4).zip(x) {
                let (column, _) = column.as_chunks();
                sums.0.iter_mut().zip(column).for_each(|(sum, w)| *sum += f32::from_le_bytes(*w) * x);
            }
        }
    }
}

fn q8_0(panels: Panels<'_>, x: Quantised<'_>, _: &mut [u8], sums: &mut [Sums]) {
    product::<512>(panels, x, sums, |numbers, q, out| {
        for (group, q) in numbers.chunks_exact(64).zip(q.chunks_exact(4)) {
            for (out, w) in out.iter_mut().zip(group.chunks_exact(4)) {
                *out += w.iter().zip(q).map(|(&w, &q)| i32::from(w as i8) * i32::from(q)).sum::<i32>();
            }
        }
    });
}

fn q4_0(panels: Panels<'_>, x: Quantised<'_>, _: &mut [u8], sums: &mut [Sums]) {
    product::<256>(panels, x, sums, |numbers, q, out| {
        let (low, high) = q.split_at(BLOCK_COLS / 2);
        for ((group, low), high) in
            numbers.chunks_exact(64).zip(low.chunks_exact(4)).zip(high.chunks_exact(4))
        {
            for (out, w) in out.iter_mut().zip(group.chunks_exact(4)) {
                for ((w, low), high) in w.iter().zip(low).zip(high) {
                    *out += (i32::from(w & 15) - 8) * i32::from(*low)
                        + (i32::from(w >> 4) - 8) * i32::from(*high);
                }
            }
        }
    });
}

/// Panels whose blocks have `BYTES` bytes of numbers; `dot(numbers, q, out)` adds one block's products to 16 sums.
fn product<const BYTES: usize>(
    panels: Panels<'_>,
    x: Quantised<'_>,
    sums: &mut [Sums],
    dot: impl Fn(&[u8], &[i8], &mut [i32; PANEL_ROWS]),
) {
    for (panel, sums) in panels.with_sums(sums) {
        panel_product::<BYTES>(panel, x, sums, &dot);
    }
}

fn panel_product<const BYTES: usize>(
    panel: &[u8],
    x: Quantised<'_>,
    sums: &mut [Sums],
    dot: impl Fn(&[u8], &[i8], &mut [i32; PANEL_ROWS]),
) {
    let (numbers, scales) = panel.split_at(x.blocks * BYTES);
    sums.fill(Sums([0.0; PANEL_ROWS]));
    for (b, (numbers, scales)) in
        numbers.chunks_exact(BYTES).zip(scales.chunks_exact(PANEL_ROWS * 2)).enumerate()
    {
        let (scales, _) = scales.as_chunks();
        let mut w_scales = [0.0; PANEL_ROWS];
        w_scales.iter_mut().zip(scales).for_each(|(to, s)| *to = f16::from_le_bytes(*s).to_f32());
        for (t, sums) in sums.iter_mut().enumerate() {
            let place = x.place(t, b);
            let mut block = [0; PANEL_ROWS];
            dot(numbers, &x.q[place * BLOCK_COLS..][..BLOCK_COLS], &mut block);
            for ((sum, block), w_scale) in sums.0.iter_mut().zip(block).zip(w_scales) {
                *sum += block as f32 * (w_scale * x.scales[place]);
            }
        }
    }
}

/// See [`LinearFns`].
#[inline(always)]
pub(super) fn silu_gate(gate: &mut [Sums], up: &[Sums]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        gate.0.iter_mut().zip(up.0).for_each(|(gate, up)| *gate = *gate / (1.0 + exp(-*gate)) * up);
    }
}

/// e to the `x` within two units in the last place, without branches, so that compilers make vectors of it (Cephes).
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.3, 88.3);
    let n = (x * std::f32::consts::LOG2_E + 0.5).floor();
    // ln 2 in two pieces: the first has so few bits that its product with n is exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];
    let p = p.into_iter().fold(0.0, |sum, c| sum * r + c);
    // Beside 2^23 whole numbers are a number's last bits. Conversion by `as` looks at every lane alone, for what is out of range.
    let two_to_n = f32::from_bits((n + (8_388_608.0 + 127.0)).to_bits() << 23);
    (p * r * r + r + 1.0) * two_to_n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_right_to_the_last_bits_and_silu_ends_at_both_ends() {
        for i in -8700..=8800 {
            let x = i as f32 / 100.0;
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) / want - 1.0).abs();
            assert!(error < 3e-7, "exp({x}) is off by {error:e}");
        }
        let mut gate = [Sums([-1e30; PANEL_ROWS]), Sums([1e30; PANEL_ROWS])];
        silu_gate(&mut gate, &[Sums([1.0; PANEL_ROWS]); 2]);
        assert!(gate[0].0[0].abs() < 1e-6 && gate[1].0[0] == 1e30, "{} {}", gate[0].0[0], gate[1].0[0]);
    }
}
