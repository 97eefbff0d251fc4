//! The uplink step by step: order, windows, resending, refusals.

mod lost;

use super::*;
use crate::limits::{UPLINK_CUTS_MAX, UPLINK_REFUSALS_MAX};
use crate::wire::ack::LaneAck;
use std::collections::BTreeMap;

/// A spool that answers at once: first number to (last number, size).
#[derive(Default)]
struct Shelf {
    blocks: BTreeMap<(Lane, u64), (u64, usize)>,
}

struct Rig {
    uplink: Uplink,
    shelf: Shelf,
    now: Mono,
    /// Published and not yet answered, in order.
    sent: Vec<(u64, BlockId, bool)>,
    rest: Vec<Output>,
}

impl Rig {
    fn new(options: UplinkOptions) -> Self {
        let mut uplink = Uplink::new(options, 7);
        for &lane in Lane::ALL {
            uplink.step(Mono(0), Input::Tail { lane, oldest: 1, next_seq: 1 });
        }
        Self { uplink, shelf: Shelf::default(), now: Mono(1), sent: Vec::new(), rest: Vec::new() }
    }

    fn add(&mut self, lane: Lane, first: u64, last: u64, bytes: usize) {
        self.shelf.blocks.insert((lane, first), (last, bytes));
        self.step(Input::Tail { lane, oldest: 1, next_seq: last + 1 });
    }

    fn up(&mut self) {
        self.step(Input::LineUp { receive_max: 100, packet_bytes_max: 200_000 });
    }

    fn step(&mut self, input: Input) {
        let mut todo = vec![input];
        while let Some(input) = todo.pop() {
            for output in self.uplink.step(self.now, input) {
                match output {
                    Output::Fetch { lane, from } => {
                        todo.push(Input::Fetched { lane, block: self.shelf.at(lane, from) })
                    }
                    Output::Publish { token, id, historical, .. } => self.sent.push((token, id, historical)),
                    other => self.rest.push(other),
                }
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.step(Input::Tick);
    }

    fn answer(&mut self, at: usize, result: Result<Audience, u8>) {
        let (token, ..) = self.sent[at];
        self.step(Input::PubAck { token, result });
    }

    fn ack(&mut self, lane: Lane, through: u64, also: &[(u64, u64)]) {
        let lane = LaneAck { lane, epoch: 7, through, also: also.to_vec() };
        self.step(Input::Ack(AckMessage { lanes: vec![lane] }));
    }

    fn sent_firsts(&self) -> Vec<(Lane, u64)> {
        self.sent.iter().map(|(_, id, _)| (id.lane, id.first)).collect()
    }
}

impl Shelf {
    fn at(&self, lane: Lane, from: u64) -> Option<Block> {
        let mut lane_blocks = self.blocks.range((lane, 0)..=(lane, u64::MAX));
        let (&(_, first), &(last, bytes)) = lane_blocks.find(|(_, b)| b.0 >= from)?;
        Some(Block { id: BlockId { lane, first, last }, payload: vec![0; bytes] })
    }
}

fn options() -> UplinkOptions {
    UplinkOptions { window_blocks: 4, ..UplinkOptions::default() }
}

#[test]
fn lanes_go_in_their_precedence_whatever_order_they_were_filled_in() {
    let mut rig = Rig::new(UplinkOptions::default());
    for lane in [Lane::Raw, Lane::Metric, Lane::Digest, Lane::Alarm] {
        rig.add(lane, 1, 5, 100);
        rig.add(lane, 6, 9, 100);
    }
    rig.up();
    let lanes: Vec<Lane> = rig.sent.iter().map(|s| s.1.lane).collect();
    let expected: Vec<Lane> = Lane::ALL.iter().flat_map(|&lane| [lane, lane]).collect();
    assert_eq!(lanes, expected);
    assert!(rig.sent.iter().all(|s| s.2), "what waited is historical");
}

#[test]
fn a_fresh_alarm_overtakes_a_full_window_of_backlog() {
    let mut rig = Rig::new(UplinkOptions { window_blocks: 8, ..options() });
    for i in 0..50 {
        rig.add(Lane::Raw, 1 + 10 * i, 10 + 10 * i, 1000);
    }
    rig.up();
    assert_eq!(rig.sent.len(), 7, "an eighth is kept free");
    rig.add(Lane::Alarm, 1, 1, 100);
    assert_eq!(rig.sent[7].1.lane, Lane::Alarm);
    assert!(!rig.sent[7].2, "sealed since the line came up");
}

#[test]
fn the_window_is_the_smaller_of_ours_and_the_brokers() {
    let mut rig = Rig::new(UplinkOptions { window_blocks: 6, ..options() });
    (0..9).for_each(|i| rig.add(Lane::Alarm, 1 + i, 1 + i, 10));
    rig.step(Input::LineUp { receive_max: 2, packet_bytes_max: u32::MAX });
    assert_eq!(rig.sent.len(), 2);
    rig.answer(0, Ok(Audience::Unknown));
    assert_eq!((rig.sent.len(), rig.uplink.on_wire()), (3, 2));
}

#[test]
fn bytes_without_acknowledgement_are_bounded_while_pubacks_come() {
    let mut rig = Rig::new(UplinkOptions { unacked_bytes_max: 8000, ..options() });
    (0..60).for_each(|i| rig.add(Lane::Metric, 1 + i, 1 + i, 1000));
    rig.up();
    let mut at = 0;
    while at < rig.sent.len() {
        rig.answer(at, Ok(Audience::Unknown));
        at += 1;
    }
    assert_eq!((rig.sent.len(), rig.uplink.unacked_bytes()), (7, 7000));
    rig.ack(Lane::Metric, 3, &[]);
    assert!(rig.uplink.unacked_bytes() <= 7000 && rig.sent.len() == 10);
}

#[test]
fn a_puback_frees_the_window_and_releases_nothing() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Metric, 1, 9, 100);
    rig.up();
    rig.answer(0, Ok(Audience::Unknown));
    assert_eq!((rig.uplink.on_wire(), rig.rest.len()), (0, 0));
    rig.ack(Lane::Metric, 9, &[]);
    assert_eq!(rig.rest, [Output::Release { lane: Lane::Metric, through: 9, also: vec![] }]);
}

