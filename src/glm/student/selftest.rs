//! The shipped student held against the reference implementation, by the program itself, wherever it runs.

use super::answers::{ANSWERS, Answer};
use super::{Bundle, Model, ModelError};
use crate::digest::vocab::TokenId;
use crate::glm::engine::Batch;
use crate::glm::kernels::Format;

/// Largest difference of a logit in f32 from the reference's.
const WITHIN: f32 = 5e-3;

/// The student does not answer as the reference does: a fault of this build on this processor.
#[derive(Debug, thiserror::Error)]
pub enum Unlike {
    /// It can't be loaded or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Another word is likelier than the reference's.
    #[error("{case}, step {step}, {format}: token {found} where the reference has {wanted}")]
    Token {
        /// The golden prompt.
        case: &'static str,
        /// Token of the answer, from 0.
        step: usize,
        /// How the weights were kept.
        format: Format,
        /// What is likeliest here.
        found: TokenId,
        /// What should be.
        wanted: TokenId,
    },
    /// The same word, and yet another number.
    #[error("{case}, step {step}: the highest logit is {found} where the reference has {wanted}")]
    Logit {
        /// The golden prompt.
        case: &'static str,
        /// Token of the answer, from 0.
        step: usize,
        /// What came out here.
        found: f32,
        /// What should have.
        wanted: f32,
    },
}

/// Lets the embedded student answer every golden prompt, in full precision and as it runs. Returns how many tokens were
/// compared. Takes a second on a slow processor; blocks.
pub fn selftest() -> Result<usize, Unlike> {
    let mut compared = 0;
    for format in [Format::F32, Format::Q8_0] {
        let mut model = Model::load_as(Bundle::embedded().map_err(ModelError::from)?, format)?;
        for answer in ANSWERS {
            compare(&mut model, format, answer)?;
            compared += answer.tokens.len();
        }
    }
    Ok(compared)
}

fn compare(model: &mut Model, format: Format, answer: &Answer) -> Result<(), Unlike> {
    let case = answer.name;
    let mut top = run(model, 0, answer.prompt)?;
    for (step, &wanted) in answer.tokens.iter().enumerate() {
        let (found, logit) = top;
        if found != wanted {
            return Err(Unlike::Token { case, step, format, found, wanted });
        }
        match answer.tops.get(step) {
            Some(&wanted) if format == Format::F32 && (logit - wanted).abs() > WITHIN => {
                return Err(Unlike::Logit { case, step, found: logit, wanted });
            }
            _ => top = run(model, answer.prompt.len() + step, &[wanted])?,
        }
    }
    Ok(())
}

/// The likeliest token after `tokens`, which follow the first `past` ones, with its logit.
fn run(model: &mut Model, past: usize, tokens: &[TokenId]) -> Result<(TokenId, f32), Unlike> {
    let mut batch = Batch::default();
    batch.push(0, u32::try_from(past).unwrap_or(u32::MAX), tokens, true);
    let logits = model.engine().run(&batch).map_err(ModelError::from)?;
    let best = logits
        .iter()
        .zip(0..)
        .fold((f32::NEG_INFINITY, 0), |best, (&x, token)| if x > best.0 { (x, token) } else { best });
    Ok((best.1, best.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_student_passes_and_another_answer_or_logit_does_not() {
        assert_eq!(selftest().unwrap(), 2 * ANSWERS.iter().map(|a| a.tokens.len()).sum::<usize>());
        let mut model = Model::load_as(Bundle::embedded().unwrap(), Format::F32).unwrap();
        let answer = &ANSWERS[0];
        let other = Answer { tokens: &[3], ..*answer };
        assert!(matches!(compare(&mut model, Format::F32, &other), Err(Unlike::Token { step: 0, .. })));
        let other = Answer { tops: &[0.0], ..*answer };
        assert!(matches!(compare(&mut model, Format::F32, &other), Err(Unlike::Logit { step: 0, .. })));
    }
}
