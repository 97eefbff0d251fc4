//! The front of a GGUF file: keys with values, then the table of tensors.
//!
//! Values that are lists are located and not read; who wants one reads it element by element. Everything is held against the
//! size of the file before it is believed.

use std::collections::HashMap;

use crate::glm::import::ImportError;
use crate::glm::import::blob::{Blob, Window};
use crate::glm::import::error::{TensorProblem, clip};
use crate::glm::import::tensor::{At, Encoding, Tensor, dimensions};
use crate::limits;

/// A GGUF file, its front read.
pub(super) struct Gguf {
    pub(super) blob: Blob,
    values: HashMap<String, Value>,
    pub(super) tensors: Vec<Info>,
    /// Where tensors' offsets count from.
    data_at: u64,
}

/// A value of a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Integer(i128),
    Real(f64),
    Bool(bool),
    Text(String),
    List(List),
}

/// Where the elements of a list stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct List {
    kind: u32,
    pub(super) count: u64,
    at: u64,
}

/// A line of the table of tensors.
pub(super) struct Info {
    pub(super) name: String,
    /// The row's length first.
    dims: Vec<u64>,
    kind: u32,
    offset: u64,
}

const TEXT: u32 = 8;
const LIST: u32 = 9;

/// Reads one thing after the other.
struct Front {
    window: Window,
    at: u64,
}

