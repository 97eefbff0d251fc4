//! The header of a safetensors file: eight bytes of length, JSON with a name, a type, a shape and a place per tensor, then the
//! numbers.
//!
//! Places must fill the rest of the file without a hole and without meeting twice, as the format demands; so a tensor is never
//! larger than the file that holds it.

use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::glm::import::ImportError;
use crate::glm::import::blob::Blob;
use crate::glm::import::error::{TensorProblem, clip};
use crate::glm::import::tensor::{At, Encoding, Tensor, dimensions};
use crate::limits;

/// One entry of the header.
pub(super) struct Entry {
    pub(super) name: String,
    dtype: String,
    shape: Vec<u64>,
    begin: u64,
    end: u64,
}

/// A file with its header read.
pub(super) struct Safetensors {
    blob: Blob,
    /// Where the numbers begin.
    data_at: u64,
    pub(super) entries: Vec<Entry>,
}

impl Safetensors {
    /// Reads and checks the header.
    pub(super) fn open(blob: Blob) -> Result<Safetensors, ImportError> {
        let mut length = [0; 8];
        blob.read(0, &mut length)?;
        let (length, rest) = (u64::from_le_bytes(length), blob.len() - 8);
        if length > rest.min(limits::IMPORT_HEADER_BYTES_MAX) {
            return Err(blob.damaged(format!(
                "its header should have {length} bytes, {rest} follow and {} are the most it may have",
                limits::IMPORT_HEADER_BYTES_MAX
            )));
        }
        let header = blob.part(8, length)?;
        let Header(mut entries) = serde_json::from_slice(&header)
            .map_err(|e| blob.damaged(format!("its header can't be understood ({e})")))?;
        let size = rest - length;
        entries.sort_by_key(|entry| (entry.begin, entry.end));
        let mut at = 0;
        for entry in &entries {
            if entry.begin != at || entry.end < entry.begin || entry.end > size {
                return Err(blob.damaged(format!(
                    "tensor {} stands at {}..{}, it must begin at {at} and end by {size}",
                    clip(&entry.name),
                    entry.begin,
                    entry.end
                )));
            }
            at = entry.end;
        }
        match at == size {
            true => Ok(Safetensors { blob, data_at: 8 + length, entries }),
            false => Err(blob.damaged(format!("{} bytes at its end belong to no tensor", size - at))),
        }
    }

    /// One of the entries as a tensor.
    pub(super) fn tensor(&self, entry: &Entry) -> Result<Tensor, ImportError> {
        let encoding = match entry.dtype.as_str() {
            "F32" => Encoding::F32,
            "F16" => Encoding::F16,
            "BF16" => Encoding::Bf16,
            other => {
                let what = format!("type {} of tensor {}", clip(other), clip(&entry.name));
                let instead = "weights must be F32, F16 or BF16; give the checkpoint before it was quantised";
                return Err(ImportError::unsupported(what, instead));
            }
        };
        let shape = dimensions(&self.blob, &entry.name, &entry.shape)?;
        let at = At { blob: &self.blob, at: self.data_at + entry.begin, bytes: entry.end - entry.begin };
        Tensor::new(&entry.name, shape, encoding, at)
    }

    /// An error that says that a tensor is there twice.
    pub(super) fn doubled(entry: &Entry) -> ImportError {
        ImportError::tensor(&entry.name, TensorProblem::Doubled)
    }
}

/// All entries but `__metadata__`.
struct Header(Vec<Entry>);

#[derive(Deserialize)]
struct Raw {
    dtype: String,
    shape: Dims,
    data_offsets: [u64; 2],
}

struct Dims(Vec<u64>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Header, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut entries = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<serde::de::IgnoredAny>()?;
                continue;
            }
            if entries.len() == limits::IMPORT_TENSORS_MAX {
                return Err(A::Error::custom(format!("more than {} tensors", limits::IMPORT_TENSORS_MAX)));
            }
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("tensor {} twice", clip(&name))));
            }
            let Raw { dtype, shape: Dims(shape), data_offsets: [begin, end] } = map.next_value()?;
            entries.push(Entry { name, dtype, shape, begin, end });
        }
        Ok(Header(entries))
    }
}

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Dims, D::Error> {
        struct DimsVisitor;
        impl<'de> Visitor<'de> for DimsVisitor {
            type Value = Dims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of dimensions")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Dims, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = seq.next_element()? {
                    if dims.len() == 8 {
                        return Err(A::Error::custom("more than 8 dimensions"));
                    }
                    dims.push(dim);
                }
                Ok(Dims(dims))
            }
        }
        deserializer.deserialize_seq(DimsVisitor)
    }
}