#[test]
fn with_the_broker_in_charge_its_puback_releases() {
    let mut rig = Rig::new(UplinkOptions { ack: AckMode::Broker, ..options() });
    (0..3).for_each(|i| rig.add(Lane::Alarm, 1 + i, 1 + i, 10));
    rig.up();
    rig.ack(Lane::Alarm, 3, &[]);
    assert_eq!(rig.rest, [], "nobody else's word counts");
    rig.answer(1, Ok(Audience::Unknown));
    rig.answer(0, Ok(Audience::Unknown));
    let release =
        |through, also: &[(u64, u64)]| Output::Release { lane: Lane::Alarm, through, also: also.to_vec() };
    assert_eq!(rig.rest, [release(0, &[(2, 2)]), release(2, &[])]);
}

#[test]
fn live_beats_backfill_and_backfill_keeps_its_share() {
    // A fifth of sixty; while nothing was sent yet nobody is behind its share, and live goes first.
    for (share, expected) in [(20, 12), (0, 0), (100, 59)] {
        let options = UplinkOptions { window_blocks: 1, ack: AckMode::Broker, ..options() };
        let mut rig = Rig::new(UplinkOptions { backfill_share_percent: share, ..options });
        (0..100).for_each(|i| rig.add(Lane::Metric, 1 + i, 1 + i, 1000));
        rig.up();
        for i in 100..200 {
            rig.add(Lane::Metric, 1 + i, 1 + i, 1000);
        }
        for at in 0..61 {
            rig.answer(at, Ok(Audience::Unknown));
        }
        let historical = rig.sent[1..61].iter().filter(|s| s.2).count();
        assert_eq!(historical, expected, "{share} %");
        let live: Vec<u64> = rig.sent.iter().filter(|s| !s.2).map(|s| s.1.first).collect();
        assert!(live.is_sorted() && !rig.sent[1].2, "{share} %: live goes first");
    }
}

