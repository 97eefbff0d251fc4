//! Which nodes of a graph go to a device together. Pure: nodes are numbers, in an order in which each stands behind what it reads.
//!
//! A segment is connected and *convex*: no path leaves it and comes back, so that it can be computed as one node. Two segments
//! that read from each other become one wherever that stays so; when nothing can be joined any more, they are as large as can be.

use std::collections::BTreeMap;

/// The segments of the nodes that `is_claimed`; `inputs[n]` are the nodes that `n` reads, all below `n`. Every claimed node is in
/// one segment; nodes and segments are in ascending order.
pub fn partition(inputs: &[Vec<usize>], is_claimed: &[bool]) -> Vec<Vec<usize>> {
    let mut groups = Groups::new(inputs);
    let edges = || (0..inputs.len()).flat_map(|n| inputs[n].iter().map(move |&input| (input, n)));
    let mut has_joined = true;
    while has_joined {
        has_joined = false;
        for (from, to) in edges().filter(|&(from, to)| is_claimed[from] && is_claimed[to]) {
            has_joined |= groups.join(from, to);
        }
    }
    let claimed = groups.members.into_iter().filter(|(_, members)| members.iter().all(|n| is_claimed[*n]));
    claimed.map(|(_, members)| members).collect()
}

/// Nodes in groups; a node that nobody joined is a group of its own. What is between groups has no cycle.
struct Groups {
    readers: Vec<Vec<usize>>,
    /// By node, its group: the first of its members.
    of: Vec<usize>,
    members: BTreeMap<usize, Vec<usize>>,
}

impl Groups {
    fn new(inputs: &[Vec<usize>]) -> Self {
        let mut readers = vec![Vec::new(); inputs.len()];
        for (n, inputs) in inputs.iter().enumerate() {
            inputs.iter().for_each(|&input| readers[input].push(n));
        }
        let alone = |n| (n, vec![n]);
        Self { readers, of: (0..inputs.len()).collect(), members: (0..inputs.len()).map(alone).collect() }
    }

    /// Makes one group of those of `from` and of `to`, which reads it, unless a way leads around through others.
    fn join(&mut self, from: usize, to: usize) -> bool {
        let (from, to) = (self.of[from], self.of[to]);
        if from == to || self.has_detour(from, to) {
            return false;
        }
        let mut members = [from, to].map(|group| self.members.remove(&group).unwrap_or_default()).concat();
        members.sort_unstable();
        let group = from.min(to);
        members.iter().for_each(|&n| self.of[n] = group);
        self.members.insert(group, members);
        true
    }

    fn has_detour(&self, from: usize, to: usize) -> bool {
        let mut seen = vec![false; self.of.len()];
        let mut next: Vec<usize> = self.readers_of(from).filter(|&group| group != to).collect();
        while let Some(group) = next.pop() {
            if group == to {
                return true;
            }
            if group != from && !std::mem::replace(&mut seen[group], true) {
                next.extend(self.readers_of(group));
            }
        }
        false
    }

    /// The groups that read `group`.
    fn readers_of(&self, group: usize) -> impl Iterator<Item = usize> {
        let members = self.members.get(&group).into_iter().flatten();
        members.flat_map(|&n| &self.readers[n]).map(|&n| self.of[n]).filter(move |&other| other != group)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether `to` can be reached from `from` over at least one edge.
    fn leads(inputs: &[Vec<usize>], from: usize, to: usize) -> bool {
        inputs[to].iter().any(|&input| input == from || leads(inputs, from, input))
    }

    fn is_convex(inputs: &[Vec<usize>], segment: &[usize]) -> bool {
        let outside = (0..inputs.len()).filter(|n| !segment.contains(n));
        outside.into_iter().all(|n| {
            !(segment.iter().any(|&m| leads(inputs, m, n)) && segment.iter().any(|&m| leads(inputs, n, m)))
        })
    }

    fn is_connected(inputs: &[Vec<usize>], segment: &[usize]) -> bool {
        let mut reached = vec![segment[0]];
        for _ in segment {
            for &n in segment {
                let touches = |&m: &usize| inputs[n].contains(&m) || inputs[m].contains(&n);
                if !reached.contains(&n) && reached.iter().any(touches) {
                    reached.push(n);
                }
            }
        }
        reached.len() == segment.len()
    }

    /// Whether the graph of segments and single nodes can be computed in some order.
    fn is_acyclic(inputs: &[Vec<usize>], segments: &[Vec<usize>]) -> bool {
        let group = |n: usize| segments.iter().position(|s| s.contains(&n)).map_or(n, |s| inputs.len() + s);
        let mut waiting: Vec<usize> = (0..inputs.len()).collect();
        loop {
            let is_ready = |&n: &usize| {
                let whole = waiting.iter().filter(|&&m| group(m) == group(n));
                whole
                    .flat_map(|&m| &inputs[m])
                    .all(|&input| group(input) == group(n) || !waiting.contains(&input))
            };
            let Some(ready) = waiting.iter().copied().find(is_ready) else { return waiting.is_empty() };
            waiting.retain(|&n| group(n) != group(ready));
        }
    }

    fn graphs() -> impl Strategy<Value = (Vec<Vec<usize>>, Vec<bool>)> {
        (1..14usize).prop_flat_map(|count| {
            let nodes: Vec<_> = (0..count).map(|n| prop::collection::vec(0..n.max(1), 0..4)).collect();
            let nodes = nodes.prop_map(|mut nodes| {
                nodes[0].clear();
                nodes
            });
            (nodes, prop::collection::vec(prop::bool::weighted(0.7), count))
        })
    }

    proptest! {
        #[test]
        fn segments_are_convex_connected_acyclic_complete_and_can_not_be_joined((inputs, claimed) in graphs()) {
            let segments = partition(&inputs, &claimed);
            let mut covered = segments.concat();
            covered.sort_unstable();
            prop_assert_eq!(covered, (0..inputs.len()).filter(|n| claimed[*n]).collect::<Vec<_>>());
            prop_assert!(is_acyclic(&inputs, &segments), "{:?}", segments);
            for (i, segment) in segments.iter().enumerate() {
                prop_assert!(is_connected(&inputs, segment), "{segment:?}");
                prop_assert!(is_convex(&inputs, segment), "{segment:?}");
                for (k, other) in segments.iter().enumerate().skip(i + 1) {
                    let mut joined = segments.clone();
                    let both = [segment.clone(), other.clone()].concat();
                    joined.remove(k);
                    joined[i] = both.clone();
                    prop_assert!(!is_connected(&inputs, &both) || !is_acyclic(&inputs, &joined), "{both:?}");
                }
            }
        }
    }

    #[test]
    fn what_reads_around_a_foreign_node_is_no_segment_with_what_it_reads() {
        // 0 -> 1 -> 2 and 0 -> 2, where 1 is nobody's.
        assert_eq!(partition(&[vec![], vec![0], vec![0, 1]], &[true, false, true]), [[0], [2]]);
        assert_eq!(partition(&[vec![], vec![0], vec![0, 1]], &[true; 3]), [[0, 1, 2]]);
    }
}
