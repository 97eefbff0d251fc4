//! DBC files: which signals lie in which frames of a CAN bus, and how to read them.
//!
//! Read are messages (`BO_`), their signals (`SG_`), also multiplexed ones, and the types of signals that are floats
//! (`SIG_VALTYPE_`); everything else is passed over. A mistake in what is read names its line.
//!
//! What can't be read rightly though the rest can is left out, and told with its line: a signal that lies beyond the end of
//! its message; a message with the name of another, since their channels would be the same; multiplexed signals of a
//! message that has no switch, or several, or ranges of values (extended multiplexing, `m0M` and `SG_MUL_VAL_`).

use std::collections::{HashMap, HashSet};

use crate::limits;

/// The messages of a bus by their id; bit 31 tells an extended one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dbc {
    messages: HashMap<u32, Message>,
    left_out: Vec<DbcError>,
}

/// A message and its signals.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its name.
    pub name: String,
    /// In the order of the file.
    pub signals: Vec<Signal>,
    line: usize,
    bytes: u16,
    /// Which signals are there depends on more than one switch with one value each.
    is_extended: bool,
}

/// A value within a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// Its name.
    pub name: String,
    /// Its unit, as the file has it.
    pub unit: String,
    line: usize,
    mux: Mux,
    start: u16,
    len: u16,
    little_endian: bool,
    kind: Kind,
    factor: f64,
    offset: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mux {
    Always,
    /// Tells which of the others are there.
    Switch,
    /// There when the switch says so.
    When(u64),
    /// Likewise, and a switch itself.
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unsigned,
    Signed,
    F32,
    F64,
}

/// A file that can't be read; the author's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct DbcError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

impl Dbc {
    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Self, DbcError> {
        let mut dbc = Self::default();
        let mut current = None;
        for (at, line) in text.lines().enumerate() {
            let read = dbc.line(at + 1, line, &mut current);
            read.map_err(|what| DbcError { line: at + 1, what })?;
        }
        dbc.leave_out();
        if dbc.signals() == 0 {
            let none = || DbcError { line: text.lines().count(), what: "the file has no signal".into() };
            return Err(dbc.left_out.into_iter().next().unwrap_or_else(none));
        }
        Ok(dbc)
    }

    /// Signals and messages that are not read, by line, each with the reason.
    pub fn left_out(&self) -> &[DbcError] {
        &self.left_out
    }

    /// Parts with what can't be read rightly.
    fn leave_out(&mut self) {
        let mut names = HashSet::new();
        let mut ids: Vec<(usize, u32)> = self.messages.iter().map(|(id, m)| (m.line, *id)).collect();
        ids.sort_unstable();
        for (line, id) in ids {
            let Some(message) = self.messages.get_mut(&id) else { continue };
            if names.insert(message.name.clone()) {
                message.leave_out(&mut self.left_out);
            } else {
                let what =
                    format!("the message {} has the name of another; give it one of its own", message.name);
                self.left_out.push(DbcError { line, what });
                self.messages.remove(&id);
            }
        }
        self.left_out.sort_by_key(|left_out| left_out.line);
    }

    /// Signals of all messages.
    pub fn signals(&self) -> usize {
        self.messages.values().map(|message| message.signals.len()).sum()
    }

    /// The message of an id; bit 31 tells an extended one.
    pub fn message(&self, id: u32) -> Option<&Message> {
        self.messages.get(&id)
    }

    fn line(&mut self, at: usize, line: &str, current: &mut Option<u32>) -> Result<(), String> {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("BO_ ") {
            *current = Some(self.begin(at, rest)?);
        } else if let Some(rest) = line.strip_prefix("SG_ ") {
            let id = current.ok_or("a signal before any message")?;
            let message = self.messages.get_mut(&id).ok_or("a signal before any message")?;
            let signal = Signal { line: at, ..signal(rest)? };
            if message.signals.iter().any(|other| other.name == signal.name) {
                return Err(format!("the signal {} stands twice in {}", signal.name, message.name));
            }
            message.is_extended |= signal.mux == Mux::Both;
            message.signals.push(signal);
            if self.signals() > limits::DBC_SIGNALS_MAX {
                return Err(format!("more than {} signals", limits::DBC_SIGNALS_MAX));
            }
        } else if let Some(rest) = line.strip_prefix("SIG_VALTYPE_ ") {
            self.value_type(rest)?;
        } else if let Some(rest) = line.strip_prefix("SG_MUL_VAL_ ") {
            self.switched(rest);
        }
        Ok(())
    }

