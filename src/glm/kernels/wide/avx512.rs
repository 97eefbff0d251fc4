//! AVX-512: one register of sixteen.

#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::x86_64::*;

use super::Wide;

/// For machines with AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx512(__m512);

impl Wide for Avx512 {
    const MANY: bool = true;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Avx512(_mm512_set1_ps(x))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Avx512(_mm512_loadu_ps(from))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm512_storeu_ps(to, self.0);
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        Avx512(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast())))
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        Avx512(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))))
    }

    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) {
        _mm_storeu_si128(to.cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(self.0)));
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Avx512(_mm512_add_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Avx512(_mm512_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Avx512(_mm512_mul_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        Avx512(_mm512_fmadd_ps(self.0, a.0, b.0))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Avx512(_mm512_max_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Avx512(_mm512_min_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn first(self, count: usize, rest: Self) -> Self {
        let mask = ((1_u32 << count) - 1) as __mmask16;
        Avx512(_mm512_mask_mov_ps(rest.0, mask, self.0))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        _mm512_reduce_add_ps(self.0)
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        _mm512_reduce_max_ps(self.0)
    }

    #[inline(always)]
    unsafe fn split(self) -> (Self, Self) {
        let whole = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0);
        let power = _mm512_scalef_ps(_mm512_set1_ps(1.0), whole);
        (Avx512(_mm512_sub_ps(self.0, whole)), Avx512(power))
    }

    #[inline(always)]
    unsafe fn turn(self, cos_sin: Self) -> Self {
        let swapped = _mm512_permute_ps::<0b10_11_00_01>(self.0);
        let by_sin = _mm512_mul_ps(swapped, _mm512_movehdup_ps(cos_sin.0));
        Avx512(_mm512_fmaddsub_ps(self.0, _mm512_moveldup_ps(cos_sin.0), by_sin))
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
}
