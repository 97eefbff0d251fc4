//! What registers mean, and how to read them in as few requests as possible.

use crate::limits;
use crate::reading::{ChannelId, Unit, Value, named_enum, value_from_f64};

named_enum! {
    /// The four tables of a device.
    Table { Coil = "coil", Discrete = "discrete", Holding = "holding", Input = "input" }
}

named_enum! {
    /// How a value lies in its registers.
    Shape {
        Bit = "bit", U16 = "u16", I16 = "i16", U32 = "u32", I32 = "i32", F32 = "f32", U64 = "u64",
        I64 = "i64", F64 = "f64",
    }
}

named_enum! {
    /// Order of the bytes of a value of several registers, `a` being the most significant: `abcd` as the specification has
    /// it, `cdab` with the words swapped, `badc` with the bytes of each word swapped, `dcba` with both.
    Order { Abcd = "abcd", Cdab = "cdab", Badc = "badc", Dcba = "dcba" }
}

/// One value of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Register {
    /// Its channel.
    pub channel: ChannelId,
    /// Where it is.
    pub table: Table,
    /// Its first address, from 0.
    pub address: u16,
    /// How it lies there.
    pub shape: Shape,
    /// In which order.
    pub order: Order,
    /// Which bit of a holding or input register; for [`Shape::Bit`] there.
    pub bit: u8,
    /// The value is `raw * scale + offset`.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
    /// Unit of the value.
    pub unit: Unit,
}

/// A run of addresses that one request reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Which table.
    pub table: Table,
    /// First address.
    pub first: u16,
    /// How many.
    pub count: u16,
}

/// The values of one device, sorted into spans.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    registers: Vec<Register>,
    /// Each with the place in `registers` where its own begin and end.
    spans: Vec<(Span, std::ops::Range<usize>)>,
}

/// A map that no device can have; the configuration's fault. `at` counts the registers as they were given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Too many.
    #[error("more than {} registers", limits::MODBUS_REGISTERS_MAX)]
    TooMany,
    /// A value reaches beyond the last address.
    #[error("a value of {words} registers at {address} reaches beyond the last address, 65535")]
    Beyond {
        /// Which one.
        at: usize,
        /// Its address.
        address: u16,
        /// Its registers.
        words: u16,
    },
    /// Coils and discrete inputs are bits.
    #[error("a {table} is a bit and can't hold {shape}")]
    NotABit {
        /// Which one.
        at: usize,
        /// The table.
        table: Table,
        /// The shape.
        shape: Shape,
    },
    /// A scale of nought, or no number.
    #[error("with this scale and offset every value would be the same, or none")]
    Scale {
        /// Which one.
        at: usize,
    },
    /// A register has sixteen bits.
    #[error("a register has no bit {bit}; they count from 0, the least significant, to 15")]
    Bit {
        /// Which one.
        at: usize,
        /// The bit.
        bit: u8,
    },
    /// Two values of one name.
    #[error("the channel {channel} is given twice")]
    Twice {
        /// Which one.
        at: usize,
        /// The channel.
        channel: ChannelId,
    },
}

impl MapError {
    /// Which register it is about.
    pub const fn at(&self) -> Option<usize> {
        match self {
            Self::TooMany => None,
            Self::Beyond { at, .. }
            | Self::NotABit { at, .. }
            | Self::Scale { at }
            | Self::Bit { at, .. }
            | Self::Twice { at, .. } => Some(*at),
        }
    }
}

impl Table {
    /// The function that reads it.
    pub const fn function(self) -> u8 {
        match self {
            Table::Coil => 1,
            Table::Discrete => 2,
            Table::Holding => 3,
            Table::Input => 4,
        }
    }

    /// Whether it holds bits.
    pub const fn is_bits(self) -> bool {
        matches!(self, Table::Coil | Table::Discrete)
    }

    /// How many of it one request may ask for.
    pub const fn count_max(self) -> u16 {
        if self.is_bits() { 2000 } else { 125 }
    }
}

impl Shape {
    /// Registers, or bits, that it takes.
    pub const fn words(self) -> u16 {
        match self {
            Shape::Bit | Shape::U16 | Shape::I16 => 1,
            Shape::U32 | Shape::I32 | Shape::F32 => 2,
            Shape::U64 | Shape::I64 | Shape::F64 => 4,
        }
    }
}

impl Map {
    /// Checks `registers` and sorts them into spans; two that have at most `gap` unused addresses between them are read
    /// together.
    ///
    /// Errors: the configuration's fault.
    pub fn new(mut registers: Vec<Register>, gap: u16) -> Result<Self, MapError> {
        check(&registers)?;
        registers.sort_by_key(|r| (r.table, r.address));
        let mut spans: Vec<(Span, std::ops::Range<usize>)> = Vec::new();
        for (at, register) in registers.iter().enumerate() {
            if let Some((span, own)) = spans.last_mut()
                && span.reach(register, gap)
            {
                own.end = at + 1;
                continue;
            }
            let Register { table, address: first, shape, .. } = *register;
            spans.push((Span { table, first, count: shape.words() }, at..at + 1));
        }
        Ok(Self { registers, spans })
    }

