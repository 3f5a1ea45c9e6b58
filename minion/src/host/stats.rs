//! The kernel's figures in the shape of Salt's `status` functions.

use std::fs;
use std::io;

use proto::map;
use proto::value::{Map, MapExt, Value};
use thiserror::Error;
use time::OffsetDateTime;

/// Why a figure is unknown.
#[derive(Debug, Error)]
#[error("read {path}")]
pub struct StatsError {
    path: &'static str,
    #[source]
    source: io::Error,
}

/// Reads `/proc/cpuinfo`: what the last processor says of itself, as in Salt.
pub fn cpuinfo() -> Result<Map, StatsError> {
    read("/proc/cpuinfo", parse_cpuinfo)
}

/// Reads `/proc/stat`: jiffies, interrupts, switches since the start.
pub fn cpustats() -> Result<Map, StatsError> {
    read("/proc/stat", parse_cpustats)
}

/// Reads `/proc/diskstats`: what each block device has done since the start.
pub fn diskstats() -> Result<Map, StatsError> {
    read("/proc/diskstats", parse_diskstats)
}

/// Reads `/proc/meminfo`: each `{value, unit}`, as text.
pub fn meminfo() -> Result<Map, StatsError> {
    read("/proc/meminfo", parse_meminfo)
}

/// Reads how long this host has been up, seen from `now`.
pub fn uptime(now: OffsetDateTime) -> Result<Map, StatsError> {
    read("/proc/uptime", |text| parse_uptime(text, now))
}

/// Reads `/proc/version`.
pub fn version() -> Result<String, StatsError> {
    read("/proc/version", |text| text.trim().to_owned())
}

/// Reads `/proc/vmstat`.
pub fn vmstats() -> Result<Map, StatsError> {
    read("/proc/vmstat", parse_vmstats)
}

/// Writes a time as Python's `isoformat` does, to the microsecond, without a zone.
pub fn isoformat(time: OffsetDateTime) -> String {
    let (hour, minute, second, micro) = time.to_hms_micro();
    let (year, month, day) = time.to_calendar_date();
    let whole = format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", u8::from(month));
    if micro == 0 { whole } else { format!("{whole}.{micro:06}") }
}

fn read<T>(path: &'static str, parse: impl Fn(&str) -> T) -> Result<T, StatsError> {
    fs::read_to_string(path).map(|text| parse(&text)).map_err(|source| StatsError { path, source })
}

/// Returns a number if this is one, else the text.
fn number(word: &str) -> Value {
    match (word.parse::<u64>(), word.parse::<f64>()) {
        (Ok(whole), _) => whole.into(),
        (_, Ok(float)) => float.into(),
        _ => word.into(),
    }
}

fn numbers(words: &[&str]) -> Value {
    Value::List(words.iter().map(|word| number(word)).collect())
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|words| words.len() > 1)
}

fn parse_cpuinfo(text: &str) -> Map {
    let mut info = Map::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let (key, value) = (key.trim(), value.trim());
        let flags = || Value::List(value.split_whitespace().map(Value::from).collect());
        info.set(key, if key == "flags" { flags() } else { value.into() });
    }
    info
}

fn parse_cpustats(text: &str) -> Map {
    /// The columns of the line `cpu`, as proc(5) numbers them from 1.
    const COLUMNS: [(&str, usize); 8] =
        [("idle", 4), ("iowait", 5), ("irq", 6), ("nice", 2), ("softirq", 7), ("steal", 8), ("system", 3), ("user", 1)];
    let mut stats = Map::new();
    for words in rows(text) {
        let value = match words[0] {
            "cpu" => {
                let mut jiffies = Map::new();
                for (name, column) in COLUMNS {
                    jiffies.set(name, words.get(column).map_or(Value::from(0u8), |word| number(word)));
                }
                Value::Map(jiffies)
            }
            "intr" => map! { "total" => number(words[1]), "irqs" => numbers(&words[2..]) }.into(),
            "softirq" => map! { "total" => number(words[1]), "softirqs" => numbers(&words[2..]) }.into(),
            _ => number(words[1]),
        };
        stats.set(words[0], value);
    }
    stats
}

