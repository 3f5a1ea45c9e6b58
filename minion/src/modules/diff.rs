//! The difference of two texts, as Python's `difflib.unified_diff` shows it.

/// How many unchanged lines are shown around a change.
const CONTEXT: usize = 3;
/// The most pairs of lines that are compared; beyond, what differs is shown as one block.
const MAX_PAIRS: usize = 4_000_000;

/// One line of the whole difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Added(&'a str),
    Kept(&'a str),
    Removed(&'a str),
}

/// Returns the difference; nothing if there is none.
pub(super) fn unified(old: &str, new: &str) -> String {
    let lines = compare(&old.split_inclusive('\n').collect::<Vec<_>>(), &new.split_inclusive('\n').collect::<Vec<_>>());
    let changes: Vec<usize> = (0..lines.len()).filter(|index| !matches!(lines[*index], Line::Kept(_))).collect();
    let mut out = String::new();
    let mut at = 0;
    while let Some(first) = changes.get(at) {
        let start = first.saturating_sub(CONTEXT);
        // Changes with at most two contexts between them share a hunk.
        while at + 1 < changes.len() && changes[at + 1] - changes[at] <= 2 * CONTEXT + 1 {
            at += 1;
        }
        let end = (changes[at] + CONTEXT + 1).min(lines.len());
        out.push_str(if out.is_empty() { "--- \n+++ \n" } else { "" });
        hunk(&lines, start, end, &mut out);
        at += 1;
    }
    out
}

fn hunk(lines: &[Line<'_>], start: usize, end: usize, out: &mut String) {
    let olds = |lines: &[Line<'_>]| lines.iter().filter(|line| !matches!(line, Line::Added(_))).count();
    let news = |lines: &[Line<'_>]| lines.iter().filter(|line| !matches!(line, Line::Removed(_))).count();
    let (before, own) = (&lines[..start], &lines[start..end]);
    out.push_str(&format!("@@ -{} +{} @@\n", range(olds(before), olds(own)), range(news(before), news(own))));
    for line in own {
        let (sign, text) = match line {
            Line::Added(text) => ('+', text),
            Line::Kept(text) => (' ', text),
            Line::Removed(text) => ('-', text),
        };
        out.push(sign);
        out.push_str(text);
        out.push_str(if text.ends_with('\n') { "" } else { "\n" });
    }
}

fn range(before: usize, count: usize) -> String {
    match count {
        0 => format!("{before},0"),
        1 => (before + 1).to_string(),
        _ => format!("{},{count}", before + 1),
    }
}

fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let head = old.iter().zip(new).take_while(|(one, other)| one == other).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(one, other)| one == other).count();
    let (from, to) = (&old_rest[..old_rest.len() - tail], &new_rest[..new_rest.len() - tail]);
    let mut lines: Vec<Line<'_>> = old[..head].iter().map(|line| Line::Kept(line)).collect();
    if from.len().saturating_mul(to.len()) > MAX_PAIRS {
        lines.extend(from.iter().map(|line| Line::Removed(line)));
        lines.extend(to.iter().map(|line| Line::Added(line)));
    } else {
        align(from, to, &mut lines);
    }
    lines.extend(old_rest[old_rest.len() - tail..].iter().map(|line| Line::Kept(line)));
    lines
}

/// Keeps as many lines as possible: the longest common subsequence.
fn align<'a>(from: &[&'a str], to: &[&'a str], lines: &mut Vec<Line<'a>>) {
    let width = to.len() + 1;
    let mut common = vec![0_u32; (from.len() + 1) * width];
    for i in (0..from.len()).rev() {
        for j in (0..to.len()).rev() {
            common[i * width + j] = if from[i] == to[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < from.len() || j < to.len() {
        if i < from.len() && j < to.len() && from[i] == to[j] {
            lines.push(Line::Kept(from[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < from.len() && (j == to.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            lines.push(Line::Removed(from[i]));
            i += 1;
        } else {
            lines.push(Line::Added(to[j]));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_its_context() {
        assert_eq!(unified("a\n", "a\n"), "");
        assert_eq!(unified("a\nb\nc\n", "a\nx\nc\n"), "--- \n+++ \n@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n");
        assert_eq!(unified("", "x\n"), "--- \n+++ \n@@ -0,0 +1 @@\n+x\n");
    }

    #[test]
    fn distant_changes_have_hunks_of_their_own() {
        let old: String = (1..=30).map(|number| format!("{number}\n")).collect();
        let new = old.replace("\n5\n", "\nfive\n").replace("\n25\n", "\ntwenty-five\n");
        let diff = unified(&old, &new);
        assert!(diff.contains("@@ -2,7 +2,7 @@") && diff.contains("@@ -22,7 +22,7 @@"), "{diff}");
    }
}
