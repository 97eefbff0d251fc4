//! What is lost behind the broker, and a broker that is busy.

use super::*;

#[test]
fn an_acknowledgement_that_never_comes_is_asked_for_again_ever_more_slowly() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Metric, 1, 9, 100);
    rig.up();
    let mut sent_at_s = Vec::new();
    for second in 0..1000 {
        let due = rig.sent.len() - sent_at_s.len();
        (0..due).for_each(|_| {
            sent_at_s.push(second);
            rig.answer(sent_at_s.len() - 1, Ok(Audience::Unknown));
        });
        rig.wait(1000);
    }
    let waits: Vec<i32> = sent_at_s.windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(waits, [30, 60, 120, 240, 240, 240]);
}

/// One block lost between broker and aggregator while its neighbours get through.
#[test]
fn a_single_lost_block_is_sent_again_alone() {
    let mut rig = Rig::new(options());
    (0..4).for_each(|i| rig.add(Lane::Alarm, 1 + i, 1 + i, 10));
    rig.up();
    (0..4).for_each(|at| rig.answer(at, Ok(Audience::Unknown)));
    rig.ack(Lane::Alarm, 1, &[(3, 4)]);
    rig.wait(30_000);
    assert_eq!(rig.sent_firsts()[4..], [(Lane::Alarm, 2)]);
}

#[test]
fn a_busy_broker_is_left_alone_for_a_while() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Alarm, 1, 1, 10);
    rig.up();
    rig.answer(0, Err(0x97));
    rig.add(Lane::Metric, 1, 1, 10);
    assert_eq!(rig.sent.len(), 1);
    rig.wait(1000);
    assert_eq!(rig.sent_firsts()[1..], [(Lane::Alarm, 1)], "one block shows whether it is over");
    rig.answer(1, Ok(Audience::Unknown));
    assert_eq!(rig.sent_firsts()[2..], [(Lane::Metric, 1)]);
}

#[test]
fn what_a_busy_broker_refuses_at_once_is_one_pause() {
    let mut rig = Rig::new(options());
    (1..=4).for_each(|i| rig.add(Lane::Alarm, i, i, 10));
    rig.up();
    (0..4).for_each(|at| rig.answer(at, Err(0x97)));
    rig.wait(999);
    assert_eq!(rig.sent.len(), 4);
    rig.wait(1);
    assert_eq!(rig.sent_firsts()[4..], [(Lane::Alarm, 1)]);
}

#[test]
fn a_pause_is_over_with_the_first_block_that_is_taken_even_if_it_was_acknowledged_before() {
    let mut rig = Rig::new(options());
    (1..=20).for_each(|i| rig.add(Lane::Metric, i, i, 10));
    rig.up();
    (1..7).for_each(|at| rig.answer(at, Ok(Audience::Unknown)));
    rig.answer(0, Err(0x97));
    (7..rig.sent.len()).for_each(|at| rig.answer(at, Err(0x97)));
    rig.wait(1000);
    assert_eq!(rig.uplink.on_wire(), 1);
    rig.sent.drain(..rig.sent.len() - 1);
    rig.ack(Lane::Metric, 4, &[]);
    rig.answer(0, Ok(Audience::Unknown));
    assert_eq!(rig.uplink.on_wire(), 4, "the whole window");
}

/// Answers everything that is sent, a lane in `heard` with somebody, and counts what was sent of each lane.
fn answer_all(rig: &mut Rig, seconds: u64, heard: &[Lane]) -> [usize; Lane::ALL.len()] {
    let mut counts = [0; Lane::ALL.len()];
    for _ in 0..seconds {
        while !rig.sent.is_empty() {
            let (token, id, _) = rig.sent.remove(0);
            counts[id.lane.index()] += 1;
            let audience = if heard.contains(&id.lane) { Audience::Unknown } else { Audience::Nobody };
            rig.step(Input::PubAck { token, result: Ok(audience) });
        }
        rig.wait(1000);
    }
    counts
}

#[test]
fn where_nobody_listens_a_lane_rests_and_one_block_at_a_time_tries() {
    let mut rig = Rig::new(options());
    (1..=3).for_each(|i| rig.add(Lane::Metric, i, i, 100));
    rig.up();
    assert_eq!(answer_all(&mut rig, 1, &[])[Lane::Metric.index()], 3);
    assert_eq!(rig.uplink.unheard().count(), 0, "it may be a moment's work");
    let mut tried_at_s = Vec::new();
    for second in 1..200 {
        if answer_all(&mut rig, 1, &[])[Lane::Metric.index()] == 1 {
            tried_at_s.push(second);
        }
    }
    assert_eq!(tried_at_s, [1, 3, 7, 15, 31, 61, 91, 121, 151, 181]);
    assert_eq!(rig.uplink.unheard().collect::<Vec<_>>(), [Lane::Metric]);
    assert_eq!(answer_all(&mut rig, 30, &[Lane::Metric])[Lane::Metric.index()], 3);
    assert_eq!(rig.uplink.unheard().count(), 0);
    assert_eq!(rig.rest, [], "nothing is released");
}

