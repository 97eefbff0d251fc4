//! EBNF as people write it for llama.cpp (GBNF), read into expressions.
//!
//! | written | means |
//! |---|---|
//! | `name ::= ...` | a rule; the one called `root` is where the text begins. It ends where the next one begins |
//! | `"text"` | these characters; `\n \r \t \\ \" \xHH \uHHHH` inside |
//! | `[a-z_]`, `[^"]` | one character of these, or any other; `\]` and `\-` too |
//! | `.` | any character |
//! | `a b`, `a \| b`, `( a )` | one after the other, one of them, together |
//! | `a?  a*  a+  a{3}  a{2,}  a{2,5}` | repeated |
//! | `# ...` | a remark to the end of the line |

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

use super::grammar::{BadGrammar, Expr};
use super::pattern::one_of;
use crate::limits;

/// Names of the rules and what they are; `root` is the first.
pub(super) fn parse(text: &str) -> Result<(Vec<String>, Vec<Expr>), BadGrammar> {
    let mut reader = Reader::new(text);
    if text.len() > limits::GRAMMAR_TEXT_BYTES_MAX {
        return Err(reader.wrong(format!("more than {} bytes", limits::GRAMMAR_TEXT_BYTES_MAX)));
    }
    let mut book = Book::default();
    book.number("root", reader.at());
    reader.blank();
    while reader.peek().is_some() {
        let at = reader.at();
        let name = reader.name().ok_or_else(|| reader.wrong("a rule begins with its name: name ::= ..."))?;
        if !reader.definition() {
            return Err(reader.wrong(format!("after {name} comes ::=")));
        }
        let rule = book.number(&name, at);
        if book.names.len() > limits::GRAMMAR_RULES_MAX {
            return Err(reader.wrong(format!("more than {} rules", limits::GRAMMAR_RULES_MAX)));
        }
        let expr = reader.alternatives(&mut book, 0)?;
        if book.rules[rule as usize].replace(expr).is_some() {
            return Err(Reader::at_place(at, format!("rule {name} is there already")));
        }
        if reader.peek().is_some() && !reader.is_at_rule() {
            return Err(reader.wrong("the next rule begins with its name and ::="));
        }
    }
    book.finish()
}

/// Repetitions of repetitions say nothing more after this many.
const REPEATED_MAX: usize = 4;

/// Rules by name, some of them only mentioned so far.
#[derive(Default)]
struct Book {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
    first_seen: Vec<(usize, usize)>,
    rules: Vec<Option<Expr>>,
}

impl Book {
    fn number(&mut self, name: &str, at: (usize, usize)) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        self.first_seen.push(at);
        self.rules.push(None);
        number
    }

    fn finish(self) -> Result<(Vec<String>, Vec<Expr>), BadGrammar> {
        let places = self.names.iter().zip(&self.first_seen);
        let rules: Result<Vec<Expr>, BadGrammar> = self
            .rules
            .into_iter()
            .zip(places)
            .map(|(rule, (name, &at))| {
                rule.ok_or_else(|| {
                    Reader::at_place(at, format!("rule {name} is missing; write {name} ::= ..."))
                })
            })
            .collect();
        Ok((self.names, rules?))
    }
}

