//! Requests into bytes, bytes into answers.
//!
//! ```text
//! TCP:  transaction u16, 0 u16, length u16, unit u8, function u8, ...          (big-endian)
//! RTU:  unit u8, function u8, ..., CRC u16 (little-endian)
//! read: function, first address u16, count u16    answer: function, bytes u8, ...    or function | 0x80, exception u8
//! ```

use super::{Exception, Table};

/// How frames are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// With a transaction number.
    Tcp,
    /// With a checksum.
    Rtu,
}

/// A question for a run of registers or bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Number of the transaction; TCP only.
    pub transaction: u16,
    /// Address of the device.
    pub unit: u8,
    /// Which table.
    pub table: Table,
    /// First address, from 0.
    pub first: u16,
    /// How many; at most [`Table::count_max`].
    pub count: u16,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The registers asked for, or the bits as 0 and 1.
    Values(Vec<u16>),
    /// The device refuses.
    Refused(Exception),
}

/// Bytes that are no answer to the question; the line's fault, or the device's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Noise on the wire.
    #[error("the checksum is wrong")]
    Checksum,
    /// Not Modbus at all.
    #[error("the frame is no Modbus frame")]
    Header,
    /// Somebody else answered, or late.
    #[error("the answer is of unit {0}, who was not asked")]
    Unit(u8),
    /// The answer to something else.
    #[error("the answer is to function {0}, which was not asked for")]
    Function(u8),
    /// Fewer or more values than asked for.
    #[error("the answer has {0} bytes of values where {1} were asked for")]
    Length(usize, usize),
}

/// The bytes of a question.
pub fn request(framing: Framing, ask: &Request) -> Vec<u8> {
    let [first, count] = [ask.first.to_be_bytes(), ask.count.to_be_bytes()];
    let body = [ask.unit, ask.table.function(), first[0], first[1], count[0], count[1]];
    match framing {
        Framing::Tcp => {
            let [high, low] = ask.transaction.to_be_bytes();
            [&[high, low, 0, 0, 0, body.len() as u8], &body[..]].concat()
        }
        Framing::Rtu => [&body[..], &crc(&body).to_le_bytes()].concat(),
    }
}

/// Takes the answer to `ask` out of what was `heard` so far; none while bytes are missing.
///
/// Over TCP, answers to other transactions come late or twice: they are taken out and passed over. Over a serial line
/// nothing tells them apart, so the line must be silent before a question.
pub fn take_answer(
    framing: Framing,
    ask: &Request,
    heard: &mut Vec<u8>,
) -> Result<Option<Answer>, FrameError> {
    match framing {
        Framing::Tcp => take_tcp(ask, heard),
        Framing::Rtu => take_rtu(ask, heard),
    }
}

fn take_tcp(ask: &Request, heard: &mut Vec<u8>) -> Result<Option<Answer>, FrameError> {
    loop {
        let Some((&[t1, t0, p1, p0, l1, l0], rest)) = heard.split_first_chunk::<6>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([l1, l0]));
        if (p1, p0) != (0, 0) || !(3..=BODY_BYTES_MAX).contains(&length) {
            return Err(FrameError::Header);
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let answer = (u16::from_be_bytes([t1, t0]) == ask.transaction).then(|| answer(ask, body));
        heard.drain(..6 + length);
        if let Some(answer) = answer {
            return answer.map(Some);
        }
    }
}

fn take_rtu(ask: &Request, heard: &mut Vec<u8>) -> Result<Option<Answer>, FrameError> {
    let Some(&[_, function, third]) = heard.first_chunk::<3>() else { return Ok(None) };
    let length = if function & EXCEPTION != 0 { 5 } else { 5 + usize::from(third) };
    let Some(frame) = heard.get(..length) else { return Ok(None) };
    let (body, sum) = frame.split_at(length - 2);
    if sum != crc(body).to_le_bytes() {
        return Err(FrameError::Checksum);
    }
    let answer = answer(ask, body);
    heard.drain(..length);
    answer.map(Some)
}

/// Unit, function and what follows.
fn answer(ask: &Request, body: &[u8]) -> Result<Answer, FrameError> {
    let &[unit, function, ref rest @ ..] = body else { return Err(FrameError::Header) };
    if unit != ask.unit {
        return Err(FrameError::Unit(unit));
    }
    if function == ask.table.function() | EXCEPTION {
        let code = rest.first().ok_or(FrameError::Header)?;
        return Ok(Answer::Refused(Exception(*code)));
    }
    if function != ask.table.function() {
        return Err(FrameError::Function(function));
    }
    let (told, data) = rest.split_first().ok_or(FrameError::Header)?;
    let count = usize::from(ask.count);
    let expected = if ask.table.is_bits() { count.div_ceil(8) } else { 2 * count };
    if usize::from(*told) != data.len() || data.len() != expected {
        return Err(FrameError::Length(data.len(), expected));
    }
    let values = if ask.table.is_bits() {
        (0..count).map(|n| u16::from(data[n / 8] >> (n % 8) & 1)).collect()
    } else {
        data.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect()
    };
    Ok(Answer::Values(values))
}

