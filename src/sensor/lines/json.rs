//! One line of JSON into the members of its object, or of each object in its array.
//!
//! The scanner walks the plain shape itself: ASCII strings without escapes, numbers, `true`, `false`, `null`. Whatever
//! is unusual, an escape, a letter beyond ASCII or a nested value, is one token that serde_json reads in its place. So
//! there is one meaning, and the common line costs one pass over its bytes. Beyond RFC 8259 it takes `NaN`, `Infinity`
//! and `-Infinity`, which Python and its relatives write; a number too large for a double is an infinity.

use std::borrow::Cow;

use serde::Deserialize;

use super::Malformed;
use super::number::{self, Number};
use crate::limits;

/// A value as far as a reading can use it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar<'a> {
    Number(Number),
    Text(Cow<'a, str>),
    Flag(bool),
    Null,
    /// An object or an array.
    Nested,
}

/// One `"key": value`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) value: Scalar<'a>,
}

/// Calls `each` with the members of every object in `line`, in the order of writing; keys may repeat.
///
/// Errors: the line is not one object or one array of objects, or `each` refused; objects before that were seen.
pub(super) fn objects<'a>(
    line: &'a [u8],
    mut each: impl FnMut(&[Member<'a>]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut cursor = Cursor { bytes: line, at: 0 };
    let mut members = Vec::with_capacity(4);
    if cursor.eat(b'[') {
        if !cursor.eat(b']') {
            loop {
                cursor.object(&mut members)?;
                each(&members)?;
                if !cursor.comma_or(b']')? {
                    break;
                }
            }
        }
    } else {
        cursor.object(&mut members)?;
        each(&members)?;
    }
    cursor.skip_space();
    if cursor.at == line.len() { Ok(()) } else { Err(Malformed::Json) }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn object(&mut self, members: &mut Vec<Member<'a>>) -> Result<(), Malformed> {
        members.clear();
        self.demand(b'{')?;
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            if members.len() == limits::LINE_FIELDS_MAX {
                return Err(Malformed::TooManyFields);
            }
            self.skip_space();
            let key = self.string()?;
            self.demand(b':')?;
            let value = self.value()?;
            members.push(Member { key, value });
            if !self.comma_or(b'}')? {
                return Ok(());
            }
        }
    }

    fn value(&mut self) -> Result<Scalar<'a>, Malformed> {
        self.skip_space();
        let rest = &self.bytes[self.at..];
        let (scalar, len) = match rest.first() {
            Some(b'"') => return self.string().map(Scalar::Text),
            Some(b'{' | b'[') => return self.foreign::<serde_json::Value>().map(|_| Scalar::Nested),
            Some(b't') if rest.starts_with(b"true") => (Scalar::Flag(true), 4),
            Some(b'f') if rest.starts_with(b"false") => (Scalar::Flag(false), 5),
            Some(b'n') if rest.starts_with(b"null") => (Scalar::Null, 4),
            Some(b'N') if rest.starts_with(b"NaN") => (unwritable(f64::NAN), 3),
            Some(b'I') if rest.starts_with(b"Infinity") => (unwritable(f64::INFINITY), 8),
            Some(b'-') if rest.starts_with(b"-Infinity") => (unwritable(f64::NEG_INFINITY), 9),
            _ => {
                let (number, len) = number::scan(rest).ok_or(Malformed::Json)?;
                (Scalar::Number(number), len)
            }
        };
        self.at += len;
        Ok(scalar)
    }

    /// A string; the cursor stands on its opening quote.
    fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let rest = &self.bytes[self.at..];
        if rest.first() != Some(&b'"') {
            return Err(Malformed::Json);
        }
        let plain =
            rest[1..].iter().take_while(|b| matches!(b, 0x20..=0x7f if **b != b'"' && **b != b'\\')).count();
        if rest.get(plain + 1) != Some(&b'"') {
            return self.foreign::<String>().map(Cow::Owned);
        }
        self.at += plain + 2;
        std::str::from_utf8(&rest[1..=plain]).map(Cow::Borrowed).map_err(|_| Malformed::Json)
    }

    /// One value that serde_json reads.
    fn foreign<T: Deserialize<'a>>(&mut self) -> Result<T, Malformed> {
        let mut stream = serde_json::Deserializer::from_slice(&self.bytes[self.at..]).into_iter::<T>();
        let value = stream.next().and_then(Result::ok).ok_or(Malformed::Json)?;
        self.at += stream.byte_offset();
        Ok(value)
    }

    /// Steps over `,` and says true, or over `end` and says false.
    fn comma_or(&mut self, end: u8) -> Result<bool, Malformed> {
        if self.eat(b',') {
            return Ok(true);
        }
        self.demand(end).map(|()| false)
    }

    fn demand(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.eat(byte) { Ok(()) } else { Err(Malformed::Json) }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }
}