#[test]
fn the_announced_block_goes_before_even_an_alarm_and_again_after_every_cut() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Alarm, 1, 4, 100);
    rig.add(Lane::Digest, 1, 1, 100);
    rig.step(Input::ExpectFirst);
    rig.up();
    rig.wait(2000);
    assert_eq!(rig.sent, [], "everything waits for it");
    rig.add(Lane::Digest, 2, 2, 100);
    let first = BlockId { lane: Lane::Digest, first: 2, last: 2 };
    rig.step(Input::First(first));
    assert_eq!(rig.sent_firsts(), [(Lane::Digest, 2), (Lane::Alarm, 1), (Lane::Digest, 1)]);
    rig.step(Input::LineDown { by_broker: None });
    rig.sent.clear();
    rig.up();
    assert_eq!(rig.sent_firsts(), [(Lane::Digest, 2), (Lane::Alarm, 1), (Lane::Digest, 1)]);
    rig.ack(Lane::Digest, 0, &[(2, 2)]);
    rig.step(Input::LineDown { by_broker: None });
    rig.sent.clear();
    rig.shelf.blocks.remove(&(Lane::Digest, 2));
    rig.up();
    assert_eq!(rig.sent_firsts(), [(Lane::Alarm, 1), (Lane::Digest, 1)]);
}

#[test]
fn a_first_block_that_never_comes_or_is_gone_holds_nobody_for_long() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Alarm, 1, 4, 100);
    rig.step(Input::ExpectFirst);
    rig.up();
    assert_eq!(rig.uplink.deadline(), Some(Mono(1) + Duration::from_secs(3)));
    rig.wait(3000);
    assert_eq!(rig.sent_firsts(), [(Lane::Alarm, 1)]);
    rig.add(Lane::Alarm, 5, 5, 10);
    rig.step(Input::First(BlockId { lane: Lane::Digest, first: 9, last: 9 }));
    rig.add(Lane::Alarm, 6, 6, 10);
    assert_eq!(rig.sent.len(), 3);
}

#[test]
fn a_cut_forgets_what_was_in_flight_and_resumes_at_the_oldest_unacknowledged() {
    let mut rig = Rig::new(options());
    (0..4).for_each(|i| rig.add(Lane::Alarm, 1 + i, 1 + i, 10));
    rig.up();
    let stale = rig.sent[0].0;
    rig.ack(Lane::Alarm, 1, &[(3, 3)]);
    rig.step(Input::LineDown { by_broker: None });
    assert_eq!((rig.uplink.on_wire(), rig.uplink.unacked_bytes(), rig.uplink.deadline()), (0, 0, None));
    rig.sent.clear();
    rig.up();
    assert_eq!(rig.sent_firsts(), [(Lane::Alarm, 2), (Lane::Alarm, 4)]);
    rig.step(Input::PubAck { token: stale, result: Ok(Audience::Unknown) });
    assert_eq!(rig.uplink.on_wire(), 2, "an answer of the old session is nobody's");
}

#[test]
fn an_acknowledgement_of_another_epoch_or_beyond_the_tail_releases_nothing() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Alarm, 1, 4, 10);
    rig.up();
    let foreign = LaneAck { lane: Lane::Alarm, epoch: 8, through: 4, also: vec![] };
    rig.step(Input::Ack(AckMessage { lanes: vec![foreign] }));
    assert_eq!(rig.rest, []);
    rig.ack(Lane::Alarm, 5, &[]);
    rig.ack(Lane::Alarm, 0, &[(2, u64::MAX)]);
    assert!(rig.rest.len() == 2 && rig.rest.iter().all(|o| matches!(o, Output::AckBeyondTail { .. })));
}

