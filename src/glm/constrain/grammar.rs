//! What may be written, as rules over bytes.
//!
//! A grammar is a set of rules; a rule is an expression of bytes, sequences, alternatives, repetitions and other rules. It comes
//! from EBNF ([`Grammar::ebnf`]), from a regular expression ([`Grammar::regex`]), or is built in ([`Grammar::json`]). Before it is
//! used it is held to three conditions: every rule can end, none begins with itself, and all of it has at most
//! [`limits::GRAMMAR_NODES_MAX`] places.

use super::{ebnf, pattern};
use crate::limits;

/// A text in a language of its own kind.
#[derive(Debug, Clone)]
pub struct Grammar {
    pub(super) nodes: Vec<Node>,
    /// Where each rule begins; the first is the root.
    pub(super) rules: Vec<NodeId>,
    /// Of each place: how many rules within rules it takes at least from there to the end of its rule; `u32::MAX`: no text
    /// gets there.
    pub(super) need: Vec<u32>,
}

/// A place in a rule.
pub(super) type NodeId = u32;

/// What may happen at a place.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// A byte of these ranges, then `next`.
    Bytes { ranges: Box<[(u8, u8)]>, next: NodeId },
    /// Any of these, at once.
    Split(Box<[NodeId]>),
    /// All of a rule, then `next`.
    Call { rule: u32, next: NodeId },
    /// The rule ends.
    Return,
}

/// Rules for JSON, of which a grammar chooses its root.
pub(super) const JSON_VALUES: &str = include_str!("json.ebnf");

/// The place where every rule ends.
pub(super) const RETURN: NodeId = 0;

/// An expression, before it is laid out.
#[derive(Debug, Clone)]
pub(super) enum Expr {
    /// A byte of one of these ranges.
    Bytes(Vec<(u8, u8)>),
    /// One after the other; none: nothing.
    Seq(Vec<Expr>),
    /// One of them.
    Alt(Vec<Expr>),
    /// So often, at most so often.
    Repeat(Box<Expr>, u32, Option<u32>),
    /// A rule, by its number.
    Rule(u32),
}

/// A grammar that can't be used; the author's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadGrammar {
    /// It can't be read.
    #[error("line {line}, column {column} of the grammar: {what}")]
    Syntax {
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// What is wrong, and what to write instead.
        what: String,
    },
    /// The regular expression can't be read, or asks for what no text can be held to.
    #[error("the pattern can't be used: {0}")]
    Pattern(String),
    /// A rule begins with itself, so that nobody knows where it ends.
    #[error("rule {0} begins with itself; put something before it, or repeat with *")]
    LeftRecursion(String),
    /// A rule that no text satisfies.
    #[error("rule {0} can never end; give it an alternative without itself")]
    Endless(String),
    /// Its shortest text is too deep.
    #[error("rule {0} ends only within more than {most} rules in rules; write some of them out",
        most = limits::GRAMMAR_DEPTH_MAX)]
    Deep(String),
    /// It is too large.
    #[error("the grammar has more than {} places; use fewer repetitions or names", limits::GRAMMAR_NODES_MAX)]
    Large,
}

impl Grammar {
    /// Reads EBNF as llama.cpp's GBNF writes it; `src/glm/constrain/ebnf.rs` lists what is understood.
    pub fn ebnf(text: &str) -> Result<Grammar, BadGrammar> {
        let (names, rules) = ebnf::parse(text)?;
        Grammar::build(&names, &rules)
    }

    /// The texts that a regular expression matches as a whole, in the syntax of the crate `regex`, without anchors and word
    /// boundaries.
    pub fn regex(pattern: &str) -> Result<Grammar, BadGrammar> {
        Grammar::build(&["pattern".to_owned()], &[pattern::parse(pattern)?])
    }

    /// Any JSON object (RFC 8259), with little white space and numbers of at most 15 digits before the point.
    pub fn json() -> Result<Grammar, BadGrammar> {
        Grammar::ebnf(&format!("root ::= object\n{JSON_VALUES}"))
    }

    fn build(names: &[String], rules: &[Expr]) -> Result<Grammar, BadGrammar> {
        let name = |rule: usize| names.get(rule).cloned().unwrap_or_default();
        if let Some(rule) = endless(rules) {
            return Err(BadGrammar::Endless(name(rule)));
        }
        if let Some(rule) = left_recursive(rules) {
            return Err(BadGrammar::LeftRecursion(name(rule)));
        }
        let mut grammar = Grammar { nodes: vec![Node::Return], rules: Vec::new(), need: Vec::new() };
        for rule in rules {
            let start = grammar.lay(rule, RETURN)?;
            grammar.rules.push(start);
        }
        grammar.need = grammar.needs();
        let root = grammar.rules.first().and_then(|&root| grammar.need.get(root as usize));
        if root.is_none_or(|&need| need as usize > limits::GRAMMAR_DEPTH_MAX) {
            return Err(BadGrammar::Deep(name(0)));
        }
        Ok(grammar)
    }

