//! AVX2 with FMA and F16C: two registers of eight.

#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::x86_64::*;

use super::Wide;

/// For machines with AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx2(__m256, __m256);

/// Eight of these from `8 - count` on are the mask of the first `count` numbers.
static MASK: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn first(a: __m256, count: usize, rest: __m256) -> __m256 {
    let mask = _mm256_loadu_ps(MASK.as_ptr().add(8 - count).cast());
    _mm256_blendv_ps(rest, a, mask)
}

#[inline(always)]
unsafe fn split(x: __m256) -> (__m256, __m256) {
    let whole = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
    (_mm256_sub_ps(x, whole), _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
}

#[inline(always)]
unsafe fn turn(x: __m256, cos_sin: __m256) -> __m256 {
    let swapped = _mm256_permute_ps::<0b10_11_00_01>(x);
    let by_sin = _mm256_mul_ps(swapped, _mm256_movehdup_ps(cos_sin));
    _mm256_fmaddsub_ps(x, _mm256_moveldup_ps(cos_sin), by_sin)
}

impl Wide for Avx2 {
    const MANY: bool = false;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        let x = _mm256_set1_ps(x);
        Avx2(x, x)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Avx2(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm256_storeu_ps(to, self.0);
        _mm256_storeu_ps(to.add(8), self.1);
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        let (low, high) = (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(8).cast()));
        Avx2(_mm256_cvtph_ps(low), _mm256_cvtph_ps(high))
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
        _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.1));
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        let low = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()));
        let high = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(8).cast()));
        Avx2(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high))
    }

    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) {
        let words = _mm256_packs_epi32(_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1));
        // Packing works within halves: the first eight numbers are in quarters 0 and 2.
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
        let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        _mm_storeu_si128(to.cast(), bytes);
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Avx2(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Avx2(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Avx2(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        Avx2(_mm256_fmadd_ps(self.0, a.0, b.0), _mm256_fmadd_ps(self.1, a.1, b.1))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Avx2(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Avx2(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn first(self, count: usize, rest: Self) -> Self {
        Avx2(first(self.0, count.min(8), rest.0), first(self.1, count.saturating_sub(8), rest.1))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let eight = _mm256_add_ps(self.0, self.1);
        let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let eight = _mm256_max_ps(self.0, self.1);
        let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
    }

    #[inline(always)]
    unsafe fn split(self) -> (Self, Self) {
        let ((rest0, power0), (rest1, power1)) = (split(self.0), split(self.1));
        (Avx2(rest0, rest1), Avx2(power0, power1))
    }

    #[inline(always)]
    unsafe fn turn(self, cos_sin: Self) -> Self {
        Avx2(turn(self.0, cos_sin.0), turn(self.1, cos_sin.1))
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
}