#[test]
fn a_block_refused_for_what_it_is_never_gets_released_and_holds_up_nobody() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Metric, 1, 1, 10);
    rig.up();
    let mut tries = 0;
    for _ in 0..600 {
        if rig.sent.len() > tries {
            tries = rig.sent.len();
            rig.answer(tries - 1, Err(0x99));
        }
        rig.wait(100);
    }
    assert_eq!(tries, UPLINK_REFUSALS_MAX as usize);
    let aside: Vec<bool> = rig
        .rest
        .iter()
        .map(|o| matches!(o, Output::Refused { code: 0x99, set_aside: true, poison: true, .. }))
        .collect();
    assert_eq!(aside, [false, false, false, false, true]);
    assert!(rig.uplink.has_set_aside());
    rig.add(Lane::Metric, 2, 2, 10);
    assert_eq!(rig.sent_firsts()[tries..], [(Lane::Metric, 2)]);
    rig.step(Input::LineDown { by_broker: None });
    assert!(!rig.uplink.has_set_aside(), "the next session may take it");
    rig.up();
    assert_eq!(
        rig.sent_firsts()[tries + 1..],
        [(Lane::Metric, 1), (Lane::Metric, 2)],
        "a new session tries again"
    );
}

/// A broker that hangs up on one block and takes all others: what it takes is answered, block by block.
fn hang_up_on(rig: &mut Rig, poison: (Lane, u64), sessions: u32) -> Vec<(Lane, u64)> {
    let mut order = Vec::new();
    for _ in 0..sessions {
        rig.sent.clear();
        rig.up();
        for _ in 0..100 {
            let Some(at) = (0..rig.sent.len()).find(|at| !order.contains(&rig.sent_firsts()[*at])) else {
                rig.wait(10_000);
                continue;
            };
            if rig.sent_firsts()[at] == poison {
                break;
            }
            order.push(rig.sent_firsts()[at]);
            rig.answer(at, Ok(Audience::Unknown));
        }
        rig.step(Input::LineDown { by_broker: Some(0x95) });
    }
    order
}

fn buried(rig: &Rig) -> Vec<&Output> {
    rig.rest.iter().filter(|o| matches!(o, Output::Refused { .. })).collect()
}

#[test]
fn a_block_on_which_the_broker_hangs_up_comes_last_and_ends_as_a_dead_letter_if_others_are_taken() {
    let mut rig = Rig::new(UplinkOptions { ack: AckMode::Broker, ..options() });
    (0..9).for_each(|i| rig.add(Lane::Metric, 1 + i, 1 + i, 10));
    rig.add(Lane::Raw, 1, 1, 10);
    let order = hang_up_on(&mut rig, (Lane::Metric, 3), UPLINK_CUTS_MAX);
    assert_eq!(order, [(Lane::Metric, 1), (Lane::Metric, 2)], "it may be chance at first");
    let mut order = hang_up_on(&mut rig, (Lane::Metric, 3), UPLINK_REFUSALS_MAX - 1);
    // Those that were on the wire with it go alone as well.
    assert!(order.iter().take(3).all(|(lane, n)| *lane == Lane::Metric && *n > 6), "{order:?}");
    order.sort();
    let others = [4, 5, 6, 7, 8, 9].map(|n| (Lane::Metric, n));
    assert_eq!(order, [&others[..], &[(Lane::Raw, 1)]].concat());
    assert_eq!(buried(&rig), [] as [&Output; 0]);
    hang_up_on(&mut rig, (Lane::Metric, 3), 1);
    let id = BlockId { lane: Lane::Metric, first: 3, last: 3 };
    assert_eq!(buried(&rig), [&Output::Refused { id, code: 0x95, set_aside: true, poison: true }]);
}

