//! Which instructions the machine has, found out at run time.

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;

use crate::named::named_enum;

named_enum! {
    /// A set of instructions that kernels exist for. A later one of the same machine is faster.
    Isa {
        /// Whatever the compiler makes of plain Rust; the reference for all others.
        Portable = "portable",
        /// x86-64 with AVX2, FMA and F16C.
        Avx2 = "avx2",
        /// The same with VNNI on 256 bits.
        AvxVnni = "avx_vnni",
        /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
        Avx512Vnni = "avx512_vnni",
        /// armv7 with NEON.
        Armv7Neon = "armv7_neon",
        /// aarch64, where NEON is never missing.
        Neon = "neon",
        /// aarch64 with `sdot`.
        NeonDotprod = "neon_dotprod",
        /// aarch64 with `sdot` and `smmla`.
        NeonI8mm = "neon_i8mm",
    }
}

impl Isa {
    /// The fastest of this machine.
    pub fn detect() -> Isa {
        Isa::available().pop().unwrap_or(Isa::Portable)
    }

    /// All of this machine, slowest first.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.iter().copied().filter(|isa| isa.is_available()).collect()
    }

    /// Whether this machine has it, and this program kernels for it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => has_avx2(),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => has_avx2() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => {
                has_avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(all(target_arch = "arm", target_endian = "little", target_os = "linux"))]
            Isa::Armv7Neon => has_armv7_neon(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => IS_LITTLE_ENDIAN,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod => IS_LITTLE_ENDIAN && is_aarch64_feature_detected!("dotprod"),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => {
                IS_LITTLE_ENDIAN
                    && is_aarch64_feature_detected!("dotprod")
                    && is_aarch64_feature_detected!("i8mm")
            }
            _ => false,
        }
    }
}

/// Weights lie in that order in a file, and kernels read them as they lie; the portable ones turn them.
#[cfg(target_arch = "aarch64")]
const IS_LITTLE_ENDIAN: bool = cfg!(target_endian = "little");

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// As Linux says it to every program; the macro of the standard library is not stable for this architecture.
#[cfg(all(target_arch = "arm", target_endian = "little", target_os = "linux"))]
fn has_armv7_neon() -> bool {
    use std::ffi::c_ulong;
    const AT_HWCAP: c_ulong = 16;
    const HWCAP_NEON: c_ulong = 1 << 12;
    // Of every C library on Linux, glibc and musl.
    unsafe extern "C" {
        fn getauxval(kind: c_ulong) -> c_ulong;
    }
    // SAFETY: it takes any number and reads what the system handed over at the start.
    let hwcap = unsafe { getauxval(AT_HWCAP) };
    hwcap & HWCAP_NEON != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_the_portable_kernels_and_detects_its_fastest() {
        let available = Isa::available();
        assert_eq!(available.first(), Some(&Isa::Portable));
        assert_eq!(available.last(), Some(&Isa::detect()));
    }

    /// `cross/kernels.sh` runs all tests once per processor: what it names must have been there to be tested.
    #[test]
    fn the_machine_has_what_whoever_chose_it_expects() {
        let names: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
        println!("instruction sets: {}", names.join(" "));
        if let Ok(expected) = std::env::var("OUTPOST_TEST_ISAS") {
            assert_eq!(names.join(" "), expected);
        }
    }
}
