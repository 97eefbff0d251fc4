//! The bundles in a directory, for a person who chooses.

use std::path::{Path, PathBuf};

use super::{Bundle, BundleError, Layout, MANIFEST};
use crate::limits;

/// One bundle of a directory.
#[derive(Debug)]
pub struct Listed {
    /// Name of its directory.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// The bundle, or why it can't be used.
    pub bundle: Result<Bundle, BundleError>,
}

/// Every subdirectory with a manifest, by name; unfinished imports are not listed. At most
/// [`limits::BUNDLES_LISTED_MAX`].
pub fn list(dir: &Path) -> Result<Vec<Listed>, BundleError> {
    let failed = |source| BundleError::Read { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if name.ends_with(limits::IMPORT_PARTIAL_SUFFIX) || !path.join(MANIFEST).is_file() {
            continue;
        }
        if found.len() == limits::BUNDLES_LISTED_MAX {
            break;
        }
        found.push(Listed { name, bundle: Bundle::open(&path), path });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

impl Bundle {
    /// Weights of the model, padding left out.
    pub fn parameters(&self) -> u64 {
        let size = |tensor: &super::TensorEntry| tensor.rows as u64 * tensor.cols as u64;
        self.manifest.tensors.iter().map(size).sum()
    }

    /// The format that most bytes of the layers are in.
    pub fn body_format(&self) -> &'static str {
        let mut bytes = std::collections::BTreeMap::new();
        let layers = self.manifest.tensors.iter().filter(|tensor| tensor.name.starts_with("layers."));
        for tensor in layers.filter(|tensor| tensor.layout != Layout::Vector) {
            *bytes.entry(tensor.layout.name()).or_insert(0_u64) += tensor.bytes;
        }
        bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map_or("f32", |(name, _)| name)
    }

    /// Bytes of all files but the manifest.
    pub fn bytes(&self) -> u64 {
        let files = [&self.manifest.tokenizer, &self.manifest.template];
        self.manifest.weights_bytes + files.into_iter().flatten().map(|file| file.bytes).sum::<u64>()
    }
}