    /// `id name: length sender`
    fn begin(&mut self, line: usize, rest: &str) -> Result<u32, String> {
        let (id, rest) = rest.trim().split_once(' ').ok_or("a message needs an id and a name")?;
        let id: u32 = id.parse().map_err(|_| format!("{id:?} is no id of a message"))?;
        let (name, rest) = rest.split_once(':').ok_or("a message's name ends with a colon")?;
        let length = rest.split_whitespace().next().unwrap_or_default();
        let bytes = length.parse::<u16>().ok().filter(|n| *n <= FRAME_BYTES_MAX);
        let message = |name, bytes| Message { name, signals: Vec::new(), line, bytes, is_extended: false };
        // A group of signals that belong to no message.
        if id == INDEPENDENT {
            self.messages.insert(id, message(String::new(), FRAME_BYTES_MAX));
            return Ok(id);
        }
        let Some(bytes) = bytes else {
            return Err(format!("{length:?} is no length of a frame, 0 to {FRAME_BYTES_MAX} bytes"));
        };
        let message = message(word(name)?, bytes);
        match self.messages.insert(id, message) {
            None => Ok(id),
            Some(other) => Err(format!("the id {id} is taken by {}", other.name)),
        }
    }

    /// `id signal switch from-to, from-to;`: where that is more than one value of the one switch, it is beyond us.
    fn switched(&mut self, rest: &str) {
        let cleaned = rest.replace([',', ';'], " ");
        let words: Vec<&str> = cleaned.split_whitespace().collect();
        let [id, name, switch, ref ranges @ ..] = words[..] else { return };
        let Some(message) = id.parse().ok().and_then(|id: u32| self.messages.get_mut(&id)) else { return };
        let mux = |name: &str| message.signals.iter().find(|s| s.name == name).map(|s| s.mux);
        let is_plain = match (mux(name), mux(switch), ranges) {
            (Some(Mux::When(n)), Some(Mux::Switch), [range]) => *range == format!("{n}-{n}"),
            _ => false,
        };
        message.is_extended |= !is_plain;
    }

    /// `id signal : type;`, 1 is a float of 32 bits and 2 one of 64.
    fn value_type(&mut self, rest: &str) -> Result<(), String> {
        let cleaned = rest.replace([':', ';'], " ");
        let mut words = cleaned.split_whitespace();
        let (Some(id), Some(name), Some(code)) = (words.next(), words.next(), words.next()) else {
            return Err("a type needs an id, a signal and a number".into());
        };
        let signals = id.parse().ok().and_then(|id: u32| self.messages.get_mut(&id)).map(|m| &mut m.signals);
        let Some(signal) = signals.and_then(|all| all.iter_mut().find(|s| s.name == name)) else {
            return Err(format!("there is no signal {name} in message {id}"));
        };
        signal.kind = match (code, signal.len) {
            ("0", _) => signal.kind,
            ("1", 32) => Kind::F32,
            ("2", 64) => Kind::F64,
            _ => return Err(format!("a signal of {} bits is no float of type {code}", signal.len)),
        };
        Ok(())
    }
}

/// The longest frame, that of CAN FD.
const FRAME_BYTES_MAX: u16 = 64;
/// The id of a message that is none (VECTOR__INDEPENDENT_SIG_MSG).
const INDEPENDENT: u32 = 0xc000_0000;

impl Message {
    /// Parts with the signals that can't be read rightly.
    fn leave_out(&mut self, told: &mut Vec<DbcError>) {
        let switches = self.signals.iter().filter(|signal| signal.mux == Mux::Switch).count();
        let is_extended = self.is_extended || switches > 1;
        let fault = |signal: &Signal| match signal.mux {
            _ if !reaches(signal.start, signal.len, signal.little_endian, self.bytes) => {
                Some(format!("lies beyond the {} bytes of its message", self.bytes))
            }
            Mux::When(_) | Mux::Both if is_extended => Some(
                "is chosen by more than one switch and value (extended multiplexing), which is not read"
                    .into(),
            ),
            Mux::When(_) if switches == 0 => {
                Some("is multiplexed, and its message has no signal that is the switch (M)".into())
            }
            _ => None,
        };
        self.signals.retain(|signal| {
            let fault = fault(signal);
            told.extend(fault.iter().map(|why| DbcError {
                line: signal.line,
                what: format!("the signal {} of {} {why}", signal.name, self.name),
            }));
            fault.is_none()
        });
    }