/// A broker that may not be published to on one topic can only hang up in MQTT 3.1.1.
#[test]
fn where_the_broker_takes_nothing_of_a_lane_nothing_is_given_up_and_other_lanes_go_on() {
    let mut rig = Rig::new(options());
    (0..3).for_each(|i| rig.add(Lane::Digest, 1 + i, 1 + i, 10));
    let mut taken = 0;
    for session in 0..60 {
        rig.add(Lane::Raw, 1 + session, 1 + session, 10);
        rig.sent.clear();
        rig.up();
        for _ in 0..40 {
            if rig.sent_firsts().iter().any(|(lane, _)| *lane == Lane::Digest) {
                break;
            }
            if let Some(last) = rig.sent.last().map(|s| s.1.last).filter(|last| *last > taken) {
                taken = last;
                rig.answer(rig.sent.len() - 1, Ok(Audience::Unknown));
                rig.ack(Lane::Raw, last, &[]);
            }
            rig.wait(10_000);
        }
        rig.step(Input::LineDown { by_broker: Some(0x80) });
    }
    assert!(taken > 40, "{taken}");
    assert_eq!(buried(&rig), [] as [&Output; 0]);
}

#[test]
fn a_line_that_comes_and_goes_by_itself_casts_no_doubt_on_anything() {
    let mut rig = Rig::new(options());
    (0..3).for_each(|i| rig.add(Lane::Metric, 1 + i, 1 + i, 10));
    for _ in 0..50 {
        rig.sent.clear();
        rig.up();
        assert_eq!(rig.sent_firsts(), [(Lane::Metric, 1), (Lane::Metric, 2), (Lane::Metric, 3)]);
        rig.step(Input::LineDown { by_broker: None });
    }
    assert_eq!(buried(&rig), [] as [&Output; 0]);
}

/// A trial for which the budget gives no leave, or too little, is nobody's reason to leave the wire empty.
#[test]
fn a_trial_without_leave_holds_up_nobody() {
    for leave in [0, 300] {
        let mut rig = Rig::new(options());
        rig.add(Lane::Raw, 1, 1, 10);
        hang_up_on(&mut rig, (Lane::Raw, 1), UPLINK_CUTS_MAX);
        rig.sent.clear();
        rig.uplink.allow([u64::MAX, u64::MAX, u64::MAX, leave]);
        rig.up();
        rig.wait(60_000);
        rig.add(Lane::Metric, 1, 1, 10);
        rig.uplink.allow([u64::MAX, u64::MAX, u64::MAX, leave]);
        rig.add(Lane::Metric, 2, 2, 10);
        assert_eq!(rig.sent_firsts(), [(Lane::Metric, 1), (Lane::Metric, 2)], "beside each other");
        rig.uplink.allow([u64::MAX; 4]);
        (0..2).for_each(|at| rig.answer(at, Ok(Audience::Unknown)));
        assert_eq!(rig.sent_firsts()[2..], [(Lane::Raw, 1)]);
    }
}

/// While a doubtful block is on the wire alone, an alarm goes all the same.
#[test]
fn an_alarm_waits_for_no_trial() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Metric, 1, 1, 10);
    hang_up_on(&mut rig, (Lane::Metric, 1), UPLINK_CUTS_MAX);
    rig.sent.clear();
    rig.up();
    rig.wait(60_000);
    rig.add(Lane::Metric, 2, 2, 10);
    rig.add(Lane::Alarm, 1, 1, 10);
    assert_eq!(rig.sent_firsts(), [(Lane::Metric, 1), (Lane::Alarm, 1)], "the wire is the first one's");
    rig.answer(0, Ok(Audience::Unknown));
    assert_eq!(rig.sent_firsts()[2..], [(Lane::Metric, 2)]);
}