    /// What is to be asked, in order.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = Span> {
        self.spans.iter().map(|(span, _)| *span)
    }

    /// The values that lie in the span of number `at`.
    pub fn registers(&self, at: usize) -> &[Register] {
        self.spans.get(at).map_or(&[], |(_, own)| &self.registers[own.clone()])
    }

    /// Every value.
    pub fn all(&self) -> &[Register] {
        &self.registers
    }
}

impl Span {
    /// Grows to take `register` in, if it is near and one request may ask for so much.
    fn reach(&mut self, register: &Register, gap: u16) -> bool {
        let end = u32::from(self.first) + u32::from(self.count);
        let begins = u32::from(register.address);
        let new_end = end.max(begins + u32::from(register.shape.words()));
        let count = new_end - u32::from(self.first);
        let fits = self.table == register.table
            && begins <= end + u32::from(gap)
            && count <= u32::from(self.table.count_max());
        if fits {
            self.count = count as u16;
        }
        fits
    }
}

impl Register {
    /// The value in the `words` that were read from `first` on; none if they do not reach so far.
    pub fn value(&self, first: u16, words: &[u16]) -> Option<Value> {
        let at = usize::from(self.address.checked_sub(first)?);
        let words = words.get(at..at + usize::from(self.shape.words()))?;
        let raw = match (self.table.is_bits(), self.shape) {
            (true, _) => f64::from(words[0]),
            (false, Shape::Bit) => f64::from(words[0] >> self.bit.min(15) & 1),
            (false, shape) => number(shape, self.order, words),
        };
        Some(value_from_f64(raw * self.scale + self.offset))
    }
}

fn number(shape: Shape, order: Order, words: &[u16]) -> f64 {
    let mut bytes = [0; 8];
    let len = 2 * words.len();
    let swap_words = matches!(order, Order::Cdab | Order::Dcba);
    for (n, word) in words.iter().enumerate() {
        let pair =
            if matches!(order, Order::Badc | Order::Dcba) { word.to_le_bytes() } else { word.to_be_bytes() };
        let place = if swap_words { words.len() - 1 - n } else { n };
        bytes[8 - len + 2 * place..][..2].copy_from_slice(&pair);
    }
    let raw = u64::from_be_bytes(bytes);
    // Floats beyond 2^53 lose their last digits, as everywhere.
    match shape {
        Shape::Bit | Shape::U16 | Shape::U32 | Shape::U64 => raw as f64,
        Shape::I16 => f64::from(raw as u16 as i16),
        Shape::I32 => f64::from(raw as u32 as i32),
        Shape::I64 => raw as i64 as f64,
        Shape::F32 => f64::from(f32::from_bits(raw as u32)),
        Shape::F64 => f64::from_bits(raw),
    }
}