    /// The signals that are in a frame with their values; those that lie beyond its end, or of another branch of a
    /// multiplexed message, are left out.
    pub fn values(&self, data: &[u8]) -> impl Iterator<Item = (&Signal, f64)> {
        let switch = self.signals.iter().find(|s| s.mux == Mux::Switch).and_then(|s| s.raw(data));
        self.signals.iter().filter_map(move |signal| match signal.mux {
            Mux::When(branch) if switch != Some(branch) => None,
            _ => Some((signal, signal.value(data)?)),
        })
    }
}

impl Signal {
    fn value(&self, data: &[u8]) -> Option<f64> {
        let raw = self.raw(data)?;
        let unused = 64 - u32::from(self.len);
        let number = match self.kind {
            Kind::Unsigned => raw as f64,
            Kind::Signed => ((raw << unused) as i64 >> unused) as f64,
            Kind::F32 => f64::from(f32::from_bits(raw as u32)),
            Kind::F64 => f64::from_bits(raw),
        };
        Some(number * self.factor + self.offset)
    }

    fn raw(&self, data: &[u8]) -> Option<u64> {
        let mut raw = 0;
        let mut at = self.start;
        for n in 0..self.len {
            let bit = u64::from(data.get(usize::from(at / 8))? >> (at % 8) & 1);
            if self.little_endian {
                raw |= bit << n;
                at += 1;
            } else {
                // From the most significant bit down, and on in the next byte from its bit 7.
                raw = raw << 1 | bit;
                at = if at.is_multiple_of(8) { at + 15 } else { at - 1 };
            }
        }
        Some(raw)
    }
}

/// `name [mux] : start|length@order sign (factor,offset) [min|max] "unit" receivers`
fn signal(rest: &str) -> Result<Signal, String> {
    let (head, body) = rest.split_once(':').ok_or("a signal's name ends with a colon")?;
    let mut words = head.split_whitespace();
    let name = word(words.next().unwrap_or_default())?;
    let mux = match words.next() {
        None => Mux::Always,
        Some("M") => Mux::Switch,
        Some(text) => {
            let numbered = text.strip_prefix('m').unwrap_or_default();
            let (number, is_switch) = numbered.strip_suffix('M').map_or((numbered, false), |n| (n, true));
            let number = number.parse();
            let number = number.map_err(|_| format!("{text:?} is no multiplexer: M, or m and a number"))?;
            if is_switch { Mux::Both } else { Mux::When(number) }
        }
    };
    let bad = |what: &str| format!("the signal {name} has {what}");
    let (place, scale) = body.trim().split_once(' ').ok_or_else(|| bad("no factor"))?;
    let (start, len, little_endian, signed) =
        place_of(place).ok_or_else(|| bad("no place such as 0|16@1+"))?;
    if !(1..=64).contains(&len) || !reaches(start, len, little_endian, FRAME_BYTES_MAX) {
        return Err(bad("a place outside of a frame of 64 bytes"));
    }
    let pair =
        scale.trim().strip_prefix('(').and_then(|s| s.split_once(')')).ok_or_else(|| bad("no factor"))?.0;
    let numbers =
        pair.split_once(',').and_then(|(f, o)| Some((f.trim().parse().ok()?, o.trim().parse().ok()?)));
    let (factor, offset): (f64, f64) = numbers.ok_or_else(|| bad("no factor and offset such as (0.1,0)"))?;
    if factor == 0.0 || !factor.is_finite() || !offset.is_finite() {
        return Err(bad("a factor that gives no value"));
    }
    let unit = scale.split('"').nth(1).ok_or_else(|| bad("no unit in quotes"))?.to_owned();
    let kind = if signed { Kind::Signed } else { Kind::Unsigned };
    Ok(Signal { name, unit, line: 0, mux, start, len, little_endian, kind, factor, offset })
}

