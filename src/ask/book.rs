//! The names that a question may use: channels, what people call them, and assets.
//!
//! A name is found piece by piece, so that "pump 1", "Pump-1" and "pump1" are one, and never within a longer number. Words of
//! four letters or more may be cut short ("temp" for "temperature") or be plurals.

use std::ops::Range;

use super::tokens::Tokens;
use crate::limits;
use crate::reading::{ChannelId, ChannelInfo};

/// What a question is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// One channel.
    Channel(ChannelId),
    /// Everything of one asset, by its name.
    Asset(String),
}

/// One channel as it may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub id: ChannelId,
    /// What people call it.
    pub label: String,
    /// The asset it belongs to.
    pub asset: Option<String>,
}

/// Every name that is known.
#[derive(Debug, Clone, Default)]
pub struct Book {
    channels: Vec<Named>,
    assets: Vec<String>,
    names: Vec<Name>,
}

/// One way to call a subject.
#[derive(Debug, Clone)]
struct Name {
    pieces: Vec<String>,
    subject: Subject,
    /// It is the channel's part of the name alone: the asset may have to be told by another word.
    partial: bool,
}

/// What the names in a question come to.
pub(super) struct Found {
    pub subjects: Vec<Subject>,
    /// What looks like a name and is none, as it was written.
    pub unknown: Vec<String>,
}

impl From<&ChannelInfo> for Named {
    fn from(info: &ChannelInfo) -> Self {
        Self { id: info.id.clone(), label: info.label.clone(), asset: info.asset.clone() }
    }
}

impl Book {
    /// All names of `channels`.
    pub fn new(channels: impl IntoIterator<Item = Named>) -> Self {
        let mut book = Self::default();
        for channel in channels {
            let subject = Subject::Channel(channel.id.clone());
            book.name(channel.id.as_str(), &subject, false);
            book.name(&channel.label, &subject, channel.label != channel.id.as_str());
            if let Some((_, tail)) = channel.id.as_str().split_once('.') {
                book.name(tail, &subject, true);
            }
            for asset in channel.asset.iter().map(String::as_str).chain(channel.id.asset()) {
                if !book.assets.iter().any(|known| known == asset) && channel.asset.is_some() {
                    let name = channel.asset.clone().unwrap_or_default();
                    book.name(asset, &Subject::Asset(name), false);
                }
            }
            if let Some(asset) = channel.asset.clone().filter(|a| !book.assets.contains(a)) {
                book.assets.push(asset);
            }
            book.channels.push(channel);
        }
        book
    }

    /// Every channel.
    pub fn channels(&self) -> &[Named] {
        &self.channels
    }

    /// Every asset, once.
    pub fn assets(&self) -> &[String] {
        &self.assets
    }

    /// Whether `channel` of `asset` is among `subjects`; everything is where there are none.
    pub fn covers(subjects: &[Subject], channel: &ChannelId, asset: Option<&str>) -> bool {
        subjects.is_empty()
            || subjects.iter().any(|subject| match subject {
                Subject::Channel(id) => id == channel,
                Subject::Asset(name) => asset == Some(name),
            })
    }

    /// The subject called exactly `name`: an asset, a channel or its label.
    pub fn named(&self, name: &str) -> Option<Subject> {
        if self.assets.iter().any(|asset| asset == name) {
            return Some(Subject::Asset(name.to_owned()));
        }
        let channel = self
            .channels
            .iter()
            .find(|c| c.id.as_str() == name)
            .or_else(|| self.channels.iter().find(|c| c.label == name));
        channel.map(|c| Subject::Channel(c.id.clone()))
    }