/// A display that shows alarms, and no aggregator.
#[test]
fn a_lane_that_somebody_hears_makes_the_others_no_louder() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Alarm, 1, 1, 10);
    (1..=100).for_each(|i| rig.add(Lane::Raw, i, i, 1000));
    rig.up();
    let counts = answer_all(&mut rig, 300, &[Lane::Alarm]);
    let (alarms, raw) = (counts[Lane::Alarm.index()], counts[Lane::Raw.index()]);
    assert!(alarms <= 8, "{alarms}: when it is due, and when it may have been lost with the raw ones");
    assert!(raw <= 4 + 15, "{raw}");
    assert_eq!(rig.uplink.unheard().collect::<Vec<_>>(), [Lane::Raw]);
}

#[test]
fn when_somebody_hears_one_lane_again_the_others_try_too() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Digest, 1, 1, 10);
    rig.up();
    answer_all(&mut rig, 16, &[]);
    (1..=9).for_each(|i| rig.add(Lane::Raw, i, i, 1000));
    answer_all(&mut rig, 45, &[]);
    assert_eq!(rig.uplink.unheard().count(), 2);
    assert_eq!(rig.sent_firsts(), [(Lane::Digest, 1)], "the other tried 14 s ago, and is due in 16");
    rig.answer(0, Ok(Audience::Unknown));
    assert_eq!(rig.sent_firsts()[1..], [(Lane::Raw, 1)]);
    rig.answer(1, Ok(Audience::Unknown));
    assert_eq!(rig.uplink.unheard().count(), 0);
}

#[test]
fn a_fresh_alarm_tries_at_once_while_nobody_listens_and_no_more_than_once_a_second() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Alarm, 1, 1, 10);
    rig.up();
    answer_all(&mut rig, 100, &[]);
    assert_eq!(rig.sent, []);
    rig.add(Lane::Alarm, 2, 2, 10);
    assert_eq!(rig.sent_firsts(), [(Lane::Alarm, 2)], "the fresh one first");
    rig.wait(300);
    rig.add(Lane::Alarm, 3, 3, 10);
    rig.answer(0, Ok(Audience::Nobody));
    rig.wait(999);
    assert_eq!(rig.sent.len(), 1);
    rig.wait(1);
    assert_eq!(rig.sent.len(), 2);
}

/// On a thin line.
#[test]
fn late_answers_to_what_left_before_a_lane_rested_are_no_failed_tries() {
    let mut rig = Rig::new(options());
    (1..=3).for_each(|i| rig.add(Lane::Metric, i, i, 1000));
    rig.up();
    for at in 0..3 {
        rig.answer(at, Ok(Audience::Nobody));
        rig.wait(5000);
        assert_eq!(rig.uplink.unheard().count(), 0);
    }
    assert_eq!(rig.sent.len(), 4, "it tries when the wire is empty");
    rig.answer(3, Ok(Audience::Nobody));
    assert_eq!(rig.uplink.unheard().count(), 1);
}

#[test]
fn an_acknowledgement_makes_the_other_lanes_try_too() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Metric, 1, 1, 10);
    rig.up();
    answer_all(&mut rig, 16, &[]);
    (1..=9).for_each(|i| rig.add(Lane::Raw, i, i, 1000));
    answer_all(&mut rig, 46, &[]);
    assert_eq!(rig.sent, []);
    rig.ack(Lane::Metric, 1, &[]);
    assert_eq!(rig.sent_firsts(), [(Lane::Raw, 1)], "due in 15 seconds otherwise");
}

#[test]
fn a_broker_that_is_busy_now_and_then_and_has_nobody_is_never_left_alone_for_long() {
    let mut rig = Rig::new(options());
    (1..=2).for_each(|i| rig.add(Lane::Metric, i, i, 10));
    rig.up();
    let mut busy = 0;
    for _ in 0..600 {
        for (token, ..) in std::mem::take(&mut rig.sent) {
            busy += 1;
            let result = if busy % 2 == 0 { Err(0x97) } else { Ok(Audience::Nobody) };
            rig.step(Input::PubAck { token, result });
        }
        rig.wait(1000);
    }
    assert!(busy >= 30, "{busy} answers in ten minutes");
}

