//! Which of the known names somebody meant.

/// The known name nearest to `given`, when it is near enough to be what was meant.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_ascii_lowercase();
    if given.len() > 64 {
        return None;
    }
    known
        .into_iter()
        .map(|name| (distance(given.as_bytes(), name.as_bytes()), name))
        .min()
        .filter(|&(distance, name)| distance <= (name.len() / 3).max(2))
        .map(|(_, name)| name)
}

/// How many letters must be put in, taken out, changed or swapped with their neighbour (Damerau,
/// "A technique for computer detection and correction of spelling errors", 1964).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_is_understood_and_a_strange_word_is_not() {
        let known = ["consistency", "timeout", "siblings"];
        assert_eq!(nearest("consistancy", known), Some("consistency"));
        assert_eq!(nearest("timeuot", known), Some("timeout"));
        assert_eq!(nearest("Sibling", known), Some("siblings"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), known), None);
    }

    #[test]
    fn distances_count_single_slips() {
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"abc", b"abc"), 0);
        assert_eq!(distance(b"acb", b"abc"), 1);
        assert_eq!(distance(b"kitten", b"sitting"), 3);
    }
}
