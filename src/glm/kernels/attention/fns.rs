//! The kernels of each instruction set: the generic ones, compiled with its instructions.
//!
//! A further set is an implementation of [`Wide`](super::super::wide::Wide), a line of `instantiate!`, and its place in
//! [`fns`].

use super::super::Isa;
use super::super::kv::{Head, KvFormat};
use super::super::rope::RopeTable;
use super::super::{norm, wide};
use super::kernel::{self, F16, F32, Int8, KeyValue, Task};
use super::scratch::Scratch;

/// What an instruction set brings, each in the order of [`KvFormat::ALL`].
///
/// # Safety
/// Every function may be called only on a machine that has the instruction set; see also each.
pub(in super::super) struct AttentionFns {
    /// See [`kernel::keep`].
    pub(super) keep: [unsafe fn(Head, &RopeTable, KeyValue<'_>, &mut Scratch); 3],
    /// See [`kernel::attend`].
    pub(super) attend: [unsafe fn(&Task<'_>, &mut Scratch); 3],
    /// See [`norm::norm_row`].
    pub(in super::super) norm_row: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
}

/// The kernels of an instruction set.
pub(in super::super) fn fns(isa: Isa) -> &'static AttentionFns {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni => &avx2::FNS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => &avx512::FNS,
        #[cfg(all(target_arch = "arm", target_endian = "little", target_os = "linux"))]
        Isa::Armv7Neon => &armv7::FNS,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDotprod | Isa::NeonI8mm => &neon::FNS,
        _ => &portable::FNS,
    }
}

/// The place of a format in the tables.
pub(super) fn index(format: KvFormat) -> usize {
    match format {
        KvFormat::F32 => 0,
        KvFormat::F16 => 1,
        KvFormat::Int8 => 2,
    }
}

/// A module `$name` with the kernels written in `$wide`.
macro_rules! instantiate {
    ($(#[$meta:meta])* $name:ident, $wide:ty, $(#[$features:meta])*) => {
        $(#[$meta])*
        mod $name {
            use super::*;

            pub(super) const FNS: AttentionFns = AttentionFns {
                keep: [keep_f32, keep_f16, keep_int8],
                attend: [attend_f32, attend_f16, attend_int8],
                norm_row,
            };

            instantiate!(@format keep_f32, attend_f32, F32, $wide, $(#[$features])*);
            instantiate!(@format keep_f16, attend_f16, F16, $wide, $(#[$features])*);
            instantiate!(@format keep_int8, attend_int8, Int8, $wide, $(#[$features])*);

            $(#[$features])*
            unsafe fn norm_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
                // SAFETY: passed on.
                unsafe { norm::norm_row::<$wide>(x, weight, eps, out) }
            }
        }
    };
    (@format $keep:ident, $attend:ident, $number:ty, $wide:ty, $(#[$features:meta])*) => {
        $(#[$features])*
        unsafe fn $keep(room: Head, rope: &RopeTable, kv: KeyValue<'_>, scratch: &mut Scratch) {
            // SAFETY: passed on.
            unsafe { kernel::keep::<$wide, $number>(room, rope, kv, scratch) }
        }

        $(#[$features])*
        unsafe fn $attend(task: &Task<'_>, scratch: &mut Scratch) {
            // SAFETY: passed on.
            unsafe { kernel::attend::<$wide, $number>(task, scratch) }
        }
    };
}

instantiate!(portable, wide::portable::Portable,);
instantiate!(
    #[cfg(target_arch = "x86_64")]
    avx2,
    wide::avx2::Avx2,
    #[target_feature(enable = "avx2,fma,f16c")]
);
instantiate!(
    #[cfg(target_arch = "x86_64")]
    avx512,
    wide::avx512::Avx512,
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
);
instantiate!(
    #[cfg(all(target_arch = "arm", target_endian = "little", target_os = "linux"))]
    armv7,
    wide::armv7::Armv7Neon,
);
instantiate!(
    #[cfg(target_arch = "aarch64")]
    neon,
    wide::neon::Neon,
);
