//! Decimal numbers out of bytes, correctly rounded and fast where they are short.

/// A number as it was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number {
    /// Its value, correctly rounded; infinite where it is too large.
    pub(super) value: f64,
    /// Its exact value, where it was written as an integer that fits and isn't `-0`; times in nanoseconds need it.
    pub(super) integer: Option<i64>,
}

/// The number that `bytes` begin with, by the grammar of RFC 8259 section 6, and its length.
pub(super) fn scan(bytes: &[u8]) -> Option<(Number, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut digits = Digits::default();
    let mut at = digits.take(bytes, start);
    if at == start || (bytes[start] == b'0' && at > start + 1) {
        return None;
    }
    let mut exponent = 0;
    let mut is_integer = true;
    if bytes.get(at) == Some(&b'.') {
        let end = digits.take(bytes, at + 1);
        if end == at + 1 {
            return None;
        }
        exponent = -i32::try_from(end - at - 1).ok()?;
        (at, is_integer) = (end, false);
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let (power, end) = scan_exponent(bytes, at + 1)?;
        exponent = exponent.saturating_add(power);
        (at, is_integer) = (end, false);
    }
    let integer = if is_integer { digits.as_i64(negative) } else { None };
    let value = match digits.scaled_exactly(exponent) {
        Some(magnitude) if negative => -magnitude,
        Some(magnitude) => magnitude,
        None => std::str::from_utf8(&bytes[..at]).ok()?.parse().ok()?,
    };
    Some((Number { value, integer }, at))
}

fn scan_exponent(bytes: &[u8], mut at: usize) -> Option<(i32, usize)> {
    let negative = bytes.get(at) == Some(&b'-');
    at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
    let start = at;
    let mut power = 0_i32;
    while let Some(digit) = bytes.get(at).filter(|b| b.is_ascii_digit()) {
        power = power.saturating_mul(10).saturating_add(i32::from(digit - b'0'));
        at += 1;
    }
    (at > start).then_some((if negative { -power } else { power }, at))
}

/// Digits gathered so far; the point is left out.
#[derive(Default)]
struct Digits {
    significand: u64,
    overflow: bool,
}

impl Digits {
    /// Takes the run of digits from `at` on and returns its end.
    fn take(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while let Some(digit) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
            if self.significand >= u64::MAX / 10 {
                self.overflow = true;
            }
            self.significand = self.significand.wrapping_mul(10).wrapping_add(u64::from(digit));
            at += 1;
        }
        at
    }

    fn as_i64(&self, negative: bool) -> Option<i64> {
        let magnitude = i64::try_from(self.significand).ok().filter(|_| !self.overflow)?;
        match (negative, magnitude) {
            (false, n) => Some(n),
            // No integer keeps this sign.
            (true, 0) => None,
            (true, n) => Some(-n),
        }
    }

    /// The value times ten to the `exponent` where one rounding gives it exactly: both factors are floats without
    /// error (Clinger 1990, "How to read floating point numbers accurately").
    fn scaled_exactly(&self, exponent: i32) -> Option<f64> {
        if self.overflow || self.significand > 1 << 53 {
            return None;
        }
        let power = *POWERS_OF_TEN.get(usize::try_from(exponent.unsigned_abs()).ok()?)?;
        let significand = self.significand as f64;
        Some(if exponent < 0 { significand / power } else { significand * power })
    }
}

/// The powers of ten that a double holds exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_grammar_is_that_of_json() {
        for (text, len) in [("0,", 1), ("-0.5}", 4), ("12e3 ", 4), ("1E-2", 4), ("7]", 1)] {
            assert_eq!(scan(text.as_bytes()).map(|(_, end)| end), Some(len), "{text}");
        }
        for text in ["", "-", "01", ".5", "1.", "1e", "1e+", "+1", "x"] {
            assert_eq!(scan(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_nanosecond_time_keeps_every_digit() {
        let (number, _) = scan(b"1700000000123456789").unwrap();
        assert_eq!(number.integer, Some(1_700_000_000_123_456_789));
        assert_eq!(scan(b"99999999999999999999").unwrap().0.integer, None);
    }

    proptest! {
        #[test]
        fn every_number_is_rounded_like_the_standard_library_does(
            text in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,4})?",
        ) {
            let (number, end) = scan(text.as_bytes()).unwrap();
            prop_assert_eq!(end, text.len());
            prop_assert_eq!(number.value.to_bits(), text.parse::<f64>().unwrap().to_bits());
            let exact = text.parse().ok().filter(|n| *n != i64::MIN && text != "-0");
            prop_assert_eq!(number.integer, exact);
        }

        #[test]
        fn every_float_comes_back_as_it_went(x in any::<f64>().prop_filter("JSON has no others", |x| x.is_finite())) {
            let text = format!("{x}");
            prop_assert_eq!(scan(text.as_bytes()).unwrap().0.value.to_bits(), x.to_bits());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = scan(&bytes);
        }
    }
}