/// A full spool, and the broker's word counts.
#[test]
fn a_block_that_the_spool_gives_up_on_the_wire_leaves_no_flight_behind() {
    let mut rig = Rig::new(UplinkOptions { ack: AckMode::Broker, ..options() });
    rig.add(Lane::Metric, 1, 1, 100);
    rig.up();
    rig.step(Input::Tail { lane: Lane::Metric, oldest: 2, next_seq: 2 });
    rig.answer(0, Ok(Audience::Unknown));
    assert_eq!((rig.uplink.on_wire(), rig.uplink.unacked_bytes()), (0, 0));
}

#[test]
fn what_the_broker_took_goes_again_when_nobody_listens_any_more() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Metric, 1, 1, 100);
    rig.up();
    rig.answer(0, Ok(Audience::Unknown));
    rig.add(Lane::Alarm, 1, 1, 10);
    rig.answer(1, Ok(Audience::Nobody));
    assert_eq!(rig.sent_firsts(), [(Lane::Metric, 1), (Lane::Alarm, 1), (Lane::Metric, 1)]);
    rig.wait(1000);
    assert_eq!(rig.sent_firsts()[3..], [(Lane::Alarm, 1)]);
}

#[test]
fn a_first_block_that_nobody_heard_goes_first_again() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Digest, 1, 1, 10);
    rig.add(Lane::Digest, 2, 2, 10);
    rig.up();
    let newest = BlockId { lane: Lane::Digest, first: 2, last: 2 };
    rig.step(Input::First(newest));
    rig.sent.clear();
    rig.step(Input::LineDown { by_broker: None });
    rig.up();
    assert_eq!(rig.sent_firsts(), [(Lane::Digest, 2), (Lane::Digest, 1)]);
    rig.answer(0, Ok(Audience::Nobody));
    rig.answer(1, Ok(Audience::Nobody));
    rig.wait(1000);
    assert_eq!(rig.sent_firsts()[2..], [(Lane::Digest, 2)]);
}

/// As one node of a cluster may be, whose neighbour has the subscriber.
#[test]
fn a_broker_that_is_wrong_about_nobody_is_not_believed_for_a_while() {
    let mut rig = Rig::new(options());
    (1..=20).for_each(|i| rig.add(Lane::Metric, i, i, 100));
    rig.up();
    (0..3).for_each(|at| rig.answer(at, Ok(Audience::Nobody)));
    assert_eq!(rig.sent.len(), 4);
    rig.ack(Lane::Metric, 3, &[]);
    rig.answer(3, Ok(Audience::Nobody));
    assert_eq!(rig.sent.len(), 8, "the whole window goes again");
    rig.wait(30_000);
    (4..8).for_each(|at| rig.answer(at, Ok(Audience::Nobody)));
    assert_eq!(rig.sent.len(), 8);
}

#[test]
fn where_the_brokers_word_counts_a_block_that_nobody_hears_is_released() {
    let mut rig = Rig::new(UplinkOptions { ack: AckMode::Broker, ..options() });
    rig.add(Lane::Metric, 1, 5, 100);
    rig.up();
    rig.answer(0, Ok(Audience::Nobody));
    assert!(matches!(rig.rest[..], [Output::Release { through: 5, .. }]), "{:?}", rig.rest);
}

/// An aggregator that is far behind acknowledges the first flights of blocks that have been sent again.
#[test]
fn a_repeated_block_that_is_acknowledged_overtakes_nobody() {
    let mut rig = Rig::new(options());
    rig.up();
    for second in 0..=30 {
        if second < 10 {
            rig.add(Lane::Metric, 1 + second, 1 + second, 100);
        }
        for (token, ..) in std::mem::take(&mut rig.sent) {
            rig.step(Input::PubAck { token, result: Ok(Audience::Unknown) });
        }
        rig.wait(1000);
    }
    rig.ack(Lane::Metric, 1, &[]);
    assert_eq!(rig.sent_firsts(), [(Lane::Metric, 2)], "its time is over, and that of no other");
}

/// One that the aggregator took with it goes as soon as a later one of another lane shows that; one that it never
/// acknowledges costs no more than that.
#[test]
fn a_block_that_others_overtake_goes_again_at_once_and_then_when_it_is_due() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Alarm, 1, 1, 10);
    rig.up();
    let mut alarms_at_s = Vec::new();
    for second in 0..60 {
        rig.add(Lane::Metric, 1 + second, 1 + second, 100);
        for (token, id, _) in std::mem::take(&mut rig.sent) {
            rig.step(Input::PubAck { token, result: Ok(Audience::Unknown) });
            if id.lane == Lane::Alarm {
                alarms_at_s.push(second);
            } else {
                rig.ack(Lane::Metric, id.last, &[]);
            }
        }
        rig.wait(1000);
    }
    // The metric of second 4 overtakes the first by more than 3.75 s.
    assert_eq!(alarms_at_s, [0, 5, 35]);
}
