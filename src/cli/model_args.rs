//! Arguments of `outpost model`.

use std::path::PathBuf;

use super::args::{LowArgs, UsageError, WeightFormat, usage};

/// One action of `outpost model`.
#[derive(Debug, PartialEq)]
pub enum ModelArgs {
    /// Make a bundle.
    Import(ImportArgs),
    /// Check one.
    Verify {
        /// The bundle.
        dir: PathBuf,
        /// Threads; none: one per processor.
        threads: Option<usize>,
    },
    /// List those in a folder.
    List {
        /// The folder.
        dir: PathBuf,
    },
}

/// Arguments of `outpost model import`.
#[derive(Debug, PartialEq)]
pub struct ImportArgs {
    /// The checkpoint.
    pub source: PathBuf,
    /// Where the bundle goes; none: beside the working directory's other files, named like the source.
    pub to: Option<PathBuf>,
    /// Format of the layers.
    pub body: Option<WeightFormat>,
    /// Format of embedding and head.
    pub ends: Option<WeightFormat>,
    /// Threads; none: one per processor.
    pub threads: Option<usize>,
    /// Take the place of a bundle of that name.
    pub replace: bool,
}

impl ModelArgs {
    pub(super) fn from_low(low: &LowArgs) -> Result<Self, UsageError> {
        Ok(match low.spec.name {
            "model import" => ModelArgs::Import(ImportArgs {
                source: one(low, "say which checkpoint: a folder or a file")?,
                to: low.path("to"),
                body: low.word("format", WeightFormat::from_name, FORMATS)?,
                ends: low.word("ends", WeightFormat::from_name, FORMATS)?,
                threads: threads(low)?,
                replace: low.has("replace"),
            }),
            "model verify" => {
                ModelArgs::Verify { dir: one(low, "say which bundle: one folder")?, threads: threads(low)? }
            }
            "model list" if low.operands.is_empty() => ModelArgs::List { dir: ".".into() },
            "model list" => ModelArgs::List { dir: one(low, "name at most one folder")? },
            _ => return Err(usage(low.spec, &format!("say what to do: {}", low.spec.operands))),
        })
    }
}

const FORMATS: &str = "q4_0, q8_0 or f32";
/// More threads than any gateway has.
const THREADS_MAX: usize = 256;

fn one(low: &LowArgs, otherwise: &str) -> Result<PathBuf, UsageError> {
    match &low.operands[..] {
        [path] => Ok(path.into()),
        _ => Err(usage(low.spec, otherwise)),
    }
}

fn threads(low: &LowArgs) -> Result<Option<usize>, UsageError> {
    count(low, "threads", 1, THREADS_MAX)
}

fn count(low: &LowArgs, option: &str, min: usize, max: usize) -> Result<Option<usize>, UsageError> {
    let read = |s: &str| s.parse().ok().filter(|n| (min..=max).contains(n));
    low.word(option, read, &format!("a whole number from {min} to {max}"))
}
