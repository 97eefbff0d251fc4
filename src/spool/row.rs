//! The drawers of one lane, and which of them to look into.

use ::sled::{Error, Tree};

use crate::limits;

use super::entry::{Entry, KEY_BYTES};

pub(super) type Key = [u8; KEY_BYTES];

/// The drawers of one lane, by their numbers.
#[derive(Default)]
pub(super) struct Row {
    pub drawers: Vec<Drawer>,
    /// Which one is being filled.
    pub current: usize,
    /// Those that hold blocks, by the first that each may hold.
    order: Vec<Reach>,
}

/// From where to where blocks may lie.
pub(super) struct Reach {
    /// The smallest key that its drawer may hold.
    pub first: Key,
    /// And the greatest.
    pub last: Key,
    /// The greatest key that it or any before it may hold. Drawers mostly follow each other, but need not.
    pub furthest: Key,
    pub drawer: usize,
}

/// A tree, and what is known of it without looking.
pub(super) struct Drawer {
    pub tree: Tree,
    /// What was put since it was last taken up.
    puts: usize,
    put_bytes: usize,
    pub blocks: usize,
    /// Smallest and greatest key since then.
    pub bounds: Option<(Key, Key)>,
}

impl Row {
    /// To be called when blocks were put or deleted: before that, new ones are not found.
    pub fn arrange(&mut self) {
        let held = |(drawer, it): (usize, &Drawer)| {
            let (first, last) = it.bounds.filter(|_| it.blocks > 0)?;
            Some(Reach { first, last, furthest: last, drawer })
        };
        self.order.clear();
        self.order.extend(self.drawers.iter().enumerate().filter_map(held));
        self.order.sort_unstable_by_key(|reach| reach.first);
        let mut furthest = [0; KEY_BYTES];
        for reach in &mut self.order {
            furthest = furthest.max(reach.last);
            reach.furthest = furthest;
        }
    }

    /// The drawers that may hold keys in `from..to` (end exclusive), by the first that each may hold.
    pub fn touching<'a>(
        &'a self,
        from: &'a [u8],
        to: &[u8],
    ) -> impl DoubleEndedIterator<Item = (&'a Reach, &'a Drawer)> + use<'a> {
        let end = self.order.partition_point(|reach| reach.first[..] < *to);
        let start = self.order[..end].partition_point(|reach| reach.furthest[..] < *from);
        let held = self.order[start..end].iter().filter(move |reach| reach.last[..] >= *from);
        held.map(|reach| (reach, &self.drawers[reach.drawer]))
    }
}

impl Drawer {
    pub fn new(tree: Tree) -> Self {
        Self { tree, puts: 0, put_bytes: 0, blocks: 0, bounds: None }
    }

    /// Looks at every block in `tree`.
    pub fn open(tree: Tree) -> Result<Self, Error> {
        let mut drawer = Self::new(tree);
        for item in drawer.tree.iter() {
            let (key, value) = item?;
            // Whatever else lies there is no block and is never looked for.
            if let Some(entry) = Entry::from_key(&key) {
                drawer.put(entry.key(), value.len(), true);
            }
        }
        Ok(drawer)
    }

    /// `new`: the block did not lie here before.
    pub fn put(&mut self, key: Key, bytes: usize, new: bool) {
        self.puts += 1;
        self.put_bytes += bytes;
        self.blocks += usize::from(new);
        let (first, last) = self.bounds.unwrap_or((key, key));
        self.bounds = Some((first.min(key), last.max(key)));
    }

    pub fn is_full(&self) -> bool {
        self.puts >= limits::SPOOL_DRAWER_BLOCKS && self.put_bytes >= limits::SPOOL_DRAWER_BYTES
    }

    /// Takes up a drawer that has become empty.
    pub fn clear(&mut self) {
        self.puts = 0;
        self.put_bytes = 0;
        self.bounds = None;
    }
}
