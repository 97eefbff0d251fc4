//! Samples into the bytes of a tensor, and the bytes of the answer into a score. Pure.

use super::manifest::{Input, Output, Subtract};
use crate::accel::{Element, Quantisation, TensorSpec};
use crate::frame::ModelName;

/// What a model made of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// How odd; at the threshold of its bundle or above, it is told.
    pub score: f64,
    /// The class, where the model tells classes.
    pub class: Option<ModelName>,
    /// Where it differs most: row, sample, and what was expected there in the channel's unit.
    pub worst: Option<(usize, usize, f64)>,
}

/// A window as the model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Normalised samples, row by row.
    pub values: Vec<f32>,
    /// What was taken off each row.
    offsets: Vec<f64>,
}

/// Normalises the samples of `rows`, one after the other as the bundle orders them.
pub fn prepare(input: &Input, rows: &[Vec<f64>]) -> Prepared {
    let n = &input.normalisation;
    let offset = |index: usize, row: &[f64]| match &n.subtract {
        Subtract::WindowMean => row.iter().sum::<f64>() / row.len().max(1) as f64,
        Subtract::Fixed(list) => list.get(index).copied().unwrap_or(0.0),
    };
    let offsets: Vec<f64> = rows.iter().enumerate().map(|(index, row)| offset(index, row)).collect();
    let values = rows.iter().zip(&offsets).zip(&n.divide).flat_map(|((row, offset), divide)| {
        row.iter().map(move |x| (((x - offset) / divide).clamp(-n.clip, n.clip)) as f32)
    });
    Prepared { values: values.collect(), offsets }
}

/// The bytes of a tensor that holds `values`: little-endian, whole numbers rounded to the nearest (halves away from nought).
pub fn encode(values: &[f32], spec: &TensorSpec) -> Vec<u8> {
    let Some(Quantisation { scale, zero_point }) = spec.quantisation else {
        return values.iter().flat_map(|x| x.to_le_bytes()).collect();
    };
    let code = |x: f32| (x / scale).round() + zero_point as f32;
    match spec.element {
        // A float that is out of range saturates.
        Element::Uint8 => values.iter().map(|x| code(*x) as u8).collect(),
        _ => values.iter().map(|x| (code(*x) as i8).to_le_bytes()[0]).collect(),
    }
}

/// The numbers that stand in a tensor: codes of whole numbers, or numbers. None if it has not as many bytes as it should.
pub fn codes(bytes: &[u8], spec: &TensorSpec) -> Option<Vec<f64>> {
    if bytes.len() != spec.bytes() {
        return None;
    }
    Some(match spec.element {
        Element::Int8 => bytes.iter().map(|b| f64::from(i8::from_le_bytes([*b]))).collect(),
        Element::Uint8 => bytes.iter().map(|b| f64::from(*b)).collect(),
        Element::F32 => {
            bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
        }
    })
}

/// The score of an answer; none if the answer has not the shape that it should, or holds what is no number.
pub fn score(
    input: &Input,
    output: &Output,
    prepared: &Prepared,
    spec: &TensorSpec,
    bytes: &[u8],
) -> Option<Scored> {
    let mut answer = codes(bytes, spec)?;
    if let Some(q) = spec.quantisation {
        let scale = f64::from(q.scale);
        answer.iter_mut().for_each(|code| *code = (*code - f64::from(q.zero_point)) * scale);
    }
    let scored = match output {
        Output::Reconstruction { .. } => reconstruction(input, prepared, &answer),
        Output::Score { .. } => Scored { score: *answer.first()?, class: None, worst: None },
        Output::Classes { names, .. } => {
            let (name, score) =
                names.iter().zip(&answer).skip(1).max_by(|a, b| a.1.total_cmp(b.1)).map(|(n, s)| (n, *s))?;
            Scored { score, class: ModelName::new(name), worst: None }
        }
    };
    scored.score.is_finite().then_some(scored)
}

