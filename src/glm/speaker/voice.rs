//! The two files that make a model talk: tokenizer and chat template.

use std::collections::VecDeque;
use std::sync::Arc;

use super::talk::{BadTalk, Form, Message};
use crate::glm::bundle::{Bundle, BundleError, Words};
use crate::glm::constrain::{Constraint, Grammar, Guide, Shelf, TokenTrie};
use crate::glm::template::{self, Template};
use crate::glm::tokenizer::Tokenizer;
use crate::limits;

/// Texts of one model.
pub(super) struct Voice {
    tokenizer: Tokenizer,
    template: Template,
    /// How many tokens the model knows.
    vocab: usize,
    /// Made when the first grammar is asked for: most models never need it.
    trie: Option<Arc<TokenTrie>>,
    /// The latest grammars.
    guides: VecDeque<(Form, Guide)>,
    /// What was learnt of them.
    shelf: Arc<Shelf>,
}

/// A model that can't talk; the bundle's fault.
#[derive(Debug, thiserror::Error)]
pub enum BadVoice {
    /// Its files can't be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// There is no tokenizer.
    #[error("the model has no tokenizer.json, so it can't chat; import it again from a folder that has one")]
    NoTokenizer,
}

impl Voice {
    /// Reads a bundle's tokenizer and its template.
    pub(super) fn of(bundle: &Bundle) -> Result<Voice, BadVoice> {
        let Words { tokenizer, template } = bundle.words()?;
        let tokenizer = tokenizer.ok_or(BadVoice::NoTokenizer)?;
        let vocab = bundle.arch().vocab;
        Ok(Voice { tokenizer, template, vocab, trie: None, guides: VecDeque::new(), shelf: Arc::default() })
    }

    /// Memory that it takes at most, about: the tokenizer, its tokens by their bytes, and what grammars remember.
    pub(super) fn bytes_max(&self) -> usize {
        let trie = TokenTrie::bytes_max(self.vocab, self.tokenizer.text_bytes());
        self.tokenizer.memory_bytes() + trie + limits::GRAMMAR_BYTES_MAX
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

    /// What may be written in this form; `None`: anything. A grammar is prepared once for all conversations that ask for it.
    pub(super) fn constraint(
        &mut self,
        form: &Form,
        end_ids: &Arc<[u32]>,
    ) -> Result<Option<Box<dyn Constraint>>, BadTalk> {
        if *form == Form::Free {
            return Ok(None);
        }
        let guide = match self.guides.iter().find(|(known, _)| known == form) {
            Some((_, guide)) => guide.clone(),
            None => self.guide(form)?,
        };
        Ok(Some(Box::new(guide.constraint(Arc::clone(end_ids)))))
    }

    fn guide(&mut self, form: &Form) -> Result<Guide, BadTalk> {
        let grammar = match form {
            Form::Grammar(text) | Form::Guided(text) => Grammar::ebnf(text)?,
            Form::Json | Form::Free => Grammar::json()?,
        };
        let make = || Arc::new(TokenTrie::new(self.vocab, texts(&self.tokenizer, self.vocab)));
        let trie = Arc::clone(self.trie.get_or_insert_with(make));
        let guide = Guide::sharing(Arc::clone(&self.shelf), grammar, trie);
        if self.guides.len() == limits::GLM_GUIDES_MAX {
            self.guides.pop_front();
        }
        self.guides.push_back((form.clone(), guide.clone()));
        Ok(guide)
    }
}

/// Marks are no text: no grammar can spell them.
fn texts(tokenizer: &Tokenizer, vocab: usize) -> impl Iterator<Item = (u32, &[u8])> {
    let ids = 0..u32::try_from(vocab.min(tokenizer.len())).unwrap_or(u32::MAX);
    ids.filter(|&id| !tokenizer.is_special(id)).map(|id| (id, tokenizer.token_bytes(id)))
}
