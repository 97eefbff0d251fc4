//! What a model may write: at every token a set of those that may come next, so that no logits push it off the road.

mod ebnf;
mod grammar;
mod guide;
mod machine;
mod pattern;
mod recogniser;
mod schema;
mod shelf;
#[cfg(test)]
mod tests;
mod trie;

use crate::digest::grammar::Grammar as SlotGrammar;

pub use crate::digest::grammar::NotAllowed;
pub use crate::digest::mask::TokenMask;
pub use grammar::{BadGrammar, Grammar};
pub use guide::{GrammarConstraint, Guide};
pub use recogniser::Recogniser;
pub use schema::{BadSchema, Schema};
pub use shelf::Shelf;
pub use trie::TokenTrie;

/// The state of one constrained answer.
///
/// Whoever generates asks for the mask, draws a token from it, and advances by that token, until it drew one of its end ids.
pub trait Constraint: Send {
    /// The tokens that may come next. The end ids are among them exactly while [`Constraint::is_done`]; never empty before the
    /// end was taken, always empty behind it.
    fn mask(&mut self) -> &TokenMask;

    /// Takes the next token, an end id too. A token that was not allowed changes nothing; the caller's fault.
    fn advance(&mut self, token: u32) -> Result<(), NotAllowed>;

    /// Whether the text so far is complete, so that it may end here; it may also go on if more than the end is allowed.
    fn is_done(&self) -> bool;

    /// The token that comes next whatever the logits say, where there is just one.
    fn forced(&mut self) -> Option<u32> {
        self.mask().single()
    }
}

/// The slot grammar of digests is one.
impl Constraint for SlotGrammar {
    fn mask(&mut self) -> &TokenMask {
        self.allowed()
    }

    fn advance(&mut self, token: u32) -> Result<(), NotAllowed> {
        SlotGrammar::advance(self, token)
    }

    fn is_done(&self) -> bool {
        SlotGrammar::is_done(self) || self.may_end()
    }
}
