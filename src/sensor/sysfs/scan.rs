//! The binary samples of an IIO buffer (kernel documentation, driver-api/iio/buffers).
//!
//! A sample is its enabled elements in the order of their indices, each aligned to its own size, the whole aligned to the
//! largest. An element is written as `le:s12/16>>4`: little endian, signed, 12 bits in 16, shifted left by 4.

/// How one element is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element {
    big_endian: bool,
    signed: bool,
    bits: u32,
    bytes: usize,
    repeat: usize,
    shift: u32,
}

impl Element {
    /// From the file `in_*_type`; none for what is no such text or too wide.
    pub fn parse(text: &str) -> Option<Self> {
        let (endian, rest) = text.trim().split_once(':')?;
        let big_endian = match endian {
            "be" => true,
            "le" => false,
            _ => return None,
        };
        let signed = match rest.get(..1)? {
            "s" => true,
            "u" => false,
            _ => return None,
        };
        let (bits, rest) = rest.get(1..)?.split_once('/')?;
        let (storage, shift) = rest.split_once(">>").unwrap_or((rest, "0"));
        let (storage, repeat) = storage.split_once('X').unwrap_or((storage, "1"));
        let (bits, storage): (u32, u32) = (bits.parse().ok()?, storage.parse().ok()?);
        let (repeat, shift): (usize, u32) = (repeat.parse().ok()?, shift.parse().ok()?);
        let sound = matches!(storage, 8 | 16 | 32 | 64)
            && (1..=storage).contains(&bits)
            && shift.checked_add(bits)? <= storage
            && matches!(repeat, 1 | 2 | 4);
        sound.then_some(Self { big_endian, signed, bits, bytes: storage as usize / 8, repeat, shift })
    }

    /// The number in `bytes`, which are as many as it is stored in; of several, the first.
    pub fn read(&self, bytes: &[u8]) -> i64 {
        let place = |word: u64, byte: &u8| word << 8 | u64::from(*byte);
        let stored = bytes.get(..self.bytes).unwrap_or_default();
        let word =
            if self.big_endian { stored.iter().fold(0, place) } else { stored.iter().rev().fold(0, place) };
        let unused = 64 - self.bits;
        let left = (word >> self.shift) << unused;
        if self.signed { left.cast_signed() >> unused } else { (left >> unused).cast_signed() }
    }
}

/// Where each element of a sample stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    elements: Vec<(usize, Element)>,
    bytes: usize,
}

impl Layout {
    /// Of elements in the order of their indices.
    pub fn new(elements: impl IntoIterator<Item = Element>) -> Self {
        let (mut at, mut widest) = (0_usize, 1);
        let mut placed = Vec::new();
        for element in elements {
            let bytes = element.bytes * element.repeat;
            at = at.next_multiple_of(bytes);
            placed.push((at, element));
            at += bytes;
            widest = widest.max(bytes);
        }
        Self { elements: placed, bytes: at.next_multiple_of(widest) }
    }

    /// Bytes of one sample.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The numbers of one sample, in order.
    pub fn read<'a>(&'a self, sample: &'a [u8]) -> impl Iterator<Item = i64> + 'a {
        self.elements.iter().map(|(at, element)| element.read(sample.get(*at..).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(text: &str) -> Element {
        Element::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn an_element_is_what_its_type_says() {
        for (kind, bytes, expected) in [
            ("le:s12/16>>4", vec![0xf0, 0x7f], 2047),
            ("le:s12/16>>4", vec![0x0f, 0x80], -2048),
            ("be:u12/16>>0", vec![0xff, 0xff], 4095),
            ("be:s16/16>>0", vec![0x80, 0x00], -32_768),
            ("le:u8/8>>0", vec![200], 200),
            ("be:s24/32>>8", vec![0xff, 0xff, 0xfe, 0x55], -2),
            ("le:s64/64>>0", vec![0xff; 8], -1),
            ("le:s16/16X2>>0", vec![1, 0, 2, 0], 1),
        ] {
            assert_eq!(element(kind).read(&bytes), expected, "{kind} {bytes:x?}");
        }
    }

    #[test]
    fn a_type_that_cannot_be_is_refused() {
        for bad in [
            "",
            "le",
            "xe:s8/8>>0",
            "le:x8/8",
            "le:s12/12>>0",
            "le:s17/16>>0",
            "le:s12/16>>5",
            "le:s0/8>>0",
            "le:s8/8X3>>0",
        ] {
            assert_eq!(Element::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_type_and_no_bytes_make_it_panic(
            kind in "(le|be):[su][0-9]{1,3}/(8|16|32|64)(X[0-9]{1,3})?(>>[0-9]{1,3})?",
            wild in "\\PC{0,20}",
            bytes in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            Element::parse(&wild);
            if let Some(element) = Element::parse(&kind) {
                element.read(&bytes);
                Layout::new([element, element]).read(&bytes).for_each(drop);
            }
        }
    }

    #[test]
    fn elements_are_aligned_to_their_own_size_and_a_sample_to_its_largest() {
        let (s16, u8, time) = (element("le:s16/16>>0"), element("le:u8/8>>0"), element("le:s64/64>>0"));
        let layout = Layout::new([s16, s16, s16, time]);
        assert_eq!(layout.bytes(), 16);
        let mut sample = [1, 0, 2, 0, 0xff, 0xff, 9, 9].to_vec();
        sample.extend(7_i64.to_le_bytes());
        assert_eq!(layout.read(&sample).collect::<Vec<_>>(), [1, 2, -1, 7]);
        assert_eq!(Layout::new([u8, s16, u8]).bytes(), 6);
        assert_eq!(Layout::new([u8, element("le:s16/16X4>>0")]).bytes(), 16, "several in one are one");
        assert_eq!(Layout::new([]).bytes(), 0);
    }
}
