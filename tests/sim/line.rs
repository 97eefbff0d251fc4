//! The way between one gateway and its broker, and what waits on it.

use std::collections::VecDeque;

use outpost::sync::uplink::Audience;
use outpost::time::Mono;
use outpost::wire::Lane;

#[derive(Default)]
pub struct Line {
    pub up: bool,
    /// Half-open: nothing passes and the gateway has not noticed.
    pub silent_since: Option<Mono>,
    /// No connection before this time.
    pub parted_until: Mono,
    /// On its way to the broker, in order, each with the time of its arrival.
    pub wire: VecDeque<(Mono, Message)>,
    /// The broker's answers on their way back.
    pub answers: VecDeque<(Mono, u64, Result<Audience, u8>)>,
    /// The aggregator's acknowledgements, encoded; they wait at the broker while the line is down.
    pub acks: VecDeque<(Mono, Vec<u8>)>,
}

#[derive(Clone)]
pub enum Message {
    Block { token: u64, lane: Lane, payload: Vec<u8> },
    Heartbeat(Vec<u8>),
}

impl Line {
    pub fn passes(&self) -> bool {
        self.up && self.silent_since.is_none()
    }
}
