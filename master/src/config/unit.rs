//! Numbers with a unit: `256MiB`, `30d`.

/// Reads a whole number, bare or followed by one of these units.
pub(super) fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let scale = match unit.trim_start() {
        "" => 1,
        unit => units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_known_units_or_none() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(scaled(text, &[("KiB", 1024), ("d", 86_400)]), expected, "{text}");
        };
        check("0", Some(0));
        check("64kib", Some(65_536));
        check("30 d", Some(2_592_000));
        for bad in ["", "d", "-1", "1.5d", "7 fortnights", "99999999999999999999"] {
            check(bad, None);
        }
    }
}
