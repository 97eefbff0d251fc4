//! Looks at the clocks, keeps the book of boots beside the spool, and tells the far side what it learns.

use std::fs;
use std::rc::Rc;
use std::time::Duration;

use super::boots::{self, BootBook};
use super::{AgentError, Shared};
use crate::clock;
use crate::files::replace_file;
use crate::observe::{self, agent as events};
use crate::wire::Record;

/// Runs until the store is gone.
pub(super) async fn run(shared: Rc<Shared>, epoch: u64) -> Result<(), AgentError> {
    let file = shared.options.spool_dir.join(boots::FILE);
    let mut book = BootBook::decode(&fs::read(&file).unwrap_or_default(), epoch);
    *shared.boots.borrow_mut() = book.place();
    loop {
        let mut changed = book.look(&clock::stamp());
        let news = book.news();
        if !news.is_empty() {
            // Durable before it is noted as told: a cut in between tells it again, which changes nothing.
            shared.store.admit_durable(news.iter().copied().map(Record::Clock).collect()).await?;
            news.iter().for_each(|fix| observe::emit(&events::BootPlaced { fix }));
            book.told(&news);
            changed = true;
        }
        if changed {
            *shared.boots.borrow_mut() = book.place();
            let (file, bytes) = (file.clone(), book.encode());
            // A disk that refuses is tried again with the next change.
            if let Err(reason) = smol::unblock(move || replace_file(&file, &bytes)).await {
                observe::emit(&events::BootsNotKept { reason: &reason });
            }
        }
        smol::Timer::after(LOOK_EVERY).await;
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