const EXCEPTION: u8 = 0x80;
/// Unit, function and 252 bytes.
const BODY_BYTES_MAX: usize = 254;

/// CRC-16/MODBUS.
pub(super) fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ASK: Request = Request { transaction: 7, unit: 17, table: Table::Holding, first: 107, count: 3 };

    fn rtu(body: &[u8]) -> Vec<u8> {
        [body, &crc(body).to_le_bytes()].concat()
    }

    #[test]
    fn the_specifications_own_example_is_asked_and_read() {
        assert_eq!(request(Framing::Rtu, &ASK), [0x11, 0x03, 0x00, 0x6b, 0x00, 0x03, 0x76, 0x87]);
        assert_eq!(request(Framing::Tcp, &ASK), [0, 7, 0, 0, 0, 6, 0x11, 0x03, 0x00, 0x6b, 0x00, 0x03]);
        let mut heard = rtu(&[0x11, 0x03, 6, 0x02, 0x2b, 0x00, 0x00, 0x00, 0x64]);
        let answer = take_answer(Framing::Rtu, &ASK, &mut heard);
        assert_eq!(answer, Ok(Some(Answer::Values(vec![0x022b, 0, 0x64]))));
        assert!(heard.is_empty());
        let coils = Request { table: Table::Coil, first: 19, count: 19, ..ASK };
        let answer = take_answer(Framing::Rtu, &coils, &mut rtu(&[0x11, 0x01, 3, 0xcd, 0x6b, 0x05]));
        let Ok(Some(Answer::Values(bits))) = answer else { panic!("{answer:?}") };
        assert_eq!(bits[..9], [1, 0, 1, 1, 0, 0, 1, 1, 1]);
        assert_eq!(bits.len(), 19);
    }

    #[test]
    fn late_and_doubled_answers_of_other_transactions_are_passed_over() {
        let frame = |t: u8, value: u8| [0, t, 0, 0, 0, 9, 0x11, 3, 6, 0, value, 0, 0, 0, 0].to_vec();
        let mut heard = [frame(6, 1), frame(6, 1), frame(7, 2), frame(7, 2)].concat();
        let half = heard.split_off(20);
        assert_eq!(take_answer(Framing::Tcp, &ASK, &mut heard), Ok(None));
        heard.extend(half);
        assert_eq!(take_answer(Framing::Tcp, &ASK, &mut heard), Ok(Some(Answer::Values(vec![2, 0, 0]))));
        let next = Request { transaction: 8, ..ASK };
        assert_eq!(take_answer(Framing::Tcp, &next, &mut heard), Ok(None), "the doubled one is no answer");
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        let read = |bytes: Vec<u8>| take_answer(Framing::Rtu, &ASK, &mut bytes.clone());
        let mut torn = rtu(&[0x11, 0x03, 6, 0, 0, 0, 0, 0, 0]);
        torn[4] ^= 1;
        assert_eq!(read(torn), Err(FrameError::Checksum));
        assert_eq!(read(rtu(&[0x12, 0x03, 6, 0, 0, 0, 0, 0, 0])), Err(FrameError::Unit(0x12)));
        assert_eq!(read(rtu(&[0x11, 0x04, 6, 0, 0, 0, 0, 0, 0])), Err(FrameError::Function(4)));
        assert_eq!(read(rtu(&[0x11, 0x03, 4, 0, 0, 0, 0])), Err(FrameError::Length(4, 6)));
        assert_eq!(read(rtu(&[0x11, 0x83, 2])), Ok(Some(Answer::Refused(Exception(2)))));
        let http = &mut b"HTTP/1.1 400 Bad Request".to_vec();
        assert_eq!(take_answer(Framing::Tcp, &ASK, http), Err(FrameError::Header));
    }

    proptest! {
        #[test]
        fn no_bytes_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), bits in any::<bool>()) {
            let table = if bits { Table::Coil } else { Table::Holding };
            for framing in [Framing::Tcp, Framing::Rtu] {
                let mut heard = bytes.clone();
                let _ = take_answer(framing, &Request { table, ..ASK }, &mut heard);
                prop_assert!(heard.len() <= bytes.len());
            }
        }

        #[test]
        fn a_flipped_bit_on_a_serial_line_is_noticed(at in 0..11usize, bit in 0..8u32) {
            let sound = rtu(&[0x11, 0x03, 6, 1, 2, 3, 4, 5, 6]);
            let mut heard = sound.clone();
            heard[at] ^= 1 << bit;
            let answer = take_answer(Framing::Rtu, &ASK, &mut heard);
            prop_assert!(!matches!(answer, Ok(Some(_))), "{answer:?}");
        }
    }
}