fn parse_diskstats(text: &str) -> Map {
    const COLUMNS: [&str; 14] = [
        "major",
        "minor",
        "device",
        "reads_issued",
        "reads_merged",
        "sectors_read",
        "ms_spent_reading",
        "writes_completed",
        "writes_merged",
        "sectors_written",
        "ms_spent_writing",
        "io_in_progress",
        "ms_spent_in_io",
        "weighted_ms_spent_in_io",
    ];
    let mut disks = Map::new();
    for words in rows(text).filter(|words| words.len() >= COLUMNS.len()) {
        let mut disk = Map::new();
        for (name, word) in COLUMNS.iter().zip(&words) {
            disk.set(name, number(word));
        }
        disks.set(words[2], disk);
    }
    disks
}

fn parse_meminfo(text: &str) -> Map {
    let mut memory = Map::new();
    for words in rows(text) {
        let mut entry = map! { "value" => words[1] };
        if let Some(unit) = words.get(2) {
            entry.set("unit", *unit);
        }
        memory.set(&words[0].replace(':', ""), entry);
    }
    memory
}

fn parse_uptime(text: &str, now: OffsetDateTime) -> Map {
    let whole = text.split(['.', ' ']).next().unwrap_or_default();
    let seconds: u32 = whole.trim().parse().unwrap_or_default();
    let since = now - std::time::Duration::from_secs(u64::from(seconds));
    let rest = seconds % 86_400;
    map! {
        "seconds" => seconds,
        "since_iso" => isoformat(since),
        "since_t" => since.unix_timestamp(),
        "days" => seconds / 86_400,
        // Not padded, as in Salt.
        "time" => format!("{}:{}", rest / 3_600, rest % 3_600 / 60),
    }
}

fn parse_vmstats(text: &str) -> Map {
    rows(text).map(|words| (Value::from(words[0]), number(words[1]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(map: Map, json: &str) {
        assert_eq!(Value::Map(map).to_json().to_string(), json);
    }

    #[test]
    fn the_figures_have_salts_shape() {
        let stat = "cpu  10 11 12 13 14 15 16 17 18 19\ncpu0 5 6\nintr 99 1 2\nctxt 7\nsoftirq 4 3\n";
        check(
            parse_cpustats(stat),
            r#"{"cpu":{"idle":13,"iowait":14,"irq":15,"nice":11,"softirq":16,"steal":17,"system":12,"user":10},"cpu0":5,"intr":{"total":99,"irqs":[1,2]},"ctxt":7,"softirq":{"total":4,"softirqs":[3]}}"#,
        );
        check(
            parse_meminfo("MemTotal:  100 kB\nHugePages_Total:   0\n"),
            r#"{"MemTotal":{"value":"100","unit":"kB"},"HugePages_Total":{"value":"0"}}"#,
        );
        check(parse_vmstats("nr_free_pages 12\nnr_x -1\n"), r#"{"nr_free_pages":12,"nr_x":-1.0}"#);
        check(
            parse_cpuinfo("processor : 0\nflags : a b\n\nprocessor : 1\nmodel name: Fast: x\n"),
            r#"{"processor":"1","flags":["a","b"],"model name":"Fast: x"}"#,
        );
        let disk = parse_diskstats("  8 0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13\n");
        assert_eq!(disk.at("sda").and_then(|disk| disk.get("weighted_ms_spent_in_io")), Some(&Value::from(11u8)));
    }

    #[test]
    fn the_uptime_is_told_in_several_ways() {
        let now = OffsetDateTime::from_unix_timestamp_nanos(1_795_219_844_136_036_000).expect("a time");
        check(
            parse_uptime("93784.55 1.0\n", now),
            r#"{"seconds":93784,"since_iso":"2026-11-19T22:07:40.136036","since_t":1795126060,"days":1,"time":"2:3"}"#,
        );
    }

    #[test]
    fn this_host_has_figures() {
        for figures in [cpuinfo(), cpustats(), meminfo(), uptime(OffsetDateTime::now_utc()), vmstats()] {
            assert!(!figures.expect("Linux").is_empty());
        }
        // A container may have no disks.
        diskstats().expect("Linux");
        assert!(version().expect("Linux").starts_with("Linux version"));
    }
}