impl Gguf {
    /// Reads keys and tensors.
    pub(super) fn open(blob: Blob) -> Result<Gguf, ImportError> {
        let mut front = Front { window: Window::new(blob.clone()), at: 4 };
        match front.u32()? {
            2 | 3 => {}
            version @ (0 | 1) => {
                return Err(ImportError::unsupported(
                    format!("GGUF version {version}"),
                    "convert it to version 3",
                ));
            }
            version if version.swap_bytes() < 100 => {
                return Err(ImportError::unsupported(
                    "a big-endian GGUF file",
                    "convert it to little-endian",
                ));
            }
            version => {
                return Err(ImportError::unsupported(
                    format!("GGUF version {version}"),
                    "versions 2 and 3 are",
                ));
            }
        }
        let (tensors, keys) = (front.u64()?, front.u64()?);
        for (what, count, max) in
            [("tensors", tensors, limits::IMPORT_TENSORS_MAX), ("keys", keys, limits::IMPORT_KEYS_MAX)]
        {
            if count > max as u64 {
                return Err(blob.damaged(format!("it claims {count} {what}, {max} are the most it may have")));
            }
        }
        let mut values = HashMap::new();
        for _ in 0..keys {
            let key = front.text(limits::IMPORT_NAME_BYTES_MAX)?;
            let kind = front.u32()?;
            let value = front.value(kind, &key)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(blob.damaged(format!("the key {} is there twice", clip(&key))));
            }
        }
        let tensors = (0..tensors).map(|_| front.info()).collect::<Result<Vec<_>, _>>()?;
        let mut gguf = Gguf { values, tensors, data_at: 0, blob };
        gguf.data_at = gguf.aligned(front.at)?;
        gguf.check_places()?;
        Ok(gguf)
    }

    /// One line of the table as a tensor.
    pub(super) fn tensor(&self, info: &Info) -> Result<Tensor, ImportError> {
        let encoding = encoding(info)?;
        let dims: Vec<u64> = info.dims.iter().rev().copied().collect();
        let shape = dimensions(&self.blob, &info.name, &dims)?;
        let row = encoding.row_bytes(if dims.len() == 1 { 1 } else { shape[1] });
        let bytes = row.and_then(|row| row.checked_mul(shape[0] as u64)).unwrap_or(u64::MAX);
        let at = self.data_at.saturating_add(info.offset);
        Tensor::new(&info.name, shape, encoding, At { blob: &self.blob, at, bytes })
    }

    /// A key's value.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// A key's text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A key's whole number, of any width.
    pub(super) fn integer(&self, key: &str) -> Option<i128> {
        match self.get(key) {
            Some(Value::Integer(n)) => Some(*n),
            _ => None,
        }
    }

    /// A key's real number.
    pub(super) fn real(&self, key: &str) -> Option<f64> {
        match self.get(key) {
            Some(Value::Real(x)) => Some(*x),
            Some(Value::Integer(n)) => Some(*n as f64),
            _ => None,
        }
    }

    /// A key's list of texts, each given to `each` with its number.
    pub(super) fn texts(
        &self,
        key: &str,
        mut each: impl FnMut(u64, String) -> Result<(), ImportError>,
    ) -> Result<Option<u64>, ImportError> {
        let Some(Value::List(list)) = self.get(key) else { return Ok(None) };
        if list.kind != TEXT {
            return Err(self.blob.damaged(format!("the key {} is no list of texts", clip(key))));
        }
        let mut front = Front { window: Window::new(self.blob.clone()), at: list.at };
        for n in 0..list.count {
            each(n, front.text(limits::IMPORT_NAME_BYTES_MAX)?)?;
        }
        Ok(Some(list.count))
    }

    /// A key's list of whole numbers, each given to `each`.
    pub(super) fn integers(
        &self,
        key: &str,
        mut each: impl FnMut(u64, i128) -> Result<(), ImportError>,
    ) -> Result<Option<u64>, ImportError> {
        let Some(Value::List(list)) = self.get(key) else { return Ok(None) };
        let mut front = Front { window: Window::new(self.blob.clone()), at: list.at };
        for n in 0..list.count {
            match front.value(list.kind, key)? {
                Value::Integer(number) => each(n, number)?,
                _ => {
                    return Err(self
                        .blob
                        .damaged(format!("the key {} is no list of whole numbers", clip(key))));
                }
            }
        }
        Ok(Some(list.count))
    }

    fn aligned(&self, at: u64) -> Result<u64, ImportError> {
        let align = self.integer("general.alignment").unwrap_or(32);
        let align = u64::try_from(align).ok().filter(|n| n.is_power_of_two() && *n <= ALIGN_MAX);
        let bad = || self.blob.damaged("its alignment is no power of two that could be");
        at.checked_next_multiple_of(align.ok_or_else(bad)?).ok_or_else(bad)
    }

    /// No two tensors may share a byte, nor have one name; where each ends is checked when it becomes a tensor.
    fn check_places(&self) -> Result<(), ImportError> {
        let mut places = Vec::with_capacity(self.tensors.len());
        let mut names = std::collections::HashSet::new();
        for info in &self.tensors {
            if !names.insert(&info.name) {
                return Err(ImportError::tensor(&info.name, TensorProblem::Doubled));
            }
            let Ok(tensor) = self.tensor(info) else { continue };
            places.push((info.offset, tensor.bytes(), &info.name));
        }
        places.sort_unstable();
        for pair in places.windows(2) {
            let [(at, bytes, name), (next, _, other)] = pair else { continue };
            if at.saturating_add(*bytes) > *next {
                return Err(self.blob.damaged(format!("tensors {} and {} overlap", clip(name), clip(other))));
            }
        }
        Ok(())
    }
}

