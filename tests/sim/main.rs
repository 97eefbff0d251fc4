//! Both seats of the protocol in a simulated world: seeded, without clock, disk or socket.
//!
//! A run first does its worst (cuts, losses, repetitions, reordering, crashes of either seat, wiped spools, evictions,
//! refusals) while a checker watches safety; then the world heals and everything must arrive. To see one run again,
//! call [`run`] with its seed. That the checker has teeth is shown by planted mistakes, each of which must be caught.

mod world;

use world::{Mistake, World};

/// One life; the first broken promise as the error.
fn run(seed: u64, mistake: Mistake) -> Result<World, String> {
    let mut world = World::new(seed, mistake);
    for _ in 0..STEPS {
        world.step()?;
    }
    world.heal()?;
    Ok(world)
}

fn is_caught(mistake: Mistake) -> bool {
    (0..SEEDS).any(|seed| run(seed, mistake).is_err())
}

#[test]
fn nothing_acknowledged_is_lost_and_everything_arrives_once_the_world_heals() {
    let (mut delivered, mut cuts, mut crashes, mut firsts) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let world = run(seed, Mistake::None).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        delivered += world.records_delivered();
        cuts += world.counts.cuts;
        crashes += world.counts.crashes;
        firsts += world.counts.firsts_seen;
    }
    // A world in which nothing happens proves nothing.
    assert!(delivered > 100 * SEEDS && cuts > 10 * SEEDS && crashes > 2 * SEEDS && firsts > SEEDS);
}

#[test]
fn releasing_at_the_puback_is_caught() {
    assert!(is_caught(Mistake::ReleaseAtPubAck));
}

#[test]
fn ignoring_the_epoch_is_caught() {
    assert!(is_caught(Mistake::IgnoreEpoch));
}

#[test]
fn acknowledging_before_the_commit_is_caught() {
    assert!(is_caught(Mistake::AckBeforeCommit));
}

const SEEDS: u64 = 300;
const STEPS: u32 = 2000;