#[test]
fn a_block_refused_without_a_reason_holds_up_nobody_and_is_given_up_only_if_others_are_taken() {
    for others in [false, true] {
        let mut rig = Rig::new(UplinkOptions { ack: AckMode::Broker, ..options() });
        rig.add(Lane::Metric, 1, 1, 10);
        rig.up();
        let (mut answered, mut next) = (0, 2);
        for second in 0..2000 {
            while answered < rig.sent.len() {
                let is_poison = rig.sent_firsts()[answered] == (Lane::Metric, 1);
                let taken = others && !is_poison;
                answered += 1;
                rig.answer(answered - 1, if taken { Ok(Audience::Unknown) } else { Err(0x80) });
            }
            if second % 100 == 0 {
                rig.add(Lane::Metric, next, next, 10);
                next += 1;
            }
            rig.wait(1000);
        }
        let given_up =
            buried(&rig).iter().filter(|o| matches!(o, Output::Refused { poison: true, .. })).count();
        assert_eq!(given_up, usize::from(others));
        if others {
            let released = rig.rest.iter().filter(|o| matches!(o, Output::Release { .. })).count();
            assert_eq!(released as u64, next - 2, "all others");
        }
    }
}

/// The disk does not give back what one lane wants: the others go on, and that lane as soon as it does.
#[test]
fn a_lane_that_cannot_be_read_holds_up_nobody() {
    let mut uplink = Uplink::new(UplinkOptions::default(), 7);
    for lane in [Lane::Digest, Lane::Raw] {
        uplink.step(Mono(1), Input::Tail { lane, oldest: 1, next_seq: 2 });
    }
    let asked = uplink.step(Mono(1), Input::LineUp { receive_max: 9, packet_bytes_max: u32::MAX });
    assert_eq!(asked, [Output::Fetch { lane: Lane::Digest, from: 1 }]);
    let asked = uplink.step(Mono(1), Input::Unreadable { lane: Lane::Digest });
    assert_eq!(asked, [Output::Fetch { lane: Lane::Raw, from: 1 }]);
    let later = uplink.deadline().unwrap();
    assert_eq!(later, Mono(1) + Duration::from_secs(1));
    uplink.step(Mono(2), Input::Fetched { lane: Lane::Raw, block: None });
    assert_eq!(uplink.step(later, Input::Tick)[0], Output::Fetch { lane: Lane::Digest, from: 1 });
}

/// It was asked for again at once, for ever, and nobody came to hear anything else.
#[test]
fn a_first_block_that_cannot_be_read_is_waited_for_while_the_others_go() {
    let mut uplink = Uplink::new(UplinkOptions::default(), 7);
    for lane in [Lane::Digest, Lane::Raw] {
        uplink.step(Mono(1), Input::Tail { lane, oldest: 1, next_seq: 2 });
    }
    uplink.step(Mono(1), Input::First(BlockId { lane: Lane::Digest, first: 1, last: 1 }));
    let asked = uplink.step(Mono(1), Input::LineUp { receive_max: 9, packet_bytes_max: u32::MAX });
    assert_eq!(asked, [Output::Fetch { lane: Lane::Digest, from: 1 }]);
    let asked = uplink.step(Mono(1), Input::Unreadable { lane: Lane::Digest });
    assert_eq!(asked, [Output::Fetch { lane: Lane::Raw, from: 1 }]);
    let later = uplink.deadline().unwrap();
    uplink.step(Mono(2), Input::Fetched { lane: Lane::Raw, block: None });
    assert_eq!(uplink.step(later, Input::Tick)[0], Output::Fetch { lane: Lane::Digest, from: 1 });
}

#[test]
fn a_block_larger_than_the_brokers_packets_is_named_and_passed_over() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Metric, 1, 1, 5000);
    rig.add(Lane::Metric, 2, 2, 10);
    rig.step(Input::LineUp { receive_max: 9, packet_bytes_max: 4096 });
    assert_eq!(rig.sent_firsts(), [(Lane::Metric, 2)]);
    assert!(matches!(rig.rest[..], [Output::Refused { code: 0x95, set_aside: true, poison: false, .. }]));
}

