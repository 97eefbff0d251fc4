//! What a bundle says of itself: `manifest.json`, checked.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::accel::{Element, Quantisation, TensorSpec};
use crate::frame::ModelName;
use crate::limits;

/// A bundle's manifest. Unknown keys are refused: a misspelt tolerance must not become no tolerance.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// Its name.
    pub name: String,
    /// SPDX expression.
    pub licence: String,
    /// What it is for, one line.
    pub purpose: String,
    /// What it looks at.
    pub input: Input,
    /// What its numbers mean.
    pub output: Output,
    /// The same model for different backends, the first choice first.
    pub variants: Vec<Variant>,
    /// File of the golden vectors.
    pub golden: String,
    /// Every file with its SHA-256 in hex.
    pub files: BTreeMap<String, String>,
    #[serde(default, rename = "bytes")]
    _bytes: serde_json::Value,
    #[serde(default, rename = "measured")]
    _measured: serde_json::Value,
}

/// What a model looks at.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// In the order of the rows.
    pub channels: Vec<Role>,
    /// Time of one sample.
    pub step_ms: u32,
    /// Samples of one row.
    pub length: usize,
    /// What is done to them first.
    pub normalisation: Normalisation,
}

/// One row of the input.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// What the channel is to the model.
    pub role: String,
    /// UCUM code of its values; empty where any will do.
    pub unit: String,
}

/// `(x - subtract) / divide`, within `±clip`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// What is taken off.
    pub subtract: Subtract,
    /// One per channel.
    pub divide: Vec<f64>,
    /// Largest magnitude of what is left.
    pub clip: f64,
}

/// What is taken off each sample.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subtract {
    /// The mean of its row.
    WindowMean,
    /// A number per channel.
    #[serde(untagged)]
    Fixed(Vec<f64>),
}

/// What the output means.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Output {
    /// The input, redrawn: the score is the root mean square of what differs, in the unit of the normalised input.
    Reconstruction {
        /// From this score on it is odd.
        threshold: f64,
    },
    /// One number that is the score.
    Score {
        /// From this score on it is odd.
        threshold: f64,
    },
    /// A share per class; the first is the sound one, and the score is the largest of the others.
    Classes {
        /// Their names.
        names: Vec<String>,
        /// From this share on it is odd.
        threshold: f64,
    },
}

impl Output {
    /// From this score on a window is odd.
    pub const fn threshold(&self) -> f64 {
        match self {
            Output::Reconstruction { threshold }
            | Output::Score { threshold }
            | Output::Classes { threshold, .. } => *threshold,
        }
    }
}

/// One file of the model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The backend that reads it: `onnx`, `tflite`, or the name of an accelerator.
    pub backend: String,
    /// Its file.
    pub file: String,
    input_shape: Vec<usize>,
    output_shape: Vec<usize>,
    element: Element,
    input: Option<Quantisation>,
    output: Option<Quantisation>,
    /// Largest difference from the golden vectors: steps of whole numbers, else a number.
    pub tolerance: f64,
}

impl Variant {
    /// The input as the file must have it.
    pub fn input(&self) -> TensorSpec {
        let (shape, element) = (self.input_shape.clone(), self.element);
        TensorSpec { shape, element, quantisation: self.input }
    }

    /// The output as the file must have it.
    pub fn output(&self) -> TensorSpec {
        let (shape, element) = (self.output_shape.clone(), self.element);
        TensorSpec { shape, element, quantisation: self.output }
    }
}

