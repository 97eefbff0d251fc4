//! Whether a text that somebody else writes stays within a grammar: for models whose tokens nobody here chooses.

use std::sync::Arc;

use super::grammar::Grammar;
use super::machine::{Machine, Program, StateId};

/// A text as far as it has come.
pub struct Recogniser {
    machine: Machine,
    state: StateId,
}

impl Recogniser {
    /// Before the first byte.
    pub fn new(grammar: Grammar) -> Recogniser {
        let mut machine = Machine::new(Arc::new(Program::new(grammar)));
        let state = machine.start();
        Recogniser { machine, state }
    }

    /// Takes what comes next; `false`: the grammar does not allow it, and nothing more may come.
    pub fn push(&mut self, text: &str) -> bool {
        // What is forgotten is looked up anew from where the text is.
        self.state = self.machine.bounded(self.state);
        let led = text.bytes().try_fold(self.state, |state, byte| self.machine.step(state, byte));
        led.map(|state| self.state = state).is_some()
    }

    /// Whether the text may end here.
    pub fn is_done(&self) -> bool {
        self.machine.may_end(self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_told_from_another_at_the_byte_at_which_they_part() {
        let grammar = || Grammar::ebnf("root ::= \"a\" [0-9]+ \"ü\"?").unwrap();
        let mut whole = Recogniser::new(grammar());
        for (piece, is_done) in [("a", false), ("17", true), ("ü", true)] {
            assert!(whole.push(piece));
            assert_eq!(whole.is_done(), is_done, "{piece}");
        }
        assert!(!whole.push("1"));
        assert!(!Recogniser::new(grammar()).push("b"));
        assert!(Recogniser::new(Grammar::json().unwrap()).push("{\"a\": [1, tr"));
        assert!(!Recogniser::new(Grammar::json().unwrap()).push("{\"a\": [1, tx"));
    }
}