fn reconstruction(input: &Input, prepared: &Prepared, answer: &[f64]) -> Scored {
    let off = |(x, redrawn): (&f32, &f64)| f64::from(*x) - redrawn;
    let pairs = || prepared.values.iter().zip(answer);
    let mean = pairs().map(off).map(|d| d * d).sum::<f64>() / answer.len().max(1) as f64;
    let worst = pairs().map(off).map(f64::abs).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    let worst = worst.map(|(at, _)| {
        let (row, sample) = (at / input.length, at % input.length);
        let expected = answer[at] * input.normalisation.divide.get(row).copied().unwrap_or(1.0)
            + prepared.offsets.get(row).copied().unwrap_or(0.0);
        (row, sample, expected)
    });
    Scored { score: mean.sqrt(), class: None, worst }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::manifest::{Normalisation, Role};

    fn input(subtract: Subtract) -> Input {
        let role = Role { role: "x".into(), unit: String::new() };
        Input {
            channels: vec![role.clone(), role],
            step_ms: 1000,
            length: 2,
            normalisation: Normalisation { subtract, divide: vec![1.0, 10.0], clip: 4.0 },
        }
    }

    fn spec(element: Element, quantisation: Option<Quantisation>) -> TensorSpec {
        TensorSpec { shape: vec![4], element, quantisation }
    }

    const Q: Quantisation = Quantisation { scale: 0.5, zero_point: 3 };

    #[test]
    fn rows_are_normalised_each_in_its_own_way_and_cut_off() {
        let rows = [vec![1.0, 3.0], vec![100.0, 220.0]];
        let prepared = prepare(&input(Subtract::WindowMean), &rows);
        assert_eq!(prepared.values, [-1.0, 1.0, -4.0, 4.0]);
        let prepared = prepare(&input(Subtract::Fixed(vec![1.0, 110.0])), &rows);
        assert_eq!(prepared.values, [0.0, 2.0, -1.0, 4.0]);
    }

    #[test]
    fn whole_numbers_are_rounded_and_saturate() {
        let int8 = spec(Element::Int8, Some(Q));
        assert_eq!(encode(&[0.0, 0.25, -0.25, 1e9], &int8), [3, 4, 2, 127]);
        assert_eq!(encode(&[-1e9, 0.0, 0.0, 0.0], &int8)[0], 0x80);
        let uint8 = spec(Element::Uint8, Some(Q));
        assert_eq!(encode(&[-1e9, 1e9, 0.0, 1.0], &uint8), [0, 255, 3, 5]);
        assert_eq!(codes(&[0x80, 1, 2, 3], &int8).unwrap(), [-128.0, 1.0, 2.0, 3.0]);
        assert_eq!(codes(&[0; 3], &int8), None);
    }

    #[test]
    fn what_was_not_redrawn_is_the_score_and_the_worst_sample_is_found() {
        let input = input(Subtract::Fixed(vec![0.0, 100.0]));
        let prepared = prepare(&input, &[vec![1.0, 1.0], vec![100.0, 120.0]]);
        let answer = encode(&[1.0, 1.0, 0.0, 0.0], &spec(Element::F32, None));
        let output = Output::Reconstruction { threshold: 0.5 };
        let scored = score(&input, &output, &prepared, &spec(Element::F32, None), &answer).unwrap();
        assert_eq!((scored.score, scored.worst), (1.0, Some((1, 1, 100.0))));
    }

    #[test]
    fn the_gravest_class_but_the_sound_one_is_named() {
        let (input, names) = (input(Subtract::WindowMean), ["sound", "a", "b"].map(String::from).to_vec());
        let output = Output::Classes { names, threshold: 0.5 };
        let spec = TensorSpec { shape: vec![3], element: Element::F32, quantisation: None };
        let prepared = prepare(&input, &[vec![0.0; 2], vec![0.0; 2]]);
        let answer = encode(&[0.1, 0.2, 0.7], &spec);
        let scored = score(&input, &output, &prepared, &spec, &answer).unwrap();
        assert_eq!((scored.score as f32, scored.class), (0.7, ModelName::new("b")));
        assert_eq!(score(&input, &output, &prepared, &spec, &encode(&[f32::NAN; 3], &spec)), None);
    }
}
