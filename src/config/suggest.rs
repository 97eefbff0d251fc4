//! "Did you mean": the known word closest to a mistyped one.

/// The candidate with the fewest typing mistakes against `written`, if a third of its letters or fewer are wrong.
pub fn closest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written: Vec<char> = written.chars().take(WORD_CHARS_MAX).collect();
    candidates
        .into_iter()
        .map(|word| (mistakes(&written, &word.chars().collect::<Vec<_>>()), word))
        .filter(|(wrong, word)| *wrong <= (word.chars().count().max(written.len()) / 3).max(1))
        .min_by_key(|(wrong, _)| *wrong)
        .map(|(_, word)| word)
}

/// Nobody mistypes longer words; a hostile one must not cost time.
const WORD_CHARS_MAX: usize = 48;

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment distance).
fn mistakes(a: &[char], b: &[char]) -> usize {
    let mut rows: [Vec<usize>; 3] = [vec![0; b.len() + 1], (0..=b.len()).collect(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        let [before, last, row] = &mut rows;
        row[0] = i;
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_finds_its_word() {
        let words = ["host", "port", "keep_alive", "prefix"];
        for (typed, meant) in
            [("hots", "host"), ("prot", "port"), ("keepalive", "keep_alive"), ("prefx", "prefix")]
        {
            assert_eq!(closest(typed, words), Some(meant), "{typed}");
        }
        assert_eq!(closest("zzzz", words), None);
        assert_eq!(closest("", words), None);
        assert_eq!(closest(&"x".repeat(100_000), words), None);
    }
}
