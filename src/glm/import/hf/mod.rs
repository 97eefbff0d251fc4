//! A directory as `transformers` saves it: `config.json`, safetensors in one file or several, the tokenizer.

mod config;
mod safetensors;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::blob::Blob;
use super::checkpoint::{LayerRole, Role, Roles};
use super::error::{ImportError, TensorProblem, clip};
use super::names;
use super::source::{Source, SourceFile, SourceKind, Tokenizer, end_ids};
use crate::limits;
use safetensors::Safetensors;

pub(super) use config::{Config, rotary_dim};

/// Opens a directory: reads its configuration and the headers of its weights.
pub(super) fn open(dir: &Path) -> Result<Source, ImportError> {
    let config_blob = Blob::open(&dir.join("config.json"))?;
    let config = Config::read(&config_blob)?;
    let mut files = vec![SourceFile::of(&dir.join("config.json"))?];
    let mut roles = Roles::new(names::of_transformers);
    for path in weight_files(dir)? {
        files.push(SourceFile::of(&path)?);
        collect(&Safetensors::open(Blob::open(&path)?)?, &mut roles)?;
    }
    let first = |role| roles.find(Role::Layer(0, role));
    let from_tensors = config::FromTensors {
        q_rows: first(LayerRole::Q).map(|q| q.rows),
        qkv_bias: first(LayerRole::QBias).is_some(),
    };
    let arch = config.arch(&config_blob, from_tensors)?;
    let Companions { tokenizer, template, end_ids, notes } = companions(dir, Some(&config))?;
    Ok(Source {
        checkpoint: roles.checkpoint(arch, None)?,
        tokenizer,
        template,
        end_ids,
        kind: SourceKind::HuggingFace,
        files,
        notes,
    })
}

/// What stands beside weights.
pub(super) struct Companions {
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) template: Option<String>,
    pub(super) end_ids: Vec<u32>,
    pub(super) notes: Vec<String>,
}

/// Reads what stands beside weights, all of which may be missing.
pub(super) fn companions(dir: &Path, config: Option<&Config>) -> Result<Companions, ImportError> {
    let tokenizer = optional(&dir.join("tokenizer.json"))?.map(Tokenizer::File);
    let mut notes = Vec::new();
    if tokenizer.is_none() {
        notes.push("there is no tokenizer.json: the model takes token ids only".to_owned());
    }
    let end_ids = all_end_ids(dir, config, tokenizer.as_ref())?;
    if end_ids.is_empty() {
        notes.push("no end ids are known: answers end by their length only".to_owned());
    }
    Ok(Companions { tokenizer, template: template(dir)?, end_ids, notes })
}

fn collect(file: &Safetensors, roles: &mut Roles) -> Result<(), ImportError> {
    for entry in &file.entries {
        if entry.name.ends_with("rotary_emb.inv_freq") {
            continue;
        }
        let role = role(&entry.name)?;
        if roles.find(role).is_some() {
            return Err(Safetensors::doubled(entry));
        }
        roles.insert(role, file.tensor(entry)?)?;
    }
    Ok(())
}

/// The role of a tensor, its name being exactly what transformers calls it.
fn role(name: &str) -> Result<Role, ImportError> {
    if [".experts.", ".shared_experts.", "mlp.gate.weight"].iter().any(|part| name.contains(part)) {
        let what = format!("a mixture of experts (tensor {})", clip(name));
        return Err(ImportError::unsupported(what, "dense GLMs are (model_type glm or glm4)"));
    }
    let found = match name.strip_suffix(".bias") {
        Some(module) => names::role(module).and_then(names::bias),
        None => names::role(name),
    };
    found
        .filter(|role| names::of_transformers(*role) == name)
        .ok_or_else(|| ImportError::tensor(name, TensorProblem::Unknown))
}

/// The files that hold weights: those that the index names, or the only one.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let no = |what: &str| ImportError::NoCheckpoint { path: dir.to_owned(), what: what.to_owned() };
    if let Some(blob) = optional(&dir.join("model.safetensors.index.json"))? {
        let bytes = blob.whole(limits::IMPORT_INDEX_BYTES_MAX)?;
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|e| blob.damaged(format!("it can't be understood ({e})")))?;
        let files = index.weight_map.0;
        if let Some(name) = files.iter().find(|name| !is_plain(name)) {
            return Err(blob.damaged(format!("it names the file {:?}, which is not beside it", clip(name))));
        }
        return match files.is_empty() {
            true => Err(blob.damaged("it names no files")),
            false => Ok(files.iter().map(|name| dir.join(name)).collect()),
        };
    }
    let failed = |source| ImportError::Read { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)?.take(limits::IMPORT_ENTRIES_MAX) {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == "safetensors") {
            found.push(path);
        }
    }
    match found.as_slice() {
        [_] => Ok(found),
        [] => Err(no("it has no *.safetensors; pickled weights are not read, as they could run code")),
        _ => {
            Err(no("it has several *.safetensors and no model.safetensors.index.json that says which belong"))
        }
    }
}

fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(part)), None) if part == name)
}

fn all_end_ids(
    dir: &Path,
    config: Option<&Config>,
    tokenizer: Option<&Tokenizer>,
) -> Result<Vec<u32>, ImportError> {
    let generation = optional(&dir.join("generation_config.json"))?;
    let mut ids = generation.map(|blob| config::generation_end_ids(&blob)).transpose()?.unwrap_or_default();
    if ids.is_empty() {
        ids = config.map(Config::end_ids).unwrap_or_default();
    }
    if ids.is_empty() {
        ids = tokenizer.map(end_ids).transpose()?.unwrap_or_default();
    }
    Ok(ids)
}

fn template(dir: &Path) -> Result<Option<String>, ImportError> {
    if let Some(blob) = optional(&dir.join("chat_template.jinja"))? {
        let bytes = blob.whole(limits::IMPORT_CONFIG_BYTES_MAX)?;
        return String::from_utf8(bytes).map(Some).map_err(|_| blob.damaged("it is not UTF-8"));
    }
    match optional(&dir.join("tokenizer_config.json"))? {
        Some(blob) => config::tokenizer_template(&blob),
        None => Ok(None),
    }
}

/// A file, if it is there.
pub(super) fn optional(path: &Path) -> Result<Option<Blob>, ImportError> {
    match path.exists() {
        true => Blob::open(path).map(Some),
        false => Ok(None),
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: FileNames,
}

/// The values of the map, each once.
struct FileNames(BTreeSet<String>);

impl<'de> Deserialize<'de> for FileNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FileNames, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = FileNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors' files")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FileNames, A::Error> {
                let mut names = BTreeSet::new();
                while let Some((_, name)) = map.next_entry::<serde::de::IgnoredAny, String>()? {
                    names.insert(name);
                    if names.len() > limits::IMPORT_SHARDS_MAX {
                        return Err(A::Error::custom(format!(
                            "more than {} files",
                            limits::IMPORT_SHARDS_MAX
                        )));
                    }
                }
                Ok(FileNames(names))
            }
        }
        deserializer.deserialize_map(Names)
    }
}
