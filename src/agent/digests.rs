//! When to word, and of what: a period once it has news, an outage once it is over.

use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;

use super::assemble::Mark;
use super::line::OutageOver;
use super::shared::evicted;
use super::{AgentError, Shared};
use crate::ask;
use crate::clock;
use crate::facts::{Facts, Outage};
use crate::limits;
use crate::spool::StoreError;
use crate::time::Mono;
use crate::wire::{BlockId, Record};

/// Runs until nobody asks any more.
///
/// A new or ended episode is worded [`limits::DIGEST_SETTLE_MS`] later, so that what belongs together is told
/// together; without news a digest comes every [`super::AgentOptions::digest_every`].
pub(super) async fn run(
    shared: Rc<Shared>,
    outages: Receiver<OutageOver>,
    first: Sender<BlockId>,
) -> Result<(), AgentError> {
    let mut period = Period { begun: clock::mono(), mark: Mark::default(), news: 0 };
    let mut news_since: Option<Mono> = None;
    // A digest that a bigger model takes its time over; an outage does not wait for it.
    let mut wording: Option<Wording<'_>> = None;
    loop {
        let worded = async {
            match &mut wording {
                Some(future) => Err(future.await),
                None => smol::future::pending().await,
            }
        };
        let news = match async { Ok(next(&outages).await) }.or(worded).await {
            Ok(news) => news,
            Err(outcome) => {
                outcome?;
                wording = None;
                continue;
            }
        };
        match news {
            Some(Some(over)) => {
                let facts = outage_facts(&shared, over).await?;
                // The line's loop has ended: nothing is left to be first.
                if first.send(word(&shared, facts).await?).await.is_err() {
                    return Ok(());
                }
            }
            Some(None) if shared.options.digests && wording.is_none() => {
                let now = clock::mono();
                if shared.news.get() != period.news {
                    news_since.get_or_insert(now);
                }
                let settled = news_since.is_some_and(|since| now.since(since) >= SETTLE);
                if settled || now.since(period.begun) >= shared.options.digest_every {
                    let facts = period.turn(&shared);
                    news_since = None;
                    wording = Some(Box::pin(word(&shared, facts)));
                }
            }
            Some(None) => {}
            None => return Ok(()),
        }
    }
}

/// A digest on its way into the spool.
type Wording<'a> = Pin<Box<dyn Future<Output = Result<BlockId, AgentError>> + 'a>>;

/// What has not been worded yet.
struct Period {
    begun: Mono,
    mark: Mark,
    /// [`Shared::news`] when it began.
    news: u64,
}

impl Period {
    /// The facts of this period; the next one begins.
    fn turn(&mut self, shared: &Shared) -> Facts {
        let assembler = shared.assembler.borrow();
        let facts = assembler.facts(&self.mark);
        *self = Self { begun: clock::mono(), mark: assembler.mark(), news: shared.news.get() };
        facts
    }
}

const SETTLE: Duration = Duration::from_millis(limits::DIGEST_SETTLE_MS);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// An outage to report, or nothing but time passed; `None` when the line's loop has ended.
async fn next(outages: &Receiver<OutageOver>) -> Option<Option<OutageOver>> {
    let asked = async { outages.recv().await.ok().map(Some) };
    let passed = async {
        smol::Timer::after(LOOK_EVERY).await;
        Some(None)
    };
    asked.or(passed).await
}

async fn outage_facts(shared: &Shared, over: OutageOver) -> Result<Facts, AgentError> {
    let spool = shared.store.status().await?;
    let mut facts = shared.assembler.borrow().facts(&over.mark);
    let lasted = over.to.mono.since(over.from.mono);
    let records_kept = spool.ledger.iter().map(|lane| lane.pending).sum();
    let records_lost = evicted(&spool).saturating_sub(over.evicted_before);
    // By the clock of now: it may have been set when the line came back.
    let from = clock::stamp().wall_of(over.from.mono);
    let to = Some(from + lasted);
    shared.keep_outage(ask::Outage { from, to, records_kept, records_lost });
    facts.outage = Some(Outage { start: from, duration_s: lasted.as_secs(), records_kept, records_lost });
    Ok(facts)
}

/// Words the facts and commits the digest; returns where it lies.
async fn word(shared: &Shared, mut facts: Facts) -> Result<BlockId, AgentError> {
    shared.set_right(&mut facts);
    let id = shared.next_digest_id();
    let digest = shared.glm.word(facts, shared.options.lang, id).await;
    shared.keep_brief(&digest);
    let cited = shared.store.admit_durable(vec![Record::Digest(digest)]).await?;
    let at = cited.first().ok_or(StoreError::Gone)?;
    Ok(BlockId { lane: at.lane, first: at.first, last: at.last })
}
