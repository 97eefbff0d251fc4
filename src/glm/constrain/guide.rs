//! Constraints of one grammar over one vocabulary: what one answer has learnt serves the next.

use std::sync::Arc;

use super::grammar::Grammar;
use super::machine::{Machine, Program, StateId};
use super::shelf::Shelf;
use super::trie::TokenTrie;
use super::{Constraint, NotAllowed, TokenMask};

/// A grammar prepared for a vocabulary; clones share it.
#[derive(Clone)]
pub struct Guide {
    trie: Arc<TokenTrie>,
    program: Arc<Program>,
    shelf: Arc<Shelf>,
}

impl Guide {
    /// Prepares a grammar. The vocabulary should have a token for every byte that the grammar needs, as byte-level ones do;
    /// where it lacks one, an answer that gets there is stuck.
    pub fn new(grammar: Grammar, trie: Arc<TokenTrie>) -> Guide {
        Guide::sharing(Arc::default(), grammar, trie)
    }

    /// The same for a model that has one `shelf` for all its grammars.
    pub fn sharing(shelf: Arc<Shelf>, grammar: Grammar, trie: Arc<TokenTrie>) -> Guide {
        Guide { trie, program: Arc::new(Program::new(grammar)), shelf }
    }

    /// The constraint of one answer, which ends by one of `end_ids`.
    pub fn constraint(&self, end_ids: Arc<[u32]>) -> GrammarConstraint {
        let found = self.shelf.take(&self.program, &end_ids);
        let (mut machine, counted) = found.unwrap_or_else(|| (Machine::new(Arc::clone(&self.program)), 0));
        let state = machine.start();
        let nothing = TokenMask::none(self.trie.vocab());
        GrammarConstraint {
            guide: self.clone(),
            end_ids,
            machine: Some(machine),
            counted,
            state,
            has_ended: false,
            nothing,
        }
    }
}

/// One answer under a grammar.
///
/// A mask that is asked for the first time takes a walk through as much of the vocabulary as is allowed. After that it is known.
/// `cargo bench --bench constrain` measures both.
pub struct GrammarConstraint {
    guide: Guide,
    end_ids: Arc<[u32]>,
    /// There until it is dropped.
    machine: Option<Machine>,
    /// Bytes of it that the shelf knows of.
    counted: usize,
    state: StateId,
    has_ended: bool,
    nothing: TokenMask,
}

impl GrammarConstraint {
    /// One that shares nothing.
    pub fn new(grammar: &Grammar, trie: Arc<TokenTrie>, end_ids: Arc<[u32]>) -> GrammarConstraint {
        Guide::new(grammar.clone(), trie).constraint(end_ids)
    }
}

impl Constraint for GrammarConstraint {
    fn mask(&mut self) -> &TokenMask {
        let Some(machine) = self.machine.as_mut().filter(|_| !self.has_ended) else { return &self.nothing };
        let Guide { trie, shelf, .. } = &self.guide;
        if !machine.knows(self.state) {
            self.state = machine.learn(self.state, trie, &self.end_ids, shelf.is_full());
            let bytes = machine.bytes();
            shelf.count(self.counted, bytes);
            self.counted = bytes;
        }
        machine.mask(self.state).unwrap_or(&self.nothing)
    }

    fn advance(&mut self, token: u32) -> Result<(), NotAllowed> {
        if !self.mask().contains(token) {
            return Err(NotAllowed(token));
        }
        if self.end_ids.contains(&token) {
            self.has_ended = true;
            return Ok(());
        }
        let Some(machine) = &mut self.machine else { return Err(NotAllowed(token)) };
        let bytes = self.guide.trie.token_bytes(token).iter();
        let led = bytes.copied().try_fold(self.state, |state, byte| machine.step(state, byte));
        self.state = led.ok_or(NotAllowed(token))?;
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.has_ended || self.machine.as_ref().is_some_and(|machine| machine.may_end(self.state))
    }
}

impl Drop for GrammarConstraint {
    fn drop(&mut self) {
        if let Some(machine) = self.machine.take() {
            self.guide.shelf.put(machine, Arc::clone(&self.end_ids), self.counted);
        }
    }
}
