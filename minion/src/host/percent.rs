//! Percentages: as Python's `psutil` counts them, and as Salt's options write them.

use serde::de::{Deserialize, Deserializer, Error};

/// A share in an option: `63%`, `63` or `"63"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(pub f64);

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Percent, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let number = match &value {
            serde_json::Value::String(text) => text.replace('%', "").trim().parse().ok(),
            other => other.as_f64(),
        };
        let number = number.filter(|number: &f64| number.is_finite());
        number.map(Percent).ok_or_else(|| D::Error::custom(format!("expected a share such as 63%, found {value}")))
    }
}

/// Returns how much of `total` is `used`, in percent to one decimal; 0 of nothing.
#[expect(clippy::cast_precision_loss, reason = "a percentage to one decimal")]
pub fn of(used: u64, total: u64) -> f64 {
    if total == 0 {
        return 0.0;
    }
    let exact = used as f64 / total as f64 * 100.0;
    // By text, as Python rounds: to the nearest decimal of the exact binary value.
    format!("{exact:.1}").parse().unwrap_or(exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_in_several_ways() {
        let check = |json: &str, expected: Option<f64>| {
            assert_eq!(serde_json::from_str(json).ok(), expected.map(Percent), "{json}");
        };
        check("\"63%\"", Some(63.0));
        check("63", Some(63.0));
        check("\" 7.5 %\"", Some(7.5));
        check("\"much\"", None);
        check("true", None);
        check("\"inf%\"", None);
    }

    #[test]
    fn shares_have_one_decimal() {
        assert_eq!((of(1, 3), of(2, 3), of(7, 7), of(5, 0)), (33.3, 66.7, 100.0, 0.0));
    }
}
