//! Mining as a whole: grouping, bounds, memory.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn ids(lines: &[&str]) -> Vec<TemplateId> {
    let mut miner = Miner::default();
    lines.iter().map(|line| miner.take(line).unwrap().id).collect()
}

#[test]
fn lines_that_differ_in_their_variables_are_of_one_template() {
    let mut miner = Miner::default();
    let first = miner.take("Accepted password for alice from 10.0.0.1 port 22").unwrap();
    let second = miner.take("Accepted password for bob from 10.0.0.9 port 4711").unwrap();
    assert!(first.fresh && !second.fresh && first.id == second.id);
    assert_eq!(miner.text(first.id).unwrap(), "Accepted password for <*> from <*> port <*>");
    let other = miner.take("Failed password for alice from 10.0.0.1 port 22").unwrap();
    assert!(other.fresh && other.id != first.id);
}

#[test]
fn a_common_front_does_not_make_two_messages_alike() {
    let front = "Jun 14 15:16:01 combo sshd[19939]:";
    let found = ids(&[
        &format!("{front} session opened"),
        &format!("{front} authentication failure"),
        "Jul 2 01:00:00 combo sshd[7]: session opened",
    ]);
    assert!(found[0] != found[1] && found[0] == found[2], "{found:?}");
}

#[test]
fn numbers_alone_are_one_template_and_nothing_is_none() {
    let found = ids(&["1 2 3", "7 8 9"]);
    assert_eq!(found[0], found[1]);
    assert_eq!(Miner::default().take("  \t "), None);
}

#[test]
fn a_flood_of_unlike_lines_stays_bounded_and_what_comes_back_is_no_news() {
    let mut miner = Miner::default();
    let word = |mut n: usize| {
        let mut word = String::from("w");
        while n > 0 {
            word.push(char::from(b'g' + (n % 20) as u8));
            n /= 20;
        }
        word
    };
    miner.take("the pump has started").unwrap();
    for n in 0..3 * limits::TEMPLATES_MAX {
        miner.take(&format!("{} {}", word(n), word(n + 7))).unwrap();
    }
    assert_eq!(miner.len(), limits::TEMPLATES_MAX);
    assert!(
        miner.leaves.values().map(Vec::len).sum::<usize>() == miner.len() && miner.by_id.len() == miner.len()
    );
    for (leaf, places) in &miner.leaves {
        assert!(places.iter().all(|at| miner.templates[*at].leaf == *leaf));
    }
    let again = miner.take("the pump has started").unwrap();
    assert!(!again.fresh, "it had to go and is known all the same");
    for n in 0..3 * limits::TEMPLATES_GONE_MAX {
        miner.take(&format!("{} {}", word(n), word(n + 9))).unwrap();
    }
    assert!(miner.gone.len() <= limits::TEMPLATES_GONE_MAX && miner.gone.len() == miner.gone_ids.len());
}

#[test]
fn templates_survive_a_restart_under_their_names() {
    let mut tally = Tally::new(&Memory::default(), 2);
    for line in ["user=root cmd = ls", "user=bob cmd = cat", "door 7 opened"] {
        tally.take(line);
    }
    let before = tally.close();
    assert_eq!((before.lines, before.fresh, before.news_total), (3, 2, 0), "it learns");
    let memory = tally.memory_if_changed().unwrap();
    assert_eq!(tally.memory_if_changed(), None);
    let mut tally = Tally::new(&memory, 2);
    for line in ["user=eve cmd = vi", "door 9 opened", "smoke in hall 3"] {
        tally.take(line);
    }
    let second = tally.close();
    assert_eq!((second.fresh, second.news_total), (1, 0), "the second window is learning still");
    assert_eq!(second.own.iter().map(|o| o.1).collect::<Vec<_>>(), [1, 1, 1]);
    tally.take("water on the floor");
    let third = tally.close();
    assert_eq!((third.news, third.news_total), (vec!["water on the floor".to_owned()], 1));
    assert_eq!(third.own[0], (before.own[0].0, 0), "what did not come counts nought");
}

#[test]
fn no_more_templates_than_the_bound_have_a_count_of_their_own() {
    let mut tally = Tally::new(&Memory::default(), 0);
    let count = limits::TEMPLATE_CHANNELS_MAX + 3;
    for n in 0..count {
        let word: String = n.to_string().bytes().map(|digit| char::from(digit + 60)).collect();
        tally.take(&format!("{word} happened here"));
    }
    let counts = tally.close();
    assert_eq!((counts.own.len(), counts.other), (limits::TEMPLATE_CHANNELS_MAX, 3));
    assert_eq!((counts.news.len(), counts.news_total), (limits::TEMPLATE_NEWS_MAX, count as u64));
}

/// Of the lines of [`sample`], the share whose template holds exactly the lines of their label, as Zhu et al. (ICSE-SEIP
/// 2019) count it.
fn grouping_accuracy(lines: &[(usize, String)]) -> f64 {
    let mut miner = Miner::default();
    let found: Vec<TemplateId> = lines.iter().map(|(_, line)| miner.take(line).unwrap().id).collect();
    let mut by_label: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut by_template: HashMap<TemplateId, Vec<usize>> = HashMap::new();
    for (at, (label, _)) in lines.iter().enumerate() {
        by_label.entry(*label).or_default().push(at);
        by_template.entry(found[at]).or_default().push(at);
    }
    let right = |at: &usize| by_label[&lines[*at].0] == by_template[&found[*at]];
    (0..lines.len()).filter(right).count() as f64 / lines.len() as f64
}

#[test]
fn nearly_all_lines_of_a_labelled_sample_find_their_group() {
    let accuracy = grouping_accuracy(&crate::templates::sample::lines(20_000, 7));
    println!("grouping accuracy {accuracy:.3}");
    assert!(accuracy > 0.95, "{accuracy}");
}

proptest! {
    #[test]
    fn no_line_harms(lines in prop::collection::vec("\\PC{0,60}", 0..40)) {
        let mut tally = Tally::new(&Memory::default(), 0);
        lines.iter().for_each(|line| tally.take(line));
        let memory = tally.memory_if_changed().unwrap();
        let again = Miner::with_saved(&memory.templates);
        prop_assert_eq!(again.saved(), memory.templates);
    }
}

/// The series of a template that had to go went on with noughts, and its place was never given to another.
#[test]
fn a_template_that_had_to_go_is_counted_once_more_and_its_place_is_given_away() {
    let mut tally = Tally::new(&Memory::default(), 0);
    tally.take("the first of all lines");
    let first = tally.close().own[0].0;
    // Lines of unlike words push it out.
    let word = |mut n: usize| -> String {
        let mut word = String::new();
        for _ in 0..8 {
            word.push(char::from(b'a' + (n % 26) as u8));
            n = n / 26 + 7 * (n % 26);
        }
        word
    };
    (0..2 * limits::TEMPLATES_MAX)
        .for_each(|n| tally.take(&format!("{} {} {}", word(n), word(n + 9000), word(n + 70_000))));
    assert!(tally.text(first).is_none(), "the test is about a template that had to go");
    let counts = tally.close();
    assert!(counts.ended.contains(&first) && counts.own.contains(&(first, 0)));
    let after = tally.close();
    assert!(after.ended.is_empty() && after.own.iter().all(|(id, _)| *id != first));
    tally.take("a line that comes later than all others");
    assert_eq!(tally.close().own.last().map(|(_, n)| *n), Some(1), "there is room for another");
}
