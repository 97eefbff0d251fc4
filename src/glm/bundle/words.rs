//! What a model reads and writes with: tokenizer and chat template, parsed, and held against the model's shape.

use super::{Bundle, BundleError};
use crate::glm::template::{BadTemplate, Template};
use crate::glm::tokenizer::{BadTokenizer, Tokenizer};

/// Tokenizer and chat template of a model.
#[derive(Debug)]
pub struct Words {
    /// `None`: the model takes token ids only.
    pub tokenizer: Option<Tokenizer>,
    /// Its own, or the form that all GLMs have in common.
    pub template: Template,
}

/// A tokenizer or a template that can't be used with its model; the fault of whoever put them together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadWords {
    /// The tokenizer can't be used at all.
    #[error(transparent)]
    Tokenizer(#[from] BadTokenizer),
    /// The template can't be used at all.
    #[error(transparent)]
    Template(#[from] BadTemplate),
    /// There are tokens that the model has no row for.
    #[error(
        "tokenizer.json has ids up to {last} and the model {vocab} rows, so it belongs to another model; take the model's own \
         file and import it again"
    )]
    Ids {
        /// The highest id.
        last: usize,
        /// Rows of the model's embedding.
        vocab: usize,
    },
    /// An answer would end by a token that is none.
    #[error(
        "answers end by token {id}, which tokenizer.json does not have, so it belongs to another model; take the model's own \
         file and import it again"
    )]
    EndId {
        /// Which.
        id: u32,
    },
}

impl Words {
    /// Parses both and holds the tokenizer against the model's `vocab` rows and the ids that end an answer. A model may have more
    /// rows than there are tokens: the last ones are padding. The marks that end an answer are the last tokens of a GLM, so a
    /// smaller tokenizer of another model lacks them.
    pub fn read(
        tokenizer_json: Option<&[u8]>,
        template: Option<&str>,
        vocab: usize,
        end_ids: &[u32],
    ) -> Result<Words, BadWords> {
        let template = template.map(Template::new).transpose()?.unwrap_or_else(Template::glm);
        let Some(json) = tokenizer_json else { return Ok(Words { tokenizer: None, template }) };
        let tokenizer = Tokenizer::from_json(json)?;
        if tokenizer.len() > vocab {
            return Err(BadWords::Ids { last: tokenizer.len() - 1, vocab });
        }
        match end_ids.iter().find(|&&id| tokenizer.token_bytes(id).is_empty()) {
            Some(&id) => Err(BadWords::EndId { id }),
            None => Ok(Words { tokenizer: Some(tokenizer), template }),
        }
    }
}

impl Bundle {
    /// Tokenizer and chat template, hashed, compared and parsed.
    pub fn words(&self) -> Result<Words, BundleError> {
        let (json, template) = (self.tokenizer_json()?, self.chat_template()?);
        Words::read(json.as_deref(), template.as_deref(), self.arch().vocab, self.end_ids())
            .map_err(|source| BundleError::Words { dir: self.dir.clone(), source })
    }
}
