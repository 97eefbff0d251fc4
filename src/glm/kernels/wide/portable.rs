//! Plain Rust, in the shape that compilers make vectors of.

#![allow(unsafe_op_in_unsafe_fn)]

use half::f16;

use super::{LANES, Wide};

/// For any machine; sixteen numbers in order, also where assembly reads them.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in super::super) struct Portable([f32; LANES]);

/// Added to a number below 2^22, leaves it rounded in the lowest bits.
const TO_LOW_BITS: f32 = 12_582_912.0;

impl Portable {
    #[inline(always)]
    fn map(mut self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a = f(*a, b));
        self
    }

    /// Of halves, quarters and so on, as vectors are reduced.
    #[inline(always)]
    fn reduce(mut self, f: impl Fn(f32, f32) -> f32) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                self.0[i] = f(self.0[i], self.0[i + half]);
            }
        }
        self.0[0]
    }
}

#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

impl Wide for Portable {
    const MANY: bool = false;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Portable([x; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Portable(from.cast::<[f32; LANES]>().read_unaligned())
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        to.cast::<[f32; LANES]>().write_unaligned(self.0);
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        Portable(from.cast::<[u16; LANES]>().read_unaligned().map(widen))
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        to.cast::<[u16; LANES]>().write_unaligned(self.0.map(|x| f16::from_f32(x).to_bits()));
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        Portable(from.cast::<[i8; LANES]>().read_unaligned().map(f32::from))
    }

    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) {
        to.cast::<[i8; LANES]>().write_unaligned(self.0.map(|x| x.round_ties_even() as i8));
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.map(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.map(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.map(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        self.mul(a).add(b)
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.map(other, greater)
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.map(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn first(mut self, count: usize, rest: Self) -> Self {
        self.0[count..].copy_from_slice(&rest.0[count..]);
        self
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self.reduce(|a, b| a + b)
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        self.reduce(greater)
    }

    #[inline(always)]
    unsafe fn split(self) -> (Self, Self) {
        let shifted = self.add(Self::splat(TO_LOW_BITS));
        let whole = shifted.sub(Self::splat(TO_LOW_BITS));
        let power = shifted.0.map(|x| f32::from_bits((x.to_bits() << 23).wrapping_add(127 << 23)));
        (self.sub(whole), Portable(power))
    }

    #[inline(always)]
    unsafe fn turn(mut self, cos_sin: Self) -> Self {
        let ((pairs, _), (turns, _)) = (self.0.as_chunks_mut(), cos_sin.0.as_chunks());
        for ([a, b], [cos, sin]) in pairs.iter_mut().zip(turns) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
        self
    }
}

/// From half precision without branches: moved to the place of an f32's bits it is 2^112 times too small, subnormal numbers
/// too. What the largest exponent means, no number or one beyond all, is lost; the store holds neither.
#[inline(always)]
fn widen(half: u16) -> f32 {
    let (sign, rest) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff) << 13);
    f32::from_bits(sign | rest) * f32::from_bits((127 + 112) << 23)
}
