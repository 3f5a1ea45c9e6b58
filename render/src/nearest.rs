//! The known word that a mistyped one probably means, for warnings that name it.

/// How far a mistyped word may be from the one that was meant, in edits; never more than half its letters.
const MAX_EDITS: usize = 3;

/// Returns the nearest of the known words, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = MAX_EDITS.min(word.chars().count() / 2);
    let found = known.into_iter().map(|known| (edits(word, known), known)).min();
    found.filter(|(edits, _)| *edits <= limit).map(|(_, known)| known)
}

/// Counts the single-letter edits between two words (Levenshtein).
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, known) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *known);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_forgiven_and_another_word_is_not() {
        let known = ["beacons", "master", "publish_port"];
        let check = |word: &str, expected: Option<&str>| assert_eq!(nearest(word, known), expected, "{word}");
        check("mater", Some("master"));
        check("publish_prot", Some("publish_port"));
        check("beacon", Some("beacons"));
        check("our_own_thing", None);
        check("", None);
        assert_eq!((edits("kitten", "sitting"), edits("", "abc"), edits("abc", "abc")), (3, 3, 0));
    }
}