/// What lay before it is gone from the spool, and nothing stands in for it.
#[test]
fn a_block_too_large_behind_a_hole_is_looked_for_once() {
    for backfill in [true, false] {
        let mut rig = Rig::new(options());
        let up = Input::LineUp { receive_max: 9, packet_bytes_max: 4096 };
        if !backfill {
            rig.step(up.clone());
        }
        rig.add(Lane::Metric, 1, 1, 10);
        rig.shelf.blocks.insert((Lane::Metric, 5), (6, 5000));
        rig.add(Lane::Metric, 7, 7, 10);
        if backfill {
            rig.step(up);
        }
        assert_eq!(rig.sent_firsts(), [(Lane::Metric, 1), (Lane::Metric, 7)]);
        assert_eq!(rig.rest.len(), 1, "{:?}", rig.rest);
    }
}

/// The store's "nothing there" was overtaken by a commit: the new block must not be skipped.
#[test]
fn an_answer_older_than_the_newest_commit_skips_nothing() {
    let mut uplink = Uplink::new(options(), 7);
    let tail = |next_seq| Input::Tail { lane: Lane::Raw, oldest: 1, next_seq };
    uplink.step(Mono(1), tail(1));
    uplink.step(Mono(1), Input::LineUp { receive_max: 9, packet_bytes_max: u32::MAX });
    let asked = uplink.step(Mono(1), tail(5));
    assert_eq!(asked, [Output::Fetch { lane: Lane::Raw, from: 1 }]);
    uplink.step(Mono(1), tail(9));
    let next = uplink.step(Mono(1), Input::Fetched { lane: Lane::Raw, block: None });
    assert_eq!(next, [Output::Fetch { lane: Lane::Raw, from: 5 }]);
}

#[test]
fn a_lane_without_leave_waits_in_its_order_and_holds_up_nobody() {
    let mut rig = Rig::new(options());
    rig.uplink.allow([u64::MAX, u64::MAX, u64::MAX, 0]);
    rig.add(Lane::Raw, 1, 5, 100);
    rig.add(Lane::Raw, 6, 9, 100);
    rig.add(Lane::Metric, 1, 1, 100);
    rig.add(Lane::Alarm, 1, 1, 100);
    rig.up();
    assert_eq!(rig.sent_firsts(), [(Lane::Alarm, 1), (Lane::Metric, 1)]);
    // Leave for one block, what surrounds it on the line included.
    rig.uplink.allow([u64::MAX, u64::MAX, u64::MAX, 700]);
    rig.step(Input::Tick);
    assert_eq!(rig.sent_firsts()[2..], [(Lane::Raw, 1)]);
    rig.uplink.allow([u64::MAX; 4]);
    rig.step(Input::Tick);
    assert_eq!(rig.sent_firsts()[3..], [(Lane::Raw, 6)]);
}

/// A line in virtual time: so many bytes a second, the same delay both ways, PUBACKs at once at the other end.
struct VirtualLine {
    bytes_per_s: u64,
    delay: Duration,
    /// When what is on its way has left the gateway's end.
    free: Mono,
    /// Arrival at the broker, token, block and bytes, in order.
    under_way: std::collections::VecDeque<(Mono, u64, BlockId, usize)>,
}

impl VirtualLine {
    fn new(kbit_per_s: u64, delay_ms: u64) -> Self {
        let delay = Duration::from_millis(delay_ms);
        Self { bytes_per_s: kbit_per_s * 125, delay, free: Mono(0), under_way: Default::default() }
    }

    fn takes(&self, bytes: usize) -> Duration {
        Duration::from_micros(bytes as u64 * 1_000_000 / self.bytes_per_s)
    }

    fn send(&mut self, now: Mono, token: u64, id: BlockId, bytes: usize) {
        self.free = self.free.max(now) + self.takes(bytes);
        self.under_way.push_back((self.free + self.delay, token, id, bytes));
    }
}

