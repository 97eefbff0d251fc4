//! Topics of a broker: which are listened to, which channel a message belongs to, where in it the value is.
//!
//! `plant/{line}/{sensor}` listens to `plant/+/+`, and `{line}.{sensor}` names the channel after what stood there.
//! A path such as `data.temp`, `$.data.temp` or `values[0].v` finds a value in a JSON document.

use serde_json::Value as Json;

use crate::limits;

/// One kind of message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    levels: Vec<Level>,
    channel: Vec<Piece>,
    /// Where the value is; the whole message is a number without it.
    pub value: Option<Path>,
    /// Where the time is, if there is one.
    pub time: Option<Path>,
    /// Unit of the values; empty if it is not told.
    pub unit: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Word(String),
    /// Any word, under this name.
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name(String),
}

/// A way into a JSON document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// A template or path that has no meaning; the configuration's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// No topic looks like this.
    #[error("{0:?} is no level of a topic: write a word, or {{name}} for any")]
    Level(String),
    /// Everything the broker has.
    #[error("it would listen to every topic of the broker: begin with at least one word")]
    Everything,
    /// The channel speaks of a name that the topic does not have.
    #[error("{{{0}}} does not stand in the topic")]
    NoName(String),
    /// Messages of different topics would be one channel.
    #[error("{{{0}}} stands in the topic and not in the channel, so that different topics would share one")]
    Unused(String),
    /// A brace without its pair.
    #[error("a brace without its pair")]
    Brace,
    /// No path.
    #[error("{0:?} is no path: write for example data.temp or values[0].v")]
    Path(String),
}

impl Topic {
    /// Reads a template of topics and one of channels.
    pub fn new(topic: &str, channel: &str) -> Result<Self, TopicError> {
        let levels: Vec<Level> = topic.split('/').map(level).collect::<Result<_, _>>()?;
        if !levels.iter().any(|level| matches!(level, Level::Word(_))) {
            return Err(TopicError::Everything);
        }
        let channel = pieces(channel)?;
        let names = |levels: &[Level]| -> Vec<String> {
            let name = |l: &Level| if let Level::Name(name) = l { Some(name.clone()) } else { None };
            levels.iter().filter_map(name).collect()
        };
        let told = names(&levels);
        let used: Vec<&String> = channel
            .iter()
            .filter_map(|p| if let Piece::Name(name) = p { Some(name) } else { None })
            .collect();
        if let Some(missing) = used.iter().find(|name| !told.contains(name)) {
            return Err(TopicError::NoName((*missing).clone()));
        }
        if let Some(unused) = told.iter().find(|name| !used.contains(name)) {
            return Err(TopicError::Unused(unused.clone()));
        }
        Ok(Self { levels, channel, value: None, time: None, unit: String::new() })
    }

    /// What is asked of the broker: a word per level, `+` for any.
    pub fn filter(&self) -> String {
        let word = |level: &Level| if let Level::Word(word) = level { word.clone() } else { "+".into() };
        self.levels.iter().map(word).collect::<Vec<_>>().join("/")
    }

    /// The channel that a message of `topic` belongs to, if it is one of these.
    pub fn channel(&self, topic: &str) -> Option<String> {
        let words: Vec<&str> = topic.split('/').collect();
        if words.len() != self.levels.len() {
            return None;
        }
        let mut name = String::new();
        let fits = self.levels.iter().zip(&words).all(|(level, word)| match level {
            Level::Word(own) => own == word,
            Level::Name(_) => !word.is_empty(),
        });
        if !fits {
            return None;
        }
        for piece in &self.channel {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Name(wanted) => {
                    let at = self.levels.iter().position(|l| matches!(l, Level::Name(n) if n == wanted))?;
                    name.push_str(words[at]);
                }
            }
        }
        Some(name)
    }
}

