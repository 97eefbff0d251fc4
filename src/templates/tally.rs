//! How often each template came within a window, and what was never seen before.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Miner, Saved, TemplateId};
use crate::limits;

/// Counts the lines of one stream per template and window.
///
/// The first [`limits::TEMPLATE_CHANNELS_MAX`] templates are counted each on its own, until they have to go; what comes
/// beyond is counted together. While it learns, nothing is news: `learn_windows` are counted over all runs.
#[derive(Debug)]
pub struct Tally {
    miner: Miner,
    learn_windows: u64,
    windows: u64,
    own: Vec<(TemplateId, u64)>,
    places: HashMap<TemplateId, usize>,
    now: Sums,
    news: Vec<TemplateId>,
    saved_at: Option<u64>,
}

/// What is counted whatever the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sums {
    lines: u64,
    other: u64,
    fresh: u64,
}

/// One window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Lines of all kinds.
    pub lines: u64,
    /// Templates that began.
    pub fresh: u64,
    /// Lines of templates that are not counted on their own.
    pub other: u64,
    /// Of each template that is, noughts included.
    pub own: Vec<(TemplateId, u64)>,
    /// Those of them that had to go: this is their last count.
    pub ended: Vec<TemplateId>,
    /// Texts of the first few templates that were never seen before; none while it learns.
    pub news: Vec<String>,
    /// Templates that were never seen before, those beyond `news` included; nought while it learns.
    pub news_total: u64,
}

/// What is kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Windows that were counted.
    pub windows: u64,
    /// The templates.
    pub templates: Vec<Saved>,
    /// Those that are counted on their own.
    pub own: Vec<TemplateId>,
}

impl Tally {
    /// Goes on where `memory` ended.
    pub fn new(memory: &Memory, learn_windows: u64) -> Self {
        let own: Vec<_> = memory.own.iter().take(limits::TEMPLATE_CHANNELS_MAX).map(|id| (*id, 0)).collect();
        Self {
            miner: Miner::with_saved(&memory.templates),
            learn_windows,
            windows: memory.windows,
            places: own.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect(),
            own,
            now: Sums::default(),
            news: Vec::new(),
            saved_at: None,
        }
    }

    /// Counts a line.
    pub fn take(&mut self, line: &str) {
        let Some(mined) = self.miner.take(line) else { return };
        self.now.lines += 1;
        if mined.fresh {
            self.now.fresh += 1;
            if self.news.len() < limits::TEMPLATE_NEWS_MAX {
                self.news.push(mined.id);
            }
        }
        match self.place(mined.id) {
            Some(at) => self.own[at].1 += 1,
            None => self.now.other += 1,
        }
    }

    /// Ends the window.
    pub fn close(&mut self) -> Counts {
        let learning = self.windows < self.learn_windows;
        self.windows = self.windows.saturating_add(1);
        let news = std::mem::take(&mut self.news);
        let Sums { lines, other, fresh } = std::mem::take(&mut self.now);
        let counts = Counts {
            lines,
            fresh,
            other,
            own: self.own.clone(),
            ended: self.own.iter().map(|(id, _)| *id).filter(|id| !self.miner.knows(*id)).collect(),
            news: news.iter().filter(|_| !learning).filter_map(|id| self.miner.text(*id)).collect(),
            news_total: if learning { 0 } else { fresh },
        };
        self.forget(&counts.ended);
        self.own.iter_mut().for_each(|(_, n)| *n = 0);
        counts
    }

    /// The text of a template; none if it had to go.
    pub fn text(&self, id: TemplateId) -> Option<String> {
        self.miner.text(id)
    }

    /// What is to be kept, if the templates have changed since it was last asked for, or much time of learning has passed.
    pub fn memory_if_changed(&mut self) -> Option<Memory> {
        let version = self.miner.changes() + self.windows.min(self.learn_windows) / SAVE_WINDOWS;
        if self.saved_at.replace(version) == Some(version) {
            return None;
        }
        Some(Memory {
            windows: self.windows,
            templates: self.miner.saved(),
            own: self.own.iter().map(|(id, _)| *id).collect(),
        })
    }

    /// Gives the places of templates that had to go to others.
    fn forget(&mut self, ended: &[TemplateId]) {
        if !ended.is_empty() {
            self.own.retain(|(id, _)| !ended.contains(id));
            self.places = self.own.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
        }
    }

    fn place(&mut self, id: TemplateId) -> Option<usize> {
        if let Some(at) = self.places.get(&id) {
            return Some(*at);
        }
        if self.own.len() >= limits::TEMPLATE_CHANNELS_MAX {
            return None;
        }
        self.places.insert(id, self.own.len());
        self.own.push((id, 0));
        Some(self.own.len() - 1)
    }
}

/// So many windows of learning may be forgotten by a crash.
const SAVE_WINDOWS: u64 = 16;