impl Front {
    fn u32(&mut self) -> Result<u32, ImportError> {
        self.number(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ImportError> {
        self.number(u64::from_le_bytes)
    }

    fn number<const N: usize, T>(&mut self, of: impl Fn([u8; N]) -> T) -> Result<T, ImportError> {
        let bytes = self.window.array(self.at)?;
        self.at += N as u64;
        Ok(of(bytes))
    }

    fn text(&mut self, max: u64) -> Result<String, ImportError> {
        let len = self.u64()?;
        let bytes = self.skip(len, max).and_then(|at| self.window.bytes(at, len))?;
        String::from_utf8(bytes).map_err(|_| self.window.blob.damaged("it holds a text that is not UTF-8"))
    }

    /// Passes over `len` bytes that must be in the file; gives where they began.
    fn skip(&mut self, len: u64, max: u64) -> Result<u64, ImportError> {
        let blob = &self.window.blob;
        let (at, rest) = (self.at, blob.len().saturating_sub(self.at));
        if len > max.min(rest) {
            return Err(blob.damaged(format!(
                "it claims a part of {len} bytes, {} at most are possible",
                max.min(rest)
            )));
        }
        self.at += len;
        Ok(at)
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value, ImportError> {
        let integer = |n: i128| Ok(Value::Integer(n));
        match kind {
            0 => integer(self.number(u8::from_le_bytes)?.into()),
            1 => integer(self.number(i8::from_le_bytes)?.into()),
            2 => integer(self.number(u16::from_le_bytes)?.into()),
            3 => integer(self.number(i16::from_le_bytes)?.into()),
            4 => integer(self.number(u32::from_le_bytes)?.into()),
            5 => integer(self.number(i32::from_le_bytes)?.into()),
            6 => Ok(Value::Real(self.number(f32::from_le_bytes)?.into())),
            7 => Ok(Value::Bool(self.number(u8::from_le_bytes)? != 0)),
            TEXT => Ok(Value::Text(self.text(limits::IMPORT_CONFIG_BYTES_MAX)?)),
            LIST => self.list(key).map(Value::List),
            10 => integer(self.u64()?.into()),
            11 => integer(self.number(i64::from_le_bytes)?.into()),
            12 => Ok(Value::Real(self.number(f64::from_le_bytes)?)),
            other => {
                Err(self.window.blob.damaged(format!("the key {} has a value of type {other}", clip(key))))
            }
        }
    }

    fn list(&mut self, key: &str) -> Result<List, ImportError> {
        let (kind, count) = (self.u32()?, self.u64()?);
        if count > limits::IMPORT_LIST_MAX {
            let max = limits::IMPORT_LIST_MAX;
            return Err(self
                .window
                .blob
                .damaged(format!("the key {} claims {count} elements, {max} are the most", clip(key))));
        }
        let list = List { kind, count, at: self.at };
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            TEXT => {
                for _ in 0..count {
                    let len = self.u64()?;
                    self.skip(len, limits::IMPORT_NAME_BYTES_MAX)?;
                }
                return Ok(list);
            }
            other => {
                return Err(self
                    .window
                    .blob
                    .damaged(format!("the key {} is a list of type {other}", clip(key))));
            }
        };
        self.skip(count * size, u64::MAX)?;
        Ok(list)
    }

    fn info(&mut self) -> Result<Info, ImportError> {
        let name = self.text(limits::IMPORT_NAME_BYTES_MAX)?;
        let dims = self.u32()?;
        if dims > 4 {
            return Err(self.window.blob.damaged(format!("tensor {} has {dims} dimensions", clip(&name))));
        }
        let dims = (0..dims).map(|_| self.u64()).collect::<Result<_, _>>()?;
        Ok(Info { name, dims, kind: self.u32()?, offset: self.u64()? })
    }
}

const ALIGN_MAX: u64 = 1024 * 1024;

fn encoding(info: &Info) -> Result<Encoding, ImportError> {
    let name = match info.kind {
        0 => return Ok(Encoding::F32),
        1 => return Ok(Encoding::F16),
        2 => return Ok(Encoding::Q4_0),
        8 => return Ok(Encoding::Q8_0),
        12 => return Ok(Encoding::Q4K),
        13 => return Ok(Encoding::Q5K),
        14 => return Ok(Encoding::Q6K),
        30 => return Ok(Encoding::Bf16),
        3 => "Q4_1",
        6 => "Q5_0",
        7 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K",
        16..=23 | 29 => "of the IQ family",
        34 | 35 => "of the TQ family",
        39 => "MXFP4",
        _ => "unknown",
    };
    let what = format!("tensor {} of type {} ({name})", clip(&info.name), info.kind);
    Err(ImportError::unsupported(
        what,
        "F32, F16, BF16, Q4_0, Q8_0, Q4_K, Q5_K and Q6_K are; quantise the model anew",
    ))
}
