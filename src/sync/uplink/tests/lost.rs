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

/// When a block goes that nobody hears, then somebody does.
#[test]
fn where_nobody_listens_sending_rests_and_one_block_at_a_time_tries() {
    let mut rig = Rig::new(options());
    (1..=3).for_each(|i| rig.add(Lane::Metric, i, i, 100));
    rig.up();
    (0..3).for_each(|at| rig.answer(at, Ok(Audience::Nobody)));
    assert!(rig.uplink.is_unheard());
    let mut tried_at_s = Vec::new();
    for second in 0..200 {
        if rig.sent.len() > 3 + tried_at_s.len() {
            tried_at_s.push(second);
            assert_eq!(rig.sent_firsts()[3..].last(), Some(&(Lane::Metric, 1)));
            rig.answer(2 + tried_at_s.len(), Ok(Audience::Nobody));
        }
        rig.wait(1000);
    }
    assert_eq!(tried_at_s, [1, 3, 7, 15, 31, 61, 91, 121, 151, 181]);
    rig.wait(30_000);
    let tries = rig.sent.len();
    rig.answer(tries - 1, Ok(Audience::Unknown));
    assert!(!rig.uplink.is_unheard());
    assert_eq!(rig.sent_firsts()[tries..], [(Lane::Metric, 2), (Lane::Metric, 3)]);
    assert_eq!(rig.rest, [], "nothing is released");
}

#[test]
fn what_the_broker_took_goes_again_when_nobody_listens_any_more() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Metric, 1, 1, 100);
    rig.up();
    rig.answer(0, Ok(Audience::Unknown));
    rig.add(Lane::Alarm, 1, 1, 10);
    rig.answer(1, Ok(Audience::Nobody));
    rig.wait(1000);
    rig.answer(2, Ok(Audience::Unknown));
    assert_eq!(rig.sent_firsts(), [(Lane::Metric, 1), (Lane::Alarm, 1), (Lane::Alarm, 1), (Lane::Metric, 1)]);
}

#[test]
fn a_first_block_that_nobody_heard_goes_first_again() {
    let mut rig = Rig::new(options());
    rig.add(Lane::Digest, 1, 1, 10);
    rig.up();
    rig.step(Input::First(BlockId { lane: Lane::Digest, first: 1, last: 1 }));
    rig.answer(0, Ok(Audience::Nobody));
    rig.add(Lane::Alarm, 1, 1, 10);
    rig.wait(1000);
    assert_eq!(rig.sent_firsts(), [(Lane::Digest, 1), (Lane::Digest, 1)]);
}

/// As one node of a cluster may, whose neighbour has the subscriber.
#[test]
fn a_broker_that_is_wrong_about_nobody_is_not_asked_again() {
    let mut rig = Rig::new(options());
    (1..=9).for_each(|i| rig.add(Lane::Metric, i, i, 100));
    rig.up();
    (0..3).for_each(|at| rig.answer(at, Ok(Audience::Nobody)));
    assert_eq!((rig.sent.len(), rig.uplink.is_unheard()), (4, true));
    rig.ack(Lane::Metric, 3, &[]);
    rig.answer(3, Ok(Audience::Nobody));
    assert!(!rig.uplink.is_unheard());
    assert_eq!(rig.sent.len(), 8, "the whole window goes again");
}

#[test]
fn where_the_brokers_word_counts_a_block_that_nobody_hears_is_released() {
    let mut rig = Rig::new(UplinkOptions { ack: AckMode::Broker, ..options() });
    rig.add(Lane::Metric, 1, 5, 100);
    rig.up();
    rig.answer(0, Ok(Audience::Nobody));
    assert!(!rig.uplink.is_unheard());
    assert!(matches!(rig.rest[..], [Output::Release { through: 5, .. }]), "{:?}", rig.rest);
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