    /// Computed until nothing changes; what follows a place mostly stands before it, so that is soon.
    fn needs(&self) -> Vec<u32> {
        let mut need = vec![u32::MAX; self.nodes.len()];
        let mut has_changed = true;
        while has_changed {
            has_changed = false;
            for (at, node) in self.nodes.iter().enumerate() {
                let of = |at: NodeId| need[at as usize];
                let new = match node {
                    Node::Return => 0,
                    // No byte leads on from here; patterns can say so: `[a&&b]`.
                    Node::Bytes { ranges, .. } if ranges.is_empty() => u32::MAX,
                    Node::Bytes { next, .. } => of(*next),
                    Node::Split(options) => {
                        options.iter().map(|&option| of(option)).min().unwrap_or(u32::MAX)
                    }
                    // A call at the end of a rule leaves nothing to come back to.
                    &Node::Call { rule, next } => {
                        let within = of(self.rules[rule as usize]);
                        within.saturating_add(u32::from(next != RETURN)).max(of(next))
                    }
                };
                has_changed |= new != need[at];
                need[at] = new;
            }
        }
        need
    }

    fn put(&mut self, node: Node) -> Result<NodeId, BadGrammar> {
        if self.nodes.len() >= limits::GRAMMAR_NODES_MAX {
            return Err(BadGrammar::Large);
        }
        self.nodes.push(node);
        Ok(self.nodes.len() as NodeId - 1)
    }

    /// Lays an expression out before `next`; gives where it begins (K. Thompson, 1968).
    fn lay(&mut self, expr: &Expr, next: NodeId) -> Result<NodeId, BadGrammar> {
        match expr {
            Expr::Bytes(ranges) => self.put(Node::Bytes { ranges: ranges.clone().into(), next }),
            Expr::Rule(rule) => self.put(Node::Call { rule: *rule, next }),
            Expr::Seq(parts) => parts.iter().rev().try_fold(next, |next, part| self.lay(part, next)),
            Expr::Alt(options) => {
                let starts: Result<Vec<_>, _> = options.iter().map(|option| self.lay(option, next)).collect();
                self.put(Node::Split(starts?.into()))
            }
            Expr::Repeat(part, min, max) => {
                let mut start = match max {
                    None => self.lay_loop(part, next)?,
                    Some(max) => (*min..*max).try_fold(next, |after, _| {
                        let once = self.lay(part, after)?;
                        self.put(Node::Split([once, next].into()))
                    })?,
                };
                for _ in 0..*min {
                    start = self.lay(part, start)?;
                }
                Ok(start)
            }
        }
    }

    /// Any number of times.
    fn lay_loop(&mut self, part: &Expr, next: NodeId) -> Result<NodeId, BadGrammar> {
        let start = self.put(Node::Split([].into()))?;
        let once = self.lay(part, start)?;
        if let Some(node) = self.nodes.get_mut(start as usize) {
            *node = Node::Split([once, next].into());
        }
        Ok(start)
    }
}

/// Repeats `mark` over all rules until nothing new is marked.
fn fixpoint(rules: &[Expr], mark: impl Fn(&Expr, &[bool]) -> bool) -> Vec<bool> {
    let mut marked = vec![false; rules.len()];
    loop {
        let next: Vec<bool> =
            rules.iter().zip(&marked).map(|(rule, &is)| is || mark(rule, &marked)).collect();
        if next == marked {
            return marked;
        }
        marked = next;
    }
}

/// The first rule that no text of finite length satisfies.
fn endless(rules: &[Expr]) -> Option<usize> {
    fn ends(expr: &Expr, known: &[bool]) -> bool {
        match expr {
            Expr::Bytes(ranges) => !ranges.is_empty(),
            Expr::Seq(parts) => parts.iter().all(|part| ends(part, known)),
            Expr::Alt(options) => options.iter().any(|option| ends(option, known)),
            Expr::Repeat(part, min, _) => *min == 0 || ends(part, known),
            Expr::Rule(rule) => known.get(*rule as usize).copied().unwrap_or(false),
        }
    }
    fixpoint(rules, ends).iter().position(|&ends| !ends)
}

/// The first rule that can come to itself before any byte.
fn left_recursive(rules: &[Expr]) -> Option<usize> {
    fn is_empty(expr: &Expr, known: &[bool]) -> bool {
        match expr {
            Expr::Bytes(_) => false,
            Expr::Seq(parts) => parts.iter().all(|part| is_empty(part, known)),
            Expr::Alt(options) => options.iter().any(|option| is_empty(option, known)),
            Expr::Repeat(part, min, _) => *min == 0 || is_empty(part, known),
            Expr::Rule(rule) => known.get(*rule as usize).copied().unwrap_or(false),
        }
    }
    /// Rules that may come first in an expression.
    fn firsts(expr: &Expr, empty: &[bool], out: &mut Vec<u32>) {
        match expr {
            Expr::Bytes(_) => {}
            Expr::Rule(rule) => out.push(*rule),
            Expr::Alt(options) => options.iter().for_each(|option| firsts(option, empty, out)),
            Expr::Repeat(part, ..) => firsts(part, empty, out),
            Expr::Seq(parts) => {
                for part in parts {
                    firsts(part, empty, out);
                    if !is_empty(part, empty) {
                        return;
                    }
                }
            }
        }
    }
    let empty = fixpoint(rules, is_empty);
    let edges: Vec<Vec<u32>> = rules
        .iter()
        .map(|rule| {
            let mut out = Vec::new();
            firsts(rule, &empty, &mut out);
            out
        })
        .collect();
    (0..rules.len()).find(|&rule| {
        let mut seen = vec![false; rules.len()];
        let mut todo: Vec<u32> = edges[rule].clone();
        while let Some(at) = todo.pop() {
            if at as usize == rule {
                return true;
            }
            if let Some(seen) = seen.get_mut(at as usize).filter(|seen| !**seen) {
                *seen = true;
                todo.extend(&edges[at as usize]);
            }
        }
        false
    })
}
