//! One request on its way: what was asked, what has been written, how much of it the cache holds.

use super::lookup::Lookup;
use super::request::{Ended, Event, Priority, Request, RequestId, Usage};
use crate::glm::sample::Sampler;
use crate::time::Mono;

/// Unread tokens up to this many are read in one go beside everybody's next token.
const SHORT_TOKENS: usize = 16;

pub(super) struct Sequence {
    pub id: RequestId,
    pub request: Request,
    /// Prompt and answer.
    pub tokens: Vec<u32>,
    /// Leading tokens that the slot holds.
    pub kept: usize,
    pub slot: Option<u32>,
    pub usage: Usage,
    sampler: Sampler,
    lookup: Option<Lookup>,
    submitted: Mono,
    seated: Option<Mono>,
    first_token: Option<Mono>,
}

/// What one sequence puts into a run.
pub(super) struct Part {
    pub id: RequestId,
    /// Tokens of the sequence that are read.
    pub tokens: usize,
    /// Tokens behind those that are only proposed.
    pub draft: Vec<u32>,
    /// Rows of logits it gets: none, or one and one per proposal.
    pub rows: usize,
}

impl Sequence {
    pub(super) fn new(id: RequestId, mut request: Request, now: Mono) -> Sequence {
        let prompt = std::mem::take(&mut request.prompt);
        Sequence {
            id,
            sampler: Sampler::new(request.sampling, &prompt),
            lookup: request.speculate.then(Lookup::new),
            usage: Usage { prompt_tokens: prompt.len() as u32, ..Usage::default() },
            tokens: prompt,
            request,
            kept: 0,
            slot: None,
            submitted: now,
            seated: None,
            first_token: None,
        }
    }

    pub(super) fn priority(&self) -> Priority {
        self.request.priority
    }

    /// Takes a slot whose first `cached` tokens are its own.
    pub(super) fn sit(&mut self, slot: u32, cached: usize, now: Mono) {
        self.slot = Some(slot);
        self.kept = cached;
        if self.seated.is_none() {
            self.seated = Some(now);
            self.usage.cached_tokens = cached as u32;
            self.usage.queued_us = micros(self.submitted, now);
        }
    }

    /// Gives up its slot, and gets to read everything again.
    pub(super) fn stand(&mut self) -> Option<u32> {
        self.kept = 0;
        self.slot.take()
    }

    /// Tokens that the cache does not hold yet.
    pub(super) fn unread(&self) -> usize {
        self.tokens.len() - self.kept
    }

    /// Whether it is past its prompt, as good as.
    pub(super) fn is_writing(&self) -> bool {
        self.unread() <= SHORT_TOKENS
    }

    /// The whole rest, with proposals if there is room: so many tokens and rows at most.
    pub(super) fn writing_part(&mut self, tokens_max: usize, rows_max: usize) -> Part {
        let unread = self.unread();
        // The answer ends where it has to end; what lies behind need not be proposed.
        let left = self.request.tokens_max.saturating_sub(self.answer().len() + 1);
        let room = tokens_max.saturating_sub(unread).min(rows_max.saturating_sub(1)).min(left);
        let draft = self.lookup.as_mut().map_or(Vec::new(), |lookup| lookup.draft(&self.tokens, room));
        Part { id: self.id, tokens: unread, rows: 1 + draft.len(), draft }
    }

    /// The next piece of a long prompt.
    pub(super) fn reading_part(&self, tokens_max: usize) -> Part {
        let tokens = self.unread().min(tokens_max);
        let is_last = tokens == self.unread();
        Part { id: self.id, tokens, draft: Vec::new(), rows: usize::from(is_last) }
    }

    /// Takes what a run gave it: the logits behind its last token and behind every proposal. Tells why it is over, if it is.
    pub(super) fn settle(
        &mut self,
        part: &Part,
        logits: &[f32],
        context_tokens: usize,
        events: &mut Vec<Event>,
        now: Mono,
    ) -> Option<Ended> {
        self.kept += part.tokens;
        if part.rows == 0 {
            return None;
        }
        if self.first_token.is_none() {
            self.first_token = Some(now);
            self.usage.prefill_us = micros(self.seated.unwrap_or(now), now);
        }
        let vocab = logits.len() / part.rows;
        let mut accepted = 0;
        let mut ended = None;
        for (row, logits) in logits.chunks_exact(vocab).enumerate() {
            let Some(token) = self.choose(logits) else {
                ended = Some(Ended::Stuck);
                break;
            };
            ended = self.append(token, context_tokens, events);
            let is_proposed = part.draft.get(row) == Some(&token);
            accepted += usize::from(is_proposed && ended.is_none());
            if ended.is_some() || !is_proposed {
                break;
            }
        }
        self.kept += accepted;
        self.usage.drafted_tokens += part.draft.len() as u32;
        self.usage.accepted_tokens += accepted as u32;
        if let Some(lookup) = &mut self.lookup {
            lookup.learn(part.draft.len(), accepted);
        }
        while ended.is_none()
            && let Some(token) = self.request.constraint.as_mut().and_then(|c| c.forced())
        {
            self.usage.forced_tokens += 1;
            ended = self.append(token, context_tokens, events);
        }
        ended
    }

    fn choose(&mut self, logits: &[f32]) -> Option<u32> {
        let constraint = self.request.constraint.as_mut();
        let Some(constraint) = constraint else { return self.sampler.pick(logits, None) };
        if let Some(token) = constraint.forced() {
            self.usage.forced_tokens += 1;
            return Some(token);
        }
        self.sampler.pick(logits, Some(constraint.mask()))
    }

    /// One more token of the answer.
    fn append(&mut self, token: u32, context_tokens: usize, events: &mut Vec<Event>) -> Option<Ended> {
        if let Some(constraint) = &mut self.request.constraint
            && constraint.advance(token).is_err()
        {
            return Some(Ended::Stuck);
        }
        if self.request.end_ids.contains(&token) {
            return Some(Ended::EndId(token));
        }
        self.sampler.note(token);
        self.tokens.push(token);
        self.usage.answer_tokens += 1;
        events.push(Event::Token { id: self.id, token });
        if self.answer().len() >= self.request.tokens_max {
            return Some(Ended::Length);
        }
        (self.tokens.len() >= context_tokens).then_some(Ended::Context)
    }

    fn answer(&self) -> &[u32] {
        &self.tokens[self.usage.prompt_tokens as usize..]
    }

    /// Whether it is over before its next run.
    pub(super) fn is_due_to_end(&self, now: Mono) -> Option<Ended> {
        if self.request.is_cancelled() {
            return Some(Ended::Cancelled);
        }
        self.request.deadline.is_some_and(|deadline| now > deadline).then_some(Ended::Deadline)
    }

    /// The last word.
    pub(super) fn end(mut self, why: Ended, now: Mono) -> Event {
        match (self.seated, self.first_token) {
            (None, _) => self.usage.queued_us = micros(self.submitted, now),
            (Some(seated), None) => self.usage.prefill_us = micros(seated, now),
            (_, Some(first)) => self.usage.decode_us = micros(first, now),
        }
        Event::Ended { id: self.id, why, usage: self.usage }
    }
}

fn micros(from: Mono, to: Mono) -> u64 {
    u64::try_from(to.since(from).as_micros()).unwrap_or(u64::MAX)
}