fn check(registers: &[Register]) -> Result<(), MapError> {
    if registers.len() > limits::MODBUS_REGISTERS_MAX {
        return Err(MapError::TooMany);
    }
    let mut channels = std::collections::HashSet::new();
    for (at, r) in registers.iter().enumerate() {
        let (words, address) = (r.shape.words(), r.address);
        if r.table.is_bits() && r.shape != Shape::Bit {
            return Err(MapError::NotABit { at, table: r.table, shape: r.shape });
        }
        if u32::from(address) + u32::from(words) > 1 << 16 {
            return Err(MapError::Beyond { at, address, words });
        }
        if r.scale == 0.0 || !r.scale.is_finite() || !r.offset.is_finite() {
            return Err(MapError::Scale { at });
        }
        if r.bit > 15 {
            return Err(MapError::Bit { at, bit: r.bit });
        }
        if !channels.insert(&r.channel) {
            return Err(MapError::Twice { at, channel: r.channel.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn register(name: &str, table: Table, address: u16, shape: Shape) -> Register {
        Register {
            channel: ChannelId::new(name).unwrap(),
            table,
            address,
            shape,
            order: Order::Abcd,
            bit: 0,
            scale: 1.0,
            offset: 0.0,
            unit: Unit::default(),
        }
    }

    #[test]
    fn every_order_of_bytes_finds_its_number() {
        let whole = 123_456.5_f32.to_be_bytes();
        let [a, b, c, d] = whole;
        let words = |x: [u8; 4]| [u16::from_be_bytes([x[0], x[1]]), u16::from_be_bytes([x[2], x[3]])];
        for (order, bytes) in [
            (Order::Abcd, [a, b, c, d]),
            (Order::Cdab, [c, d, a, b]),
            (Order::Badc, [b, a, d, c]),
            (Order::Dcba, [d, c, b, a]),
        ] {
            let register = Register { order, ..register("x", Table::Input, 10, Shape::F32) };
            assert_eq!(register.value(10, &words(bytes)), Some(Ok(123_456.5)), "{order}");
        }
        let long = Register { order: Order::Cdab, ..register("x", Table::Input, 0, Shape::U64) };
        assert_eq!(long.value(0, &[4, 3, 2, 1]), Some(Ok(0x0001_0002_0003_0004_u64 as f64)));
    }

    #[test]
    fn signs_scales_and_bits_are_as_configured() {
        let temp = Register { scale: 0.1, offset: -40.0, ..register("t", Table::Holding, 0, Shape::I16) };
        let Some(Ok(value)) = temp.value(0, &[(-50_i16) as u16]) else { panic!("none") };
        assert!((value + 45.0).abs() < 1e-9);
        let flag = Register { bit: 3, ..register("f", Table::Holding, 1, Shape::Bit) };
        assert_eq!(flag.value(0, &[0, 8]), Some(Ok(1.0)));
        assert_eq!(flag.value(0, &[0]), None);
        let nan = register("n", Table::Input, 0, Shape::F32);
        assert_eq!(nan.value(0, &[0x7fc0, 0]), Some(Err(crate::reading::NoData::NotANumber)));
    }

    #[test]
    fn near_registers_are_read_together_and_no_value_is_torn() {
        let registers = vec![
            register("c", Table::Holding, 12, Shape::F32),
            register("a", Table::Holding, 10, Shape::U16),
            register("d", Table::Input, 14, Shape::U16),
            register("e", Table::Holding, 200, Shape::F64),
        ];
        let spans = |gap| {
            Map::new(registers.clone(), gap).unwrap().spans().map(|s| (s.first, s.count)).collect::<Vec<_>>()
        };
        assert_eq!(spans(0), [(10, 1), (12, 2), (200, 4), (14, 1)]);
        assert_eq!(spans(1), [(10, 4), (200, 4), (14, 1)]);
        let many = (0..63).map(|n| register(&format!("m{n}"), Table::Holding, 2 * n, Shape::U32)).collect();
        let spans: Vec<u16> = Map::new(many, 0).unwrap().spans().map(|s| s.count).collect();
        assert_eq!(spans, [124, 2], "125 would tear the last one");
    }

    #[test]
    fn maps_that_no_device_can_have_are_refused() {
        let of = |r: Register| Map::new(vec![r], 0).unwrap_err();
        assert_eq!(
            of(register("x", Table::Holding, 65535, Shape::F32)),
            MapError::Beyond { at: 0, address: 65535, words: 2 }
        );
        assert!(Map::new(vec![register("x", Table::Holding, 65535, Shape::U16)], 0).is_ok());
        assert!(matches!(of(register("x", Table::Coil, 0, Shape::U16)), MapError::NotABit { .. }));
        assert!(matches!(
            of(Register { scale: 0.0, ..register("x", Table::Input, 0, Shape::U16) }),
            MapError::Scale { .. }
        ));
        assert!(matches!(
            of(Register { bit: 16, ..register("x", Table::Input, 0, Shape::Bit) }),
            MapError::Bit { .. }
        ));
        let twice =
            vec![register("x", Table::Input, 0, Shape::U16), register("x", Table::Input, 1, Shape::U16)];
        assert_eq!(Map::new(twice, 0).unwrap_err().at(), Some(1));
    }

    proptest! {
        #[test]
        fn every_value_lies_in_its_span_and_no_span_is_too_long(
            places in prop::collection::vec((0..4usize, any::<u16>(), 1..9usize), 0..60), gap in 0..40u16
        ) {
            let registers: Vec<Register> = places
                .iter()
                .enumerate()
                .map(|(n, (table, address, shape))| {
                    let table = Table::ALL[*table];
                    let shape = if table.is_bits() { Shape::Bit } else { Shape::ALL[*shape] };
                    register(&format!("c{n}"), table, (*address).min(65_532), shape)
                })
                .collect();
            let map = Map::new(registers.clone(), gap).unwrap();
            let mut seen = 0;
            for (at, span) in map.spans().enumerate() {
                prop_assert!(span.count <= span.table.count_max());
                let words = vec![0; usize::from(span.count)];
                for register in map.registers(at) {
                    prop_assert!(register.table == span.table && register.value(span.first, &words).is_some());
                    seen += 1;
                }
            }
            prop_assert_eq!(seen, registers.len());
        }
    }
}