impl Manifest {
    /// Reads a manifest and checks everything that it says against itself. Errors: what is wrong, in words.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        let says = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_owned()) };
        let Input { channels, step_ms, length, normalisation } = &self.input;
        says(self.format == 1, "format is not 1: it was made for another version of this program")?;
        says(ModelName::new(&self.name).is_some(), "name is not 1 to 24 characters of A-Z a-z 0-9 _ - .")?;
        says(
            (1..=limits::MODEL_CHANNELS_MAX).contains(&channels.len()),
            "input.channels has none or too many",
        )?;
        says((1..=limits::FRAME_SAMPLES_MAX).contains(length), "input.length is nought or too large")?;
        says(*step_ms > 0, "input.step_ms is nought")?;
        let one_each = |list: &[f64]| list.len() == channels.len() && list.iter().all(|x| x.is_finite());
        let fixed = match &normalisation.subtract {
            Subtract::WindowMean => true,
            Subtract::Fixed(list) => one_each(list),
        };
        says(fixed, "input.normalisation.subtract is not one finite number per channel")?;
        let divides = one_each(&normalisation.divide) && normalisation.divide.iter().all(|x| *x != 0.0);
        says(
            divides,
            "input.normalisation.divide is not one finite number per channel, none of them nought",
        )?;
        says(
            normalisation.clip.is_finite() && normalisation.clip > 0.0,
            "input.normalisation.clip is not a positive number",
        )?;
        let threshold = self.output.threshold();
        says(threshold.is_finite() && threshold > 0.0, "output.threshold is not a positive number")?;
        says(
            (1..=limits::BUNDLE_ENTRIES_MAX).contains(&self.variants.len()),
            "variants has none or too many",
        )?;
        says(self.files.contains_key(&self.golden), "golden names a file without a hash in files")?;
        self.variants.iter().try_for_each(|variant| {
            self.check_variant(variant).map_err(|what| format!("{}: {what}", variant.file))
        })
    }

    fn check_variant(&self, variant: &Variant) -> Result<(), String> {
        let says = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_owned()) };
        says(self.files.contains_key(&variant.file), "no hash in files")?;
        let elements = self.input.channels.len() * self.input.length;
        let count = |shape: &[usize]| shape.iter().try_fold(1usize, |n, side| n.checked_mul(*side));
        says(
            count(&variant.input_shape) == Some(elements),
            "input_shape has not as many elements as channels and length",
        )?;
        let wanted = match &self.output {
            Output::Reconstruction { .. } => elements,
            Output::Score { .. } => 1,
            Output::Classes { names, .. } => names.len(),
        };
        says(
            count(&variant.output_shape) == Some(wanted),
            "output_shape has not as many elements as output says",
        )?;
        let whole = variant.element != Element::F32;
        let both = [variant.input, variant.output];
        says(
            both.iter().all(|q| q.is_some() == whole),
            "int8 and uint8 need scale and zero_point of input and output, f32 has none",
        )?;
        let sound =
            |q: &Quantisation| q.scale.is_finite() && q.scale > 0.0 && (-128..=255).contains(&q.zero_point);
        says(both.iter().flatten().all(sound), "a scale is not positive, or a zero point is out of range")?;
        says(variant.tolerance >= 0.0, "tolerance is not a number from 0")?;
        if let Output::Classes { names, .. } = &self.output {
            let usable = names.len() >= 2 && names.iter().all(|name| ModelName::new(name).is_some());
            says(usable, "output.names are not two or more names")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../models/cold_room/manifest.json");

    #[test]
    fn the_shipped_manifest_is_understood() {
        let manifest = Manifest::parse(SHIPPED.as_bytes()).unwrap();
        assert_eq!((manifest.name.as_str(), manifest.input.length), ("cold_room", 64));
        assert_eq!(manifest.input.normalisation.subtract, Subtract::WindowMean);
    }

    #[test]
    fn what_contradicts_itself_is_refused_in_words() {
        let spoilt = |from: &str, to: &str| {
            assert!(SHIPPED.contains(from), "{from}");
            Manifest::parse(SHIPPED.replacen(from, to, 1).as_bytes()).unwrap_err()
        };
        for (from, to, says) in [
            ("\"format\": 1", "\"format\": 2", "another version"),
            ("\"length\": 64", "\"length\": 63", "input_shape"),
            ("\"length\": 64", "\"length\": 0", "input.length"),
            ("\"tolerance\"", "\"tolerence\"", "tolerence"),
            ("\"golden\": \"", "\"golden\": \"x", "golden"),
            ("\"element\": \"int8\"", "\"element\": \"f32\"", "scale"),
            ("\"element\": \"int8\"", "\"element\": \"int4\"", "int4"),
            ("\"file\": \"", "\"file\": \"../", "no hash"),
        ] {
            let problem = spoilt(from, to);
            assert!(problem.contains(says), "{from}: {problem}");
        }
    }
}
