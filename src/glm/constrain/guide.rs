//! Constraints of one grammar over one vocabulary: what one answer has learnt serves the next.

use std::sync::{Arc, Mutex, PoisonError};

use super::grammar::Grammar;
use super::machine::{Machine, Program, StateId};
use super::trie::TokenTrie;
use super::{Constraint, NotAllowed, TokenMask};
use crate::limits;

/// A grammar prepared for a vocabulary; clones share it.
#[derive(Clone)]
pub struct Guide(Arc<Inner>);

struct Inner {
    trie: Arc<TokenTrie>,
    program: Arc<Program>,
    /// Machines of answers that have ended, with their states and masks; each with its end ids.
    warm: Mutex<Vec<(Machine, Arc<[u32]>)>>,
}

impl Guide {
    /// Prepares a grammar. The vocabulary should have a token for every byte that the grammar needs, as byte-level ones do;
    /// where it lacks one, an answer that gets there is stuck.
    pub fn new(grammar: Grammar, trie: Arc<TokenTrie>) -> Guide {
        let program = Arc::new(Program::new(grammar));
        Guide(Arc::new(Inner { trie, program, warm: Mutex::new(Vec::new()) }))
    }

    /// The constraint of one answer, which ends by one of `end_ids`.
    pub fn constraint(&self, end_ids: Arc<[u32]>) -> GrammarConstraint {
        let mut warm = self.0.warm.lock().unwrap_or_else(PoisonError::into_inner);
        let found = warm.iter().position(|(_, ids)| *ids == end_ids).map(|at| warm.swap_remove(at).0);
        drop(warm);
        let mut machine = found.unwrap_or_else(|| Machine::new(Arc::clone(&self.0.program)));
        let state = machine.start();
        let nothing = TokenMask::none(self.0.trie.vocab());
        GrammarConstraint {
            guide: self.clone(),
            end_ids,
            machine: Some(machine),
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
        let (state, mask) = machine.mask(self.state, &self.guide.0.trie, &self.end_ids);
        self.state = state;
        mask
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
        let bytes = self.guide.0.trie.token_bytes(token).iter();
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
        let Some(machine) = self.machine.take() else { return };
        let mut warm = self.guide.0.warm.lock().unwrap_or_else(PoisonError::into_inner);
        if warm.len() < limits::GRAMMAR_WARM_MAX {
            warm.push((machine, Arc::clone(&self.end_ids)));
        }
    }
}