#[derive(Clone)]
struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
    column: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.chars().peekable(), line: 1, column: 1 }
    }

    fn at(&self) -> (usize, usize) {
        (self.line, self.column)
    }

    fn wrong(&self, what: impl Into<String>) -> BadGrammar {
        Self::at_place(self.at(), what)
    }

    fn at_place((line, column): (usize, usize), what: impl Into<String>) -> BadGrammar {
        BadGrammar::Syntax { line, column, what: what.into() }
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        (self.line, self.column) = if c == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        Some(c)
    }

    fn take(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.next();
        }
        there
    }

    /// Steps over blanks, line ends and remarks.
    fn blank(&mut self) {
        while let Some(c) = self.peek() {
            if c == '#' {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.next();
                }
            } else if c.is_whitespace() {
                self.next();
            } else {
                return;
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        while let Some(c) = self.peek().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')) {
            name.push(c);
            self.next();
        }
        Some(name).filter(|name| !name.is_empty())
    }

    fn definition(&mut self) -> bool {
        self.blank();
        self.take(':') && self.take(':') && self.take('=')
    }

    /// Whether a name and `::=` come next.
    fn is_at_rule(&self) -> bool {
        let mut ahead = self.clone();
        ahead.name().is_some() && ahead.definition()
    }

    fn alternatives(&mut self, book: &mut Book, depth: usize) -> Result<Expr, BadGrammar> {
        if depth > limits::GRAMMAR_DEPTH_MAX {
            return Err(self.wrong(format!("more than {} brackets deep", limits::GRAMMAR_DEPTH_MAX)));
        }
        let mut options = vec![self.sequence(book, depth)?];
        while self.take('|') {
            options.push(self.sequence(book, depth)?);
        }
        Ok(if options.len() == 1 { options.swap_remove(0) } else { Expr::Alt(options) })
    }

    fn sequence(&mut self, book: &mut Book, depth: usize) -> Result<Expr, BadGrammar> {
        let mut parts = Vec::new();
        loop {
            self.blank();
            let at = self.at();
            let part = match self.peek() {
                None | Some('|' | ')') => return Ok(Expr::Seq(parts)),
                Some('"') => self.literal()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.next();
                    one_of(&[('\0', char::MAX)])
                }
                Some('(') => {
                    self.next();
                    let inner = self.alternatives(book, depth + 1)?;
                    if !self.take(')') {
                        return Err(self.wrong("a bracket ( is not closed"));
                    }
                    inner
                }
                Some(_) if self.is_at_rule() => return Ok(Expr::Seq(parts)),
                Some(c) => match self.name() {
                    Some(name) => Expr::Rule(book.number(&name, at)),
                    None => return Err(self.wrong(format!("{c:?} is not understood here"))),
                },
            };
            let part = self.repeated(part)?;
            parts.push(part);
        }
    }

    fn repeated(&mut self, mut part: Expr) -> Result<Expr, BadGrammar> {
        for _ in 0..REPEATED_MAX {
            let (min, max) = match self.peek() {
                Some('?') => (0, Some(1)),
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('{') => {
                    self.next();
                    let (min, max) = self.bounds()?;
                    part = Expr::Repeat(Box::new(part), min, max);
                    continue;
                }
                _ => return Ok(part),
            };
            self.next();
            part = Expr::Repeat(Box::new(part), min, max);
        }
        Err(self.wrong("too many repetitions of the same thing"))
    }

    fn bounds(&mut self) -> Result<(u32, Option<u32>), BadGrammar> {
        let min = self.count()?;
        let max = match self.take(',') {
            false => Some(min),
            true if self.peek() == Some('}') => None,
            true => Some(self.count()?),
        };
        if !self.take('}') {
            return Err(self.wrong("a repetition is written {2}, {2,} or {2,5}"));
        }
        if max.is_some_and(|max| max < min) {
            return Err(self.wrong("a repetition ends below its beginning"));
        }
        Ok((min, max))
    }

    fn count(&mut self) -> Result<u32, BadGrammar> {
        let mut digits = String::new();
        while let Some(c) = self.peek().filter(char::is_ascii_digit) {
            digits.push(c);
            self.next();
        }
        let most = limits::GRAMMAR_REPEAT_MAX;
        let count = digits.parse().ok().filter(|count| *count <= most);
        count.ok_or_else(|| self.wrong(format!("a whole number up to {most} is due")))
    }

    fn literal(&mut self) -> Result<Expr, BadGrammar> {
        self.next();
        let mut bytes = Vec::new();
        loop {
            match self.next() {
                Some('"') => break,
                Some('\\') => bytes.extend(self.escaped()?.encode_utf8(&mut [0; 4]).bytes()),
                Some('\n') | None => return Err(self.wrong("a text is not closed by \"")),
                Some(c) => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        Ok(Expr::Seq(bytes.into_iter().map(|byte| Expr::Bytes(vec![(byte, byte)])).collect()))
    }

    fn class(&mut self) -> Result<Expr, BadGrammar> {
        self.next();
        let is_negated = self.take('^');
        let mut ranges = Vec::new();
        loop {
            if self.take(']') {
                break;
            }
            let from = self.class_char()?;
            let mut to = from;
            if self.peek() == Some('-') {
                self.next();
                if self.peek() == Some(']') {
                    ranges.push(('-', '-'));
                } else {
                    to = self.class_char()?;
                }
            }
            if to < from {
                return Err(self.wrong(format!("the range {from}-{to} is the wrong way round")));
            }
            ranges.push((from, to));
        }
        let ranges = if is_negated { others(ranges) } else { ranges };
        if ranges.is_empty() {
            return Err(self.wrong("no character is left to choose from"));
        }
        Ok(one_of(&ranges))
    }

    fn class_char(&mut self) -> Result<char, BadGrammar> {
        match self.next() {
            Some('\\') => self.escaped(),
            Some('\n') | None => Err(self.wrong("characters in [ are not closed by ]")),
            Some(c) => Ok(c),
        }
    }

    fn escaped(&mut self) -> Result<char, BadGrammar> {
        Ok(match self.next() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('x') => self.hex(2)?,
            Some('u') => self.hex(4)?,
            Some(c) if c.is_ascii_punctuation() => c,
            _ => return Err(self.wrong("after \\ comes n, r, t, xHH, uHHHH or a sign")),
        })
    }

    fn hex(&mut self, digits: u32) -> Result<char, BadGrammar> {
        let mut code = 0;
        for _ in 0..digits {
            let digit = self.next().and_then(|c| c.to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.wrong(format!("{digits} hex digits are due")))?;
        }
        char::from_u32(code)
            .ok_or_else(|| self.wrong("this is half of a character; write the character itself"))
    }
}

/// All characters that are in none of the ranges.
fn others(mut ranges: Vec<(char, char)>) -> Vec<(char, char)> {
    ranges.sort_unstable();
    let (mut out, mut next) = (Vec::new(), Some('\0'));
    for (from, to) in ranges {
        if let Some(start) = next.filter(|&start| start < from)
            && let Some(end) = before(from)
        {
            out.push((start, end));
        }
        next = next.and_then(|start| if to < start { Some(start) } else { after(to) });
    }
    out.extend(next.map(|start| (start, char::MAX)));
    out
}

fn after(c: char) -> Option<char> {
    (c..=char::MAX).nth(1)
}

fn before(c: char) -> Option<char> {
    ('\0'..c).next_back()
}
