//! Sixteen numbers in f32 as one value: what attention, norms and rotations are written in, once for all instruction sets.
//!
//! A kernel is a generic function over [`Wide`], marked `#[inline(always)]` from end to end, and is instantiated inside a
//! function with `#[target_feature]` ([`attention::fns`](super::attention)). That is where its instructions come from: a
//! closure in a kernel, or a function that is not inlined, would be compiled without them.

#[cfg(all(target_arch = "arm", target_endian = "little", target_os = "linux"))]
pub(super) mod armv7;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod portable;

/// Numbers in one value.
pub(super) const LANES: usize = 16;

/// Sixteen f32. Pointers need no alignment.
///
/// # Safety
/// Every function: the machine has the instruction set; sixteen numbers can be read or written where a pointer points.
pub(super) trait Wide: Copy {
    /// Whether 16 sums and what is needed beside them fit the registers; otherwise 4 do.
    const MANY: bool;
    /// Whether values lie in memory between operations. Then loops that add up are operations of their own, over numbers that
    /// are f32 already.
    const IN_MEMORY: bool = false;

    /// Sixteen times the same.
    unsafe fn splat(x: f32) -> Self;
    /// As they lie.
    unsafe fn load(from: *const f32) -> Self;
    /// As they are.
    unsafe fn store(self, to: *mut f32);
    /// From IEEE half precision.
    unsafe fn load_f16(from: *const u16) -> Self;
    /// To IEEE half precision, the nearest, ties to even. The numbers are finite there.
    unsafe fn store_f16(self, to: *mut u16);
    /// From signed bytes.
    unsafe fn load_i8(from: *const i8) -> Self;
    /// To signed bytes, the nearest, ties to even. The numbers are at most 127.
    unsafe fn store_i8(self, to: *mut i8);
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self - other`.
    unsafe fn sub(self, other: Self) -> Self;
    /// `self * other`.
    unsafe fn mul(self, other: Self) -> Self;
    /// `self * a + b`, rounded once or twice.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// The greater of each two; which one where either is not a number is left open.
    unsafe fn max(self, other: Self) -> Self;
    /// The lesser of each two, as above.
    unsafe fn min(self, other: Self) -> Self;
    /// The first `count` of these, the others of `rest`; `count` is at most 16.
    unsafe fn first(self, count: usize, rest: Self) -> Self;
    /// Of all.
    unsafe fn sum(self) -> f32;
    /// Of all.
    unsafe fn largest(self) -> f32;
    /// What is left of each without the nearest whole number `n`, and 2 to the `n`. Numbers are from -126 to 127.
    unsafe fn split(self) -> (Self, Self);
    /// Each pair `(a, b)` turned by a pair `(cos, sin)`: `(a cos - b sin, b cos + a sin)`.
    unsafe fn turn(self, cos_sin: Self) -> Self;

    /// `self`, and `count` times sixteen numbers, `stride` numbers apart, each times its weight.
    #[inline(always)]
    unsafe fn add_weighted(
        mut self,
        weights: *const f32,
        count: usize,
        from: *const f32,
        stride: usize,
    ) -> Self {
        // SAFETY: the caller's promise, for all of them.
        unsafe {
            for i in 0..count {
                self = Self::load(from.add(i * stride)).mul_add(Self::splat(*weights.add(i)), self);
            }
        }
        self
    }

    /// The sum of the squares of `count` numbers, whole vectors of them.
    #[inline(always)]
    unsafe fn squares(x: *const f32, count: usize) -> f32 {
        // SAFETY: the caller's promise, for all of them.
        unsafe {
            let mut sums = [Self::splat(0.0); 4];
            let mut at = 0;
            while at + 4 * LANES <= count {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let x = Self::load(x.add(at + i * LANES));
                    *sum = x.mul_add(x, *sum);
                }
                at += 4 * LANES;
            }
            while at < count {
                let x = Self::load(x.add(at));
                sums[0] = x.mul_add(x, sums[0]);
                at += LANES;
            }
            sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum()
        }
    }

    /// `x * by * weight` of as many.
    #[inline(always)]
    unsafe fn scale(x: *const f32, weight: *const f32, by: f32, to: *mut f32, count: usize) {
        // SAFETY: the caller's promise, for all of them.
        unsafe {
            for at in (0..count).step_by(LANES) {
                let x = Self::load(x.add(at)).mul(Self::splat(by));
                x.mul(Self::load(weight.add(at))).store(to.add(at));
            }
        }
    }

    /// Says that memory will be read soon, wherever it is.
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}

    /// 2 to the power of each, within 2e-7 of it; below -126 as at -126. Numbers are at most 127.
    #[inline(always)]
    unsafe fn exp2(self) -> Self {
        // Minimax for relative error on -0.5..0.5.
        const P: [f32; 6] =
            [1.339_993_1e-3, 9.618_489e-3, 5.550_328_6e-2, 0.240_226_46, std::f32::consts::LN_2, 1.0];
        // SAFETY: passed on.
        unsafe {
            let (f, two_to_n) = self.max(Self::splat(-126.0)).split();
            let mut p = Self::splat(1.534_581_2e-4);
            for c in P {
                p = p.mul_add(f, Self::splat(c));
            }
            p.mul(two_to_n)
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::super::Isa;
    use super::*;

    /// The same for every instruction set of this machine.
    fn for_all(test: impl Fn(&'static str, &dyn Fn(Op, [f32; 16], [f32; 16]) -> [f32; 16])) {
        for isa in Isa::available() {
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the machine has it.
                Isa::Avx2 => test("avx2", &|op, a, b| unsafe { avx2_apply(op, a, b) }),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the machine has it.
                Isa::Avx512Vnni => test("avx512", &|op, a, b| unsafe { avx512_apply(op, a, b) }),
                #[cfg(all(target_arch = "arm", target_endian = "little", target_os = "linux"))]
                // SAFETY: the machine has it.
                Isa::Armv7Neon => {
                    test("armv7_neon", &|op, a, b| unsafe { apply::<armv7::Armv7Neon>(op, a, b) })
                }
                #[cfg(target_arch = "aarch64")]
                // SAFETY: every machine has it.
                Isa::Neon => test("neon", &|op, a, b| unsafe { apply::<neon::Neon>(op, a, b) }),
                // SAFETY: nothing is asked of the machine.
                Isa::Portable => {
                    test("portable", &|op, a, b| unsafe { apply::<portable::Portable>(op, a, b) })
                }
                _ => {}
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn avx2_apply(op: Op, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        // SAFETY: passed on.
        unsafe { apply::<avx2::Avx2>(op, a, b) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn avx512_apply(op: Op, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        // SAFETY: passed on.
        unsafe { apply::<avx512::Avx512>(op, a, b) }
    }

    #[derive(Clone, Copy)]
    enum Op {
        Add,
        Sub,
        Mul,
        MulAdd,
        Max,
        Min,
        First(usize),
        Sum,
        Largest,
        Split,
        Exp2,
        Turn,
        F16,
        I8,
        AddWeighted,
        Squares,
        Scale,
    }

    #[inline(always)]
    unsafe fn apply<W: Wide>(op: Op, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        // SAFETY: passed on; arrays have sixteen numbers.
        unsafe {
            let (x, y) = (W::load(a.as_ptr()), W::load(b.as_ptr()));
            let out = match op {
                Op::Add => x.add(y),
                Op::Sub => x.sub(y),
                Op::Mul => x.mul(y),
                Op::MulAdd => x.mul_add(y, W::splat(3.0)),
                Op::Max => x.max(y),
                Op::Min => x.min(y),
                Op::First(count) => x.first(count, y),
                Op::Sum => W::splat(x.sum()),
                Op::Largest => W::splat(x.largest()),
                Op::Split => {
                    let (rest, power) = x.split();
                    rest.mul(power)
                }
                Op::Exp2 => x.exp2(),
                Op::Turn => x.turn(y),
                Op::F16 => {
                    let mut halves = [0; 16];
                    x.store_f16(halves.as_mut_ptr());
                    W::load_f16(halves.as_ptr())
                }
                Op::I8 => {
                    let mut bytes = [0; 16];
                    x.store_i8(bytes.as_mut_ptr());
                    W::load_i8(bytes.as_ptr())
                }
                Op::AddWeighted => x.add_weighted(WEIGHTS.as_ptr(), 2, [a, b].as_ptr().cast(), LANES),
                Op::Squares => W::splat(W::squares([a, b, a, b, a].as_ptr().cast(), 5 * LANES)),
                Op::Scale => {
                    let mut to = [0.0; 16];
                    W::scale(a.as_ptr(), b.as_ptr(), 0.5, to.as_mut_ptr(), LANES);
                    W::load(to.as_ptr())
                }
            };
            let mut to = [f32::NAN; 16];
            out.store(to.as_mut_ptr());
            to
        }
    }

    const WEIGHTS: [f32; 2] = [3.0, -0.25];

    /// What each lane should be, said without vectors.
    fn plain(op: Op, a: [f32; 16], b: [f32; 16], lane: usize) -> f64 {
        let (x, y) = (f64::from(a[lane]), f64::from(b[lane]));
        let of_all = |f: fn(f64, f64) -> f64| a.iter().map(|&x| f64::from(x)).reduce(f).unwrap();
        match op {
            Op::Add => x + y,
            Op::Sub => x - y,
            Op::Mul => x * y,
            Op::MulAdd => x * y + 3.0,
            Op::Max => x.max(y),
            Op::Min => x.min(y),
            Op::First(count) => {
                if lane < count {
                    x
                } else {
                    y
                }
            }
            Op::Sum => of_all(|a, b| a + b),
            Op::Largest => of_all(f64::max),
            Op::Split => (x - x.round_ties_even()) * x.round_ties_even().exp2(),
            Op::Exp2 => x.max(-126.0).exp2(),
            Op::Turn => {
                let pair = lane / 2 * 2;
                let [p, q, cos, sin] = [a[pair], a[pair + 1], b[pair], b[pair + 1]].map(f64::from);
                if lane == pair { p * cos - q * sin } else { q * cos + p * sin }
            }
            Op::F16 => f16::from_f32(a[lane]).to_f64(),
            Op::I8 => x.round_ties_even(),
            Op::AddWeighted => x + x * f64::from(WEIGHTS[0]) + y * f64::from(WEIGHTS[1]),
            Op::Squares => {
                let squares = |all: [f32; 16]| all.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
                3.0 * squares(a) + 2.0 * squares(b)
            }
            Op::Scale => x * y * 0.5,
        }
    }

    #[test]
    fn every_operation_of_every_instruction_set_does_what_it_says() {
        let ops = [
            Op::Add,
            Op::Sub,
            Op::Mul,
            Op::MulAdd,
            Op::Max,
            Op::Min,
            Op::Sum,
            Op::Largest,
            Op::Split,
            Op::Exp2,
        ];
        let more = [
            Op::Turn,
            Op::F16,
            Op::I8,
            Op::AddWeighted,
            Op::Squares,
            Op::Scale,
            Op::First(0),
            Op::First(1),
            Op::First(7),
            Op::First(15),
            Op::First(16),
        ];
        let mut rng = fastrand::Rng::with_seed(3);
        let mut some =
            |by: f32| std::array::from_fn(|_| ((rng.f32() - 0.5) * by * 4.0).round() / 4.0 + rng.f32() / 8.0);
        let inputs: Vec<([f32; 16], [f32; 16])> =
            (0..50).map(|i| (some(2.0 * i as f32), some(9.0))).collect();
        for_all(|name, apply| {
            for op in ops.into_iter().chain(more) {
                for &(a, b) in &inputs {
                    let got = apply(op, a, b);
                    for (lane, got) in got.into_iter().enumerate() {
                        let want = plain(op, a, b, lane);
                        let scale = a.iter().chain(&b).fold(1.0, |m: f64, x| m.max(f64::from(x.abs())));
                        let slack = match op {
                            Op::Max | Op::Min | Op::First(_) | Op::F16 | Op::I8 => 0.0,
                            Op::Split | Op::Exp2 => 2.5e-7 * want.abs(),
                            Op::Squares => 1e-6 * want,
                            _ => 1e-6 * scale * scale,
                        };
                        assert!(
                            (f64::from(got) - want).abs() <= slack,
                            "{name} lane {lane}: {got} not {want}, {a:?} {b:?}"
                        );
                    }
                }
            }
        });
    }

    #[test]
    fn powers_of_two_are_right_to_the_last_bits_and_end_well_below() {
        for_all(|name, apply| {
            for i in 0..1300 {
                let x: [f32; 16] = std::array::from_fn(|lane| -(i as f32) / 10.0 - lane as f32 / 160.0);
                for (got, x) in apply(Op::Exp2, x, x).into_iter().zip(x) {
                    let want = f64::from(x).max(-126.0).exp2();
                    let error = (f64::from(got) / want - 1.0).abs();
                    assert!(error < 2e-7, "{name}: 2^{x} is off by {error:e}");
                }
            }
            assert!(apply(Op::Exp2, [f32::MIN; 16], [0.0; 16]).iter().all(|p| *p < 1.2e-38));
            assert_eq!(apply(Op::Exp2, [0.0; 16], [0.0; 16]), [1.0; 16]);
        });
    }
}
