//! Patterns of names: `*` stands for any run of characters, `?` for one.

/// Whether `pattern` matches all of `name`. Takes at most pattern x name steps, so no pattern can stall the agent.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (p, n) = (pattern.as_bytes(), name.as_bytes());
    let (mut pi, mut ni) = (0, 0);
    // Where the last `*` stands and how much of the name it has swallowed: the only place worth going back to.
    let mut star: Option<(usize, usize)> = None;
    while ni < n.len() {
        match p.get(pi) {
            Some(b'*') => {
                star = Some((pi, ni));
                pi += 1;
            }
            Some(&c) if c == b'?' || c == n[ni] => {
                pi += 1;
                ni += 1;
            }
            _ => {
                let Some((at, swallowed)) = star else { return false };
                star = Some((at, swallowed + 1));
                pi = at + 1;
                ni = swallowed + 1;
            }
        }
    }
    p[pi..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_takes_any_run_and_a_question_mark_one_character() {
        for (pattern, name) in [
            ("*", ""),
            ("pump?.temp", "pump1.temp"),
            ("*.temp", "a.b.temp"),
            ("a*b*c", "aXXbYbc"),
            ("a", "a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("pump?.temp", "pump.temp"), ("*.temp", "a.temp2"), ("a", "ab"), ("", "a"), ("a?", "a")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
