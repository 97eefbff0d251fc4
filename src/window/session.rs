//! Windows that last as long as readings keep coming: a machine that runs now and then has one per run.

use super::{Window, millis_up};
use crate::features::Features;
use crate::reading::Value;
use crate::time::Wall;

/// The session of one channel; readings come in order.
#[derive(Debug, Clone)]
pub(super) struct Sessions {
    /// Silence that ends one.
    pub gap_us: i64,
    /// The longest one.
    pub length_us: i64,
    pub open: Option<Open>,
    pub detail: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Open {
    start: Wall,
    last: Wall,
    features: Features,
}

impl Sessions {
    pub fn put(&mut self, at: Wall, value: Value, tell: &mut impl FnMut(&Window)) {
        let goes_on = |open: &Open| {
            at.micros_since(open.last) <= self.gap_us && at.micros_since(open.start) < self.length_us
        };
        if !self.open.as_ref().is_some_and(goes_on) {
            self.flush(tell);
        }
        let begun = || Open { start: at, last: at, features: Features::new(at, self.detail) };
        let open = self.open.get_or_insert_with(begun);
        open.last = at;
        open.features.push(at, value);
    }

    /// When the open one began.
    pub fn begun(&self) -> Option<Wall> {
        self.open.as_ref().map(|open| open.start)
    }

    /// Ends the session if nothing up to `to` belongs to it; returns its end.
    pub fn close_to(&mut self, to: Wall, tell: &mut impl FnMut(&Window)) -> Option<Wall> {
        let end = self.open.as_ref().map(|open| open.last)?;
        (to.micros_since(end) > self.gap_us).then(|| self.flush(tell)).map(|()| end)
    }

    pub fn flush(&mut self, tell: &mut impl FnMut(&Window)) {
        if let Some(Open { start, last, features }) = self.open.take() {
            tell(&Window { start, length_ms: millis_up(last.micros_since(start)).max(1), features });
        }
    }
}
