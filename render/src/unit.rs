//! Numbers with a unit: `256MiB`, `30d`.

/// Reads a number of bytes, bare or with a unit: `256MiB`.
pub fn bytes(text: &str) -> Option<u64> {
    scaled(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)])
}

/// Reads a span of time in seconds, bare or with a unit: `30d`.
pub fn seconds(text: &str) -> Option<u64> {
    scaled(text, &[("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)])
}

/// Reads a whole number, bare or followed by one of these units.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
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
        assert_eq!((bytes("0"), seconds("0")), (Some(0), Some(0)));
        assert_eq!((bytes("64kib"), bytes("16 MiB"), bytes("30d")), (Some(65_536), Some(16 << 20), None));
        assert_eq!((seconds("30 d"), seconds("1m"), seconds("1KiB")), (Some(2_592_000), Some(60), None));
        for bad in ["", "d", "-1", "1.5d", "7 fortnights", "99999999999999999999", "99999999TiB"] {
            assert_eq!((bytes(bad), seconds(bad)), (None, None), "{bad}");
        }
    }
}