/// `start|length@order sign`; order 1 is little-endian.
fn place_of(text: &str) -> Option<(u16, u16, bool, bool)> {
    let (start, rest) = text.split_once('|')?;
    let (len, rest) = rest.split_once('@')?;
    let (little_endian, signed) = match rest {
        "1+" => (true, false),
        "1-" => (true, true),
        "0+" => (false, false),
        "0-" => (false, true),
        _ => return None,
    };
    Some((start.parse().ok()?, len.parse().ok()?, little_endian, signed))
}

/// Whether it ends within so many bytes.
fn reaches(start: u16, len: u16, little_endian: bool, bytes: u16) -> bool {
    let bits = 8 * u32::from(bytes);
    let (start, len) = (u32::from(start), u32::from(len));
    // Big-endian: what is left of the first byte counts down, then whole bytes follow.
    let end = if little_endian { start + len } else { start / 8 * 8 + 7 - start % 8 + len };
    start < bits && end <= bits
}

fn word(text: &str) -> Result<String, String> {
    let text = text.trim();
    let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is no name")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = r#"VERSION ""
BS_:
BU_: ECU
BO_ 500 Motor: 8 ECU
 SG_ Speed : 0|16@1+ (0.25,0) [0|8000] "rpm"  Gateway
 SG_ Torque : 16|12@1- (0.5,-100) [-100|1000] "Nm" Gateway
 SG_ Big : 39|16@0+ (1,0) [0|0] "" Gateway

BO_ 2566844926 Mixed: 8 ECU
 SG_ Which M : 0|8@1+ (1,0) [0|0] "" X
 SG_ A m0 : 8|8@1+ (1,0) [0|0] "" X
 SG_ B m1 : 8|8@1+ (2,0) [0|0] "%" X
 SG_ F : 32|32@1- (1,0) [0|0] "V" X
CM_ SG_ 500 Speed "how fast";
VAL_ 500 Speed 0 "still" ;
SIG_VALTYPE_ 2566844926 F : 1;
"#;

    fn values(dbc: &Dbc, id: u32, data: &[u8]) -> Vec<(String, f64)> {
        dbc.message(id).unwrap().values(data).map(|(s, x)| (s.name.clone(), x)).collect()
    }

    #[test]
    fn signals_of_both_orders_signs_and_branches_are_read() {
        let dbc = Dbc::parse(FILE).unwrap();
        assert_eq!(dbc.signals(), 7);
        // Speed 0x0fa0 * 0.25, torque -2 * 0.5 - 100, big-endian 0x1234 in bytes 4 and 5.
        let data = [0xa0, 0x0f, 0xfe, 0x0f, 0x12, 0x34, 0, 0];
        let read = values(&dbc, 500, &data);
        assert_eq!(
            read,
            [("Speed".into(), 1000.0), ("Torque".into(), -101.0), ("Big".into(), f64::from(0x1234))]
        );
        assert_eq!(values(&dbc, 500, &data[..4]).len(), 2, "a short frame has what it has");
        let [f0, f1, f2, f3] = 1.5_f32.to_le_bytes();
        let mixed = values(&dbc, 2_566_844_926, &[1, 21, 0, 0, f0, f1, f2, f3]);
        assert_eq!(mixed, [("Which".into(), 1.0), ("B".into(), 42.0), ("F".into(), 1.5)]);
        assert!(dbc.message(501).is_none());
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let with = |line: &str| Dbc::parse(&format!("VERSION \"\"\nBO_ 1 M: 8 E\n{line}\n")).unwrap_err();
        for (line, what) in [
            ("SG_ S : 0|16@2+ (1,0) [0|0] \"\" X", "place"),
            ("SG_ S : 0|65@1+ (1,0) [0|0] \"\" X", "outside"),
            ("SG_ S : 510|16@1+ (1,0) [0|0] \"\" X", "outside"),
            ("SG_ S : 504|16@0+ (1,0) [0|0] \"\" X", "outside"),
            ("SG_ S : 0|16@1+ (0,0) [0|0] \"\" X", "gives no value"),
            ("SG_ S : 0|16@1+ (1) [0|0] \"\" X", "factor and offset"),
            ("SG_ S : 0|16@1+ (1,0) [0|0] X", "unit"),
            ("SG_ S x : 0|16@1+ (1,0) [0|0] \"\" X", "multiplexer"),
            ("SG_ : 0|16@1+ (1,0) [0|0] \"\" X", "no name"),
            ("BO_ 1 N: 8 E", "taken by M"),
            ("BO_ x N: 8 E", "no id"),
            ("BO_ 2 N: 99 E", "length"),
            ("SIG_VALTYPE_ 1 S : 1;", "no signal S"),
        ] {
            let error = with(line);
            assert!(error.line == 3 && error.what.contains(what), "{line}: {error}");
        }
        assert!(Dbc::parse("SG_ S : 0|1@1+ (1,0) [0|0] \"\" X").unwrap_err().what.contains("before any"));
        assert_eq!(Dbc::parse("").unwrap_err().what, "the file has no signal");
    }

    #[test]
    fn what_cannot_be_read_rightly_is_left_out_with_its_line_and_the_rest_is_read() {
        let signal = |name: &str, place: &str| format!(" SG_ {name} : {place} (1,0) [0|0] \"\" X\n");
        let text = [
            "BO_ 1 Short: 2 E\n",
            &signal("Inside", "0|16@1+"),
            &signal("Beyond", "8|16@1+"),
            &signal("Backward", "7|24@0+"),
            "BO_ 2 Short: 8 E\n",
            &signal("Same", "0|8@1+"),
            "BO_ 3 Blind: 8 E\n",
            &signal("Always", "0|8@1+"),
            &signal("Never m1", "8|8@1+"),
            "BO_ 4 Deep: 8 E\n",
            &signal("Top M", "0|8@1+"),
            &signal("Mid m0M", "8|8@1+"),
            &signal("Low m1", "16|8@1+"),
            "BO_ 5 Ranged: 8 E\n",
            &signal("Sel M", "0|8@1+"),
            &signal("One m1", "8|8@1+"),
            "BO_ 6 Plain: 8 E\n",
            &signal("Sel M", "0|8@1+"),
            &signal("Two m2", "8|8@1+"),
            "SG_MUL_VAL_ 4 Low Mid 1-1;\nSG_MUL_VAL_ 5 One Sel 1-1, 5-7;\nSG_MUL_VAL_ 6 Two Sel 2-2;\n",
        ]
        .concat();
        let dbc = Dbc::parse(&text).unwrap();
        let told: Vec<usize> = dbc.left_out().iter().map(|left_out| left_out.line).collect();
        assert_eq!(told, [3, 4, 5, 9, 12, 13, 16]);
        let what = |line: usize| &dbc.left_out().iter().find(|l| l.line == line).unwrap().what;
        assert!(what(3).contains("Beyond of Short lies beyond the 2 bytes"), "{}", what(3));
        assert!(what(5).contains("the name of another") && what(9).contains("no signal that is the switch"));
        assert!(what(13).contains("extended multiplexing"), "{}", what(13));
        assert!(dbc.message(2).is_none());
        let read = |id: u32, data: &[u8]| values(&dbc, id, data).into_iter().map(|v| v.0).collect::<Vec<_>>();
        assert_eq!(read(3, &[1, 1]), ["Always"]);
        assert_eq!(read(4, &[0, 1, 2]), ["Top"]);
        assert_eq!(read(6, &[2, 1]), ["Sel", "Two"]);
        let all = Dbc::parse(&["BO_ 1 Short: 1 E\n", &signal("Beyond", "8|16@1+")].concat()).unwrap_err();
        assert!(all.line == 2 && all.what.contains("lies beyond"), "{all}");
    }

    proptest! {
        #[test]
        fn no_text_and_no_frame_harm(
            text in "(BO_ [0-9]{1,4} [a-z]{1,3}: 8 E\n)?( SG_ [a-z] (M|m[0-9])?: [0-9]{1,3}\\|[0-9]{1,2}@[01][-+] \\([0-9.]{1,3},-?[0-9]\\) \\[0\\|0\\] \"u\" X\n){0,4}",
            data in prop::collection::vec(any::<u8>(), 0..64),
            wild in "\\PC{0,80}",
        ) {
            let _ = Dbc::parse(&wild);
            if let Ok(dbc) = Dbc::parse(&text) {
                for message in dbc.messages.values() {
                    prop_assert!(message.values(&data).count() <= message.signals.len());
                }
            }
        }
    }
}