const BLOCK: usize = crate::limits::SPOOL_BLOCK_BYTES_MAX;
const ALARM: usize = 300;

/// Two minutes with a backlog without end and an alarm in it: the share of the line that was used after the first five
/// seconds, and how long the alarm was on its way.
fn backlog_on(mut line: VirtualLine) -> (f64, Duration) {
    let options = UplinkOptions { ack: AckMode::Broker, ..UplinkOptions::default() };
    let mut uplink = Uplink::new(options, 7);
    let s = Duration::from_secs;
    let (settled, raised, end) = (Mono(0) + s(5), Mono(0) + s(100), Mono(0) + s(120));
    let tail = |lane, next_seq| Input::Tail { lane, oldest: 1, next_seq };
    let mut todo = vec![
        Input::LineUp { receive_max: 100, packet_bytes_max: u32::MAX },
        tail(Lane::Alarm, 1),
        tail(Lane::Raw, 1_000_000),
    ];
    let (mut now, mut delivered, mut alarm, mut is_raised) = (Mono(0), 0, None, false);
    while now < end {
        while let Some(input) = todo.pop() {
            for output in uplink.step(now, input) {
                match output {
                    Output::Fetch { lane, from } => {
                        let bytes = if lane == Lane::Alarm { ALARM } else { BLOCK };
                        let id = BlockId { lane, first: from, last: from };
                        todo.push(Input::Fetched {
                            lane,
                            block: Some(Block { id, payload: vec![0; bytes] }),
                        });
                    }
                    Output::Publish { token, id, payload, .. } => line.send(now, token, id, payload.len()),
                    _ => {}
                }
            }
        }
        let next = line.under_way.front().expect("a backlog never leaves the line alone").0 + line.delay;
        if !is_raised && next >= raised {
            is_raised = true;
            now = raised;
            todo.push(tail(Lane::Alarm, 2));
            continue;
        }
        let Some((at, token, id, bytes)) = line.under_way.pop_front() else { continue };
        now = next;
        delivered += if now > settled && now <= end { bytes as u64 } else { 0 };
        if id.lane == Lane::Alarm {
            alarm = Some(at.since(raised));
        }
        todo.push(Input::PubAck { token, result: Ok(Audience::Unknown) });
    }
    let could = line.bytes_per_s * end.since(settled).as_secs();
    (delivered as f64 / could as f64, alarm.expect("the alarm arrives"))
}

/// On an empty line the alarm would need its own bytes and the delay.
#[test]
fn a_backlog_fills_the_line_and_an_alarm_is_hardly_later_than_on_an_empty_one() {
    for (kbit_per_s, delay_ms) in
        [(1_000, 50), (5_000, 50), (10_000, 50), (20_000, 50), (5_000, 300), (10_000, 300)]
    {
        let line = VirtualLine::new(kbit_per_s, delay_ms);
        let alone = line.takes(ALARM) + line.delay;
        let (used, alarm) = backlog_on(line);
        assert!(used >= 0.94, "{kbit_per_s} kbit/s, {delay_ms} ms: {used:.3} of the line is used");
        let later = alarm.saturating_sub(alone);
        assert!(later < Duration::from_secs(1), "{kbit_per_s} kbit/s, {delay_ms} ms: {later:?} later");
    }
}

/// A block can't be interrupted: where one takes seconds, an alarm waits for one.
#[test]
fn on_a_thin_line_an_alarm_waits_for_one_block() {
    for (kbit_per_s, delay_ms) in [(64, 50), (128, 300), (256, 50)] {
        let line = VirtualLine::new(kbit_per_s, delay_ms);
        let wait = line.takes(BLOCK) + line.takes(ALARM) + line.delay;
        let (_, alarm) = backlog_on(line);
        assert!(alarm < wait + Duration::from_secs(1), "{kbit_per_s} kbit/s: {alarm:?} instead of {wait:?}");
    }
}
