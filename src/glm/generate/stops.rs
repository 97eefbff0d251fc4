//! Stop strings: an answer ends where one of them begins, and no part of it is shown.

use crate::limits;

/// Watches a text as it grows.
#[derive(Debug, Clone, Default)]
pub struct Stops {
    stops: Vec<String>,
    /// The end of the text that may be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl Stops {
    /// Empty strings stop nothing; no more than [`limits::STOPS_MAX`] are looked for.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Stops {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).take(limits::STOPS_MAX).collect();
        Stops { stops, held: String::new(), stopped: false }
    }

    /// Takes the next piece of text; gives what can be shown. Nothing any more once it has stopped.
    pub fn push(&mut self, text: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// The text has ended: gives what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string was found.
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }
}

/// Bytes of the longest end of `text` that begins `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let lengths = (1..stop.len()).rev().filter(|&n| n <= text.len() && stop.is_char_boundary(n));
    lengths.into_iter().find(|&n| text.as_bytes().ends_with(&stop.as_bytes()[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut watch = Stops::new(stops.iter().map(|s| (*s).to_owned()));
        let mut text: String = pieces.iter().map(|piece| watch.push(piece)).collect();
        text += &watch.finish();
        (text, watch.has_stopped())
    }

    #[test]
    fn a_stop_string_is_found_across_pieces_and_never_shown() {
        assert_eq!(shown(&["END"], &["one E", "ND two"]), ("one ".into(), true));
        assert_eq!(shown(&["END"], &["one E", "N", "E", "ND"]), ("one EN".into(), true));
        assert_eq!(shown(&["END"], &["one E", "N"]), ("one EN".into(), false), "held back, then given");
        assert_eq!(shown(&["bc", "abcd"], &["xab", "cd"]), ("x".into(), true), "the one that begins first");
        assert_eq!(shown(&["温度"], &["高温", "度"]), ("高".into(), true));
        assert_eq!(shown(&["", "\n\n"], &["a\n", "b\n", "\n"]), ("a\nb".into(), true));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_the_text_up_to_the_first_stop(text in "[ab]{0,20}", cuts in proptest::collection::vec(0_usize..20, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|&c| c <= text.len()).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            let (got, stopped) = shown(&["abba"], &pieces);
            prop_assert_eq!(stopped, text.contains("abba"));
            prop_assert_eq!(got.as_str(), text.split("abba").next().unwrap());
        }
    }
}