/// A number that JSON has no word for.
fn unwritable(value: f64) -> Scalar<'static> {
    Scalar::Number(Number { value, integer: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    type Seen = Vec<Vec<(String, Scalar<'static>)>>;

    fn scanned(line: &[u8]) -> Option<Seen> {
        let mut seen = Vec::new();
        let result = objects(line, |members| {
            seen.push(members.iter().map(|m| (m.key.to_string(), owned(&m.value))).collect());
            Ok(())
        });
        result.ok().map(|()| seen)
    }

    fn owned(scalar: &Scalar<'_>) -> Scalar<'static> {
        match scalar {
            Scalar::Text(text) => Scalar::Text(Cow::Owned(text.to_string())),
            Scalar::Number(n) => Scalar::Number(*n),
            Scalar::Flag(flag) => Scalar::Flag(*flag),
            Scalar::Null => Scalar::Null,
            Scalar::Nested => Scalar::Nested,
        }
    }

    /// What serde_json makes of the line; object members are sorted there.
    fn by_serde(line: &[u8]) -> Option<Seen> {
        let members =
            |map: Map<String, Value>| map.into_iter().map(|(key, value)| (key, judged(value))).collect();
        match serde_json::from_slice(line).ok()? {
            Value::Object(map) => Some(vec![members(map)]),
            Value::Array(items) => items
                .into_iter()
                .map(|item| if let Value::Object(map) = item { Some(members(map)) } else { None })
                .collect(),
            _ => None,
        }
    }

    fn judged(value: Value) -> Scalar<'static> {
        match value {
            Value::Null => Scalar::Null,
            Value::Bool(flag) => Scalar::Flag(flag),
            Value::String(text) => Scalar::Text(Cow::Owned(text)),
            Value::Number(n) => {
                Scalar::Number(Number { value: n.as_f64().unwrap_or(f64::NAN), integer: n.as_i64() })
            }
            Value::Array(_) | Value::Object(_) => Scalar::Nested,
        }
    }

    /// Sorted by key, the last of equal keys only: the shape of serde_json's map.
    fn as_map(seen: Seen) -> Seen {
        let one = |members: Vec<_>| {
            members.into_iter().collect::<std::collections::BTreeMap<_, _>>().into_iter().collect()
        };
        seen.into_iter().map(one).collect()
    }

    fn is_infinite(scalar: &Scalar<'_>) -> bool {
        matches!(scalar, Scalar::Number(number) if number.value.is_infinite())
    }

    /// `seen` with the numbers of `told` where they are its own but for the last bits: with exponents as damage can write them
    /// serde_json does not round correctly.
    fn as_rounded_in(mut seen: Seen, told: &Seen) -> Seen {
        let own = seen.iter_mut().flatten();
        for ((_, scalar), (_, other)) in own.zip(told.iter().flatten()) {
            if let (Scalar::Number(a), Scalar::Number(b)) = (&*scalar, other)
                && (a.value - b.value).abs() <= 4.0 * f64::EPSILON * a.value.abs()
                && a.integer == b.integer
            {
                *scalar = other.clone();
            }
        }
        seen
    }

    /// Values, texts and spellings of every kind, numbers short enough that serde_json rounds them correctly too.
    fn value_text() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,5})?([eE][+-]?[0-9])?",
            any::<i64>().prop_map(|n| n.to_string()),
            "(true|false|null|nul|tru)",
            "\\PC{0,8}".prop_map(|s| Value::from(s).to_string()),
            "\"[a-z\\\\\"u0-9é\u{1}]{0,8}\"",
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(|v| format!("[{}]", v.join(" ,"))),
                prop::collection::vec(inner, 0..3).prop_map(|v| {
                    let members: Vec<_> = v.iter().map(|v| format!("\"k\":{v}")).collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        })
    }

    fn object_text() -> impl Strategy<Value = String> {
        let key = prop_oneof![
            "[a-c]{0,2}".prop_map(|k| format!("\"{k}\"")),
            "\\PC{0,4}".prop_map(|s| Value::from(s).to_string())
        ];
        prop::collection::vec((key, "[ \t]{0,2}", value_text()), 0..5).prop_map(|members| {
            let text: Vec<_> =
                members.iter().map(|(k, space, v)| format!("{space}{k}{space}:{space}{v}")).collect();
            format!("{{{}}}", text.join(","))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn an_object_means_what_serde_json_says(text in object_text()) {
            prop_assert_eq!(scanned(text.as_bytes()).map(as_map), by_serde(text.as_bytes()));
        }

        #[test]
        fn an_array_means_what_serde_json_says(items in prop::collection::vec(prop_oneof![4 => object_text(), 1 => value_text()], 0..4)) {
            let text = format!("[{}]", items.join(", "));
            prop_assert_eq!(scanned(text.as_bytes()).map(as_map), by_serde(text.as_bytes()));
        }

        #[test]
        fn a_damaged_line_is_judged_as_serde_json_does(text in object_text(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut line = text.into_bytes();
            let at = at.index(line.len());
            line[at] = byte;
            // The two known extensions start with letters that damage can write; serde_json has no word for them.
            prop_assume!(![b"NaN".as_slice(), b"Infinity"].iter().any(|w| line.windows(w.len()).any(|x| x == *w)));
            let seen = scanned(&line).map(as_map);
            // So can an exponent beyond any float: a number without a value here, an error there.
            prop_assume!(!seen.iter().flatten().flatten().any(|(_, scalar)| is_infinite(scalar)));
            let told = by_serde(&line);
            let seen = seen.map(|seen| told.iter().fold(seen, as_rounded_in));
            prop_assert_eq!(seen, told);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), punctuation in "[\\[{\"\\\\:,}\\]0-9eE.+ \u{0}-\u{1f}é-]{0,64}") {
            let _ = (scanned(&bytes), scanned(punctuation.as_bytes()));
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
        let line = format!("{{\"a\":{}", "[".repeat(60_000));
        assert_eq!(scanned(line.as_bytes()), None);
    }

    /// A property test once hit upon it: one absurd value must not cost the line its others.
    #[test]
    fn a_number_beyond_any_float_leaves_the_rest_of_the_line_readable() {
        let seen = scanned(br#"{"a":2e967299,"b":1}"#).unwrap();
        assert!(is_infinite(&seen[0][0].1) && !is_infinite(&seen[0][1].1), "{seen:?}");
    }

    #[test]
    fn words_for_what_json_cannot_write_are_understood() {
        let seen = scanned(br#"{"a":NaN,"b":-Infinity}"#).unwrap();
        let Scalar::Number(a) = &seen[0][0].1 else { panic!("no number") };
        assert!(a.value.is_nan());
        assert_eq!(seen[0][1].1, unwritable(f64::NEG_INFINITY));
    }
}