    pub(super) fn find(&self, question: &str, tokens: &Tokens) -> Found {
        let mut hits: Vec<(Range<usize>, &Name)> = Vec::new();
        for i in 0..tokens.0.len() {
            let here = self.names.iter().filter(|name| stands_at(&name.pieces, tokens, i));
            hits.extend(here.map(|name| (i..i + name.pieces.len(), name)));
        }
        let known = |odd: &Range<usize>| hits.iter().any(|(hit, _)| contains(hit, odd));
        let odd: Vec<Range<usize>> = self.odd(tokens).into_iter().filter(|odd| !known(odd)).collect();
        let outdone = |range: &Range<usize>| {
            let longer = hits.iter().any(|(hit, _)| contains(hit, range) && hit.len() > range.len());
            longer || odd.iter().any(|odd| contains(odd, range))
        };
        let kept: Vec<_> = hits.iter().filter(|(range, _)| !outdone(range)).collect();
        let as_written = |range: &Range<usize>| -> String {
            tokens.written(question, range.clone()).chars().take(limits::FIGURE_NAME_CHARS_MAX).collect()
        };
        Found {
            subjects: self.subjects(kept.iter().map(|(_, name)| *name)),
            unknown: odd.iter().take(limits::ASK_SUBJECTS_MAX).map(as_written).collect(),
        }
    }

    /// An asset and a channel's own word together mean that channel of that asset.
    fn subjects<'n>(&self, names: impl Iterator<Item = &'n Name>) -> Vec<Subject> {
        let names: Vec<&Name> = names.collect();
        let asset_of =
            |id: &ChannelId| self.channels.iter().find(|c| c.id == *id).and_then(|c| c.asset.as_deref());
        let assets: Vec<&str> = names
            .iter()
            .filter_map(|n| match &n.subject {
                Subject::Asset(asset) => Some(asset.as_str()),
                Subject::Channel(_) => None,
            })
            .collect();
        let in_asset = |id: &ChannelId, asset: &str| asset_of(id) == Some(asset);
        let mut subjects: Vec<Subject> = Vec::new();
        for name in &names {
            let wanted = match &name.subject {
                Subject::Channel(id) if name.partial && !assets.is_empty() => {
                    assets.iter().any(|asset| in_asset(id, asset))
                }
                Subject::Channel(_) => true,
                Subject::Asset(asset) => !names.iter().any(|other| {
                    matches!(&other.subject, Subject::Channel(id) if other.partial && in_asset(id, asset))
                }),
            };
            if wanted && !subjects.contains(&name.subject) {
                subjects.push(name.subject.clone());
            }
        }
        subjects.truncate(limits::ASK_SUBJECTS_MAX);
        subjects
    }

    /// Words that are built like a name and are none: another number in a known name, or a word with a number in it.
    fn odd(&self, tokens: &Tokens) -> Vec<Range<usize>> {
        let mut odd: Vec<Range<usize>> = Vec::new();
        let mut i = 0;
        while i < tokens.0.len() {
            let alike = self.names.iter().filter(|name| differs_in_number(&name.pieces, tokens, i));
            let end = alike.map(|name| i + name.pieces.len()).chain(glued_end(tokens, i)).max();
            match end.filter(|&end| tokens.0[i..end].iter().all(|token| !token.used)) {
                Some(end) => {
                    odd.push(i..end);
                    i = end;
                }
                None => i += 1,
            }
        }
        odd
    }

    fn name(&mut self, text: &str, subject: &Subject, partial: bool) {
        let pieces: Vec<String> = Tokens::of(text).0.into_iter().map(|token| token.text).collect();
        // A lone number would be found in every time of day.
        if pieces.iter().any(|piece| !is_number(piece)) {
            self.names.push(Name { pieces, subject: subject.clone(), partial });
        }
    }
}

fn stands_at(pieces: &[String], tokens: &Tokens, i: usize) -> bool {
    pieces
        .iter()
        .enumerate()
        .all(|(k, piece)| tokens.0.get(i + k).is_some_and(|here| !here.used && is_same(piece, &here.text)))
}

fn differs_in_number(pieces: &[String], tokens: &Tokens, i: usize) -> bool {
    let mut differs = false;
    let fits = pieces.iter().enumerate().all(|(k, piece)| {
        let here = tokens.text(i + k);
        let other_number = is_number(piece) && is_number(here) && piece != here;
        differs |= other_number;
        other_number || is_same(piece, here)
    });
    fits && differs
}

fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && outer.end >= inner.end
}