impl Path {
    /// Reads a path.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        let bad = || TopicError::Path(text.to_owned());
        let inner = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        for part in inner.strip_prefix('.').unwrap_or(inner).split('.') {
            let (key, indices) = part.split_at(part.find('[').unwrap_or(part.len()));
            if !key.is_empty() {
                steps.push(Step::Key(key.to_owned()));
            }
            for index in indices.split('[').skip(1) {
                let number = index.strip_suffix(']').and_then(|n| n.parse().ok()).ok_or_else(bad)?;
                steps.push(Step::Index(number));
            }
        }
        let sound = (1..=limits::JSON_STEPS_MAX).contains(&steps.len()) && !inner.contains("..");
        sound.then_some(Self(steps)).ok_or_else(bad)
    }

    /// What is there.
    pub fn find<'a>(&self, document: &'a Json) -> Option<&'a Json> {
        self.0.iter().try_fold(document, |at, step| match step {
            Step::Key(key) => at.get(key),
            Step::Index(index) => at.get(index),
        })
    }
}

fn level(text: &str) -> Result<Level, TopicError> {
    let bad = || TopicError::Level(text.to_owned());
    let is_name = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match text.strip_prefix('{') {
        Some(rest) => {
            let name = rest.strip_suffix('}').filter(|name| is_name(name)).ok_or_else(bad)?;
            Ok(Level::Name(name.to_owned()))
        }
        None if text.is_empty() || text.contains(['+', '#', '{', '}', '\0']) => Err(bad()),
        None => Ok(Level::Word(text.to_owned())),
    }
}

fn pieces(mut rest: &str) -> Result<Vec<Piece>, TopicError> {
    let mut pieces = Vec::new();
    while let Some(open) = rest.find(['{', '}']) {
        let (text, behind) = rest.split_at(open);
        let (name, tail) =
            behind.strip_prefix('{').and_then(|b| b.split_once('}')).ok_or(TopicError::Brace)?;
        pieces.push(Piece::Text(text.to_owned()));
        pieces.push(Piece::Name(name.to_owned()));
        rest = tail;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_template_listens_and_names() {
        let topic = Topic::new("plant/{line}/{sensor}/value", "{line}.{sensor}").unwrap();
        assert_eq!(topic.filter(), "plant/+/+/value");
        assert_eq!(topic.channel("plant/a/temp/value").as_deref(), Some("a.temp"));
        for other in ["plant/a/value", "plant/a/temp/state", "plant//temp/value", "plant/a/b/temp/value"] {
            assert_eq!(topic.channel(other), None, "{other}");
        }
        assert_eq!(Topic::new("a/b", "fixed").unwrap().channel("a/b").as_deref(), Some("fixed"));
    }

    #[test]
    fn templates_without_meaning_are_refused() {
        for (topic, channel, error) in [
            ("{a}/{b}", "{a}{b}", TopicError::Everything),
            ("plant/#", "x", TopicError::Level("#".into())),
            ("plant/+/x", "x", TopicError::Level("+".into())),
            ("plant//x", "x", TopicError::Level(String::new())),
            ("plant/{a", "x", TopicError::Level("{a".into())),
            ("plant/{a}", "x.{b}", TopicError::NoName("b".into())),
            ("plant/{a}", "x", TopicError::Unused("a".into())),
            ("plant/x", "x}", TopicError::Brace),
        ] {
            assert_eq!(Topic::new(topic, channel), Err(error), "{topic} {channel}");
        }
    }

    #[test]
    fn a_path_finds_its_value() {
        let document =
            serde_json::json!({"data": {"temp": 21.5, "list": [{"v": 1}, {"v": 2}]}, "x y": [[3]]});
        for (path, value) in [
            ("data.temp", "21.5"),
            ("$.data.list[1].v", "2"),
            ("x y[0][0]", "3"),
            ("$.data.list[0]", "{\"v\":1}"),
        ] {
            assert_eq!(Path::new(path).unwrap().find(&document).unwrap().to_string(), value, "{path}");
        }
        assert_eq!(Path::new("data.list[7]").unwrap().find(&document), None);
        for bad in ["", "$", "a..b", "a[x]", "a[1", "."] {
            assert!(Path::new(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_harms(a in "[a-z/{}+#$.\\[\\]0-9]{0,40}", b in "\\PC{0,30}") {
            if let Ok(topic) = Topic::new(&a, &b) {
                let _ = (topic.filter(), topic.channel(&b), topic.channel(&a));
            }
            if let Ok(path) = Path::new(&a) {
                let _ = path.find(&serde_json::json!({"a": [1]}));
            }
        }
    }
}
