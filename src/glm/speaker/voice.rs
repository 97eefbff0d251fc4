//! The two files that make a model talk: tokenizer and chat template.

use super::talk::{BadTalk, Form, Message};
use crate::glm::bundle::{Bundle, BundleError};
use crate::glm::constrain::Constraint;
use crate::glm::template::{self, BadTemplate, Template};
use crate::glm::tokenizer::{BadTokenizer, Tokenizer};

/// Texts of one model.
pub(super) struct Voice {
    tokenizer: Tokenizer,
    template: Template,
}

/// A model that can't talk; the bundle's fault.
#[derive(Debug, thiserror::Error)]
pub enum BadVoice {
    /// Its files can't be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// There is no tokenizer.
    #[error("the model has no tokenizer.json, so it can't chat; import it again from a folder that has one")]
    NoTokenizer,
    /// The tokenizer can't be used.
    #[error(transparent)]
    Tokenizer(#[from] BadTokenizer),
    /// The template can't be used.
    #[error(transparent)]
    Template(#[from] BadTemplate),
}

impl Voice {
    /// Reads a bundle's tokenizer and its template.
    pub(super) fn of(bundle: &Bundle) -> Result<Voice, BadVoice> {
        let json = bundle.tokenizer_json()?.ok_or(BadVoice::NoTokenizer)?;
        let template = match bundle.chat_template()? {
            Some(source) => Template::new(&source)?,
            None => Template::glm(),
        };
        Ok(Voice { tokenizer: Tokenizer::from_json(&json)?, template })
    }

    /// The prompt of a conversation that the model is to go on with.
    pub(super) fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, BadTalk> {
        let messages: Vec<template::Message> = messages
            .iter()
            .map(|message| template::Message { role: message.role.name(), content: &message.content })
            .collect();
        Ok(self.template.ids(&self.tokenizer, &messages, true)?)
    }

    /// What a token adds to a text; nothing for a mark.
    pub(super) fn text_bytes(&self, token: u32) -> &[u8] {
        match self.tokenizer.is_special(token) {
            true => &[],
            false => self.tokenizer.token_bytes(token),
        }
    }

    /// What may be written in this form; `None`: anything.
    pub(super) fn constraint(
        &self,
        form: &Form,
        _end_ids: &[u32],
    ) -> Result<Option<Box<dyn Constraint>>, BadTalk> {
        match form {
            Form::Free => Ok(None),
            Form::Json | Form::Grammar(_) => Err(BadTalk::Grammar("there is no compiler".into())),
        }
    }
}