/// Where a word ends that only a machine would write: pieces held together by `.` or `_`, a number among them.
fn glued_end(tokens: &Tokens, i: usize) -> Option<usize> {
    let is_held = |k: usize| {
        let (Some(before), Some(here)) = (tokens.0.get(k - 1), tokens.0.get(k)) else { return false };
        let touching = before.at.end == here.at.start && before.text.is_ascii() && !is_number(&before.text);
        let marked = matches!(here.glue, Some('.' | '_')) && here.at.start == before.at.end + 1;
        (touching && is_number(&here.text)) || (marked && !(is_number(&before.text) && is_number(&here.text)))
    };
    let mut end = i + 1;
    while is_held(end) {
        end += 1;
    }
    let telling = (i..end).any(|k| is_number(tokens.text(k)) || (k > i && tokens.0[k].glue == Some('_')));
    (end > i + 1 && telling).then_some(end)
}

fn is_number(piece: &str) -> bool {
    piece.starts_with(|c: char| c.is_ascii_digit())
}

/// The same word, one of them in the plural, or one of them cut short.
fn is_same(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let cut = |rest: &str| rest == "s" || rest == "es" || short.len() >= CUT_LETTERS_MIN;
    match long.strip_prefix(short) {
        Some("") => true,
        Some(rest) => !is_number(short) && short.len() >= 3 && short.is_ascii() && cut(rest),
        None => false,
    }
}

/// Shorter words are not taken for the beginning of longer ones.
const CUT_LETTERS_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> Book {
        let named = |id: &str, label: &str, asset: Option<&str>| Named {
            id: ChannelId::new(id).unwrap(),
            label: if label.is_empty() { id.into() } else { label.into() },
            asset: asset.map(str::to_owned),
        };
        Book::new([
            named("pump1.bearing_temp", "bearing temperature", Some("Pump 1")),
            named("pump1.flow", "", Some("Pump 1")),
            named("pump2.bearing_temp", "", Some("pump2")),
            named("tank1.level", "", Some("tank1")),
            named("tank1.level_low", "", Some("tank1")),
            named("x9.door", "九号门", Some("9号泵")),
        ])
    }

    fn found(question: &str) -> (Vec<String>, Vec<String>) {
        let found = book().find(question, &Tokens::of(question));
        let subjects = found.subjects.into_iter().map(|s| match s {
            Subject::Channel(id) => id.as_str().to_owned(),
            Subject::Asset(asset) => format!("[{asset}]"),
        });
        (subjects.collect(), found.unknown)
    }

    #[test]
    fn an_asset_or_a_channel_is_known_by_every_way_to_write_it() {
        for question in ["how is Pump 1?", "PUMP1!", "pump-1", "what about pump 1's state"] {
            assert_eq!(found(question).0, ["[Pump 1]"], "{question}");
        }
        assert_eq!(found("pump1.bearing_temp").0, ["pump1.bearing_temp"]);
        assert_eq!(found("9号泵怎么样").0, ["[9号泵]"]);
    }

    #[test]
    fn asset_and_word_together_mean_one_channel_and_the_word_alone_all_of_them() {
        assert_eq!(found("the bearing temp of pump 2").0, ["pump2.bearing_temp"]);
        assert_eq!(found("bearing temperatures?").0, ["pump1.bearing_temp", "pump2.bearing_temp"]);
    }

    #[test]
    fn the_longer_name_wins_over_the_one_within_it() {
        assert_eq!(found("tank1.level_low").0, ["tank1.level_low"]);
        assert_eq!(found("tank1.level").0, ["tank1.level"]);
    }

    #[test]
    fn what_is_built_like_a_name_and_is_none_is_told() {
        for (question, unknown) in [
            ("how is pump 12?", "pump 12"),
            ("pump9.bearing_temp since 14:30", "pump9.bearing_temp"),
            ("boiler3 today", "boiler3"),
            ("8号泵", "8号泵"),
        ] {
            assert_eq!(found(question), (Vec::new(), vec![unknown.to_owned()]), "{question}");
        }
        assert_eq!(found("what happened at 14:30 on 2.7.?").1, Vec::<String>::new());
    }
}
