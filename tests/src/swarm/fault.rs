//! What goes wrong on purpose, how often, and to whom: chosen from a seed.

use std::str::FromStr;
use std::time::Duration;

/// How often each fault happens in the whole swarm, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// A minion loses one of its connections.
    pub kill: f64,
    /// A minion answers jobs late.
    pub lag: Lasting,
    /// A minion sends again all that is not acknowledged, as if acknowledgements were lost.
    pub repeat: f64,
    /// A minion stops reading.
    pub stall: Lasting,
}

/// A fault that lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Lasting {
    /// How often, per second.
    pub rate: f64,
    /// How long.
    pub time: Duration,
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        let mut faults = Faults::default();
        for part in text.split(',').filter(|part| !matches!(*part, "" | "none")) {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is no NAME=RATE"))?;
            match name {
                "kill" => faults.kill = rate(value)?,
                "lag" => faults.lag = lasting(value)?,
                "repeat" => faults.repeat = rate(value)?,
                "stall" => faults.stall = lasting(value)?,
                _ => return Err(format!("{name:?} is no fault; there are kill, lag, repeat and stall")),
            }
        }
        Ok(faults)
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate >= 0.0);
    rate.ok_or_else(|| format!("{text:?} is no rate per second"))
}

fn lasting(text: &str) -> Result<Lasting, String> {
    let (often, long) = text.split_once(':').ok_or_else(|| format!("{text:?} is no RATE:SECONDS"))?;
    Ok(Lasting { rate: rate(often)?, time: Duration::from_secs_f64(rate(long)?.min(3_600.0)) })
}

/// A generator of choices (SplitMix64): the same seed makes the same choices.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Makes one from a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Returns the next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns one of `0..count`; 0 if there is none.
    pub fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.roll() % (count.max(1) as u64)).unwrap_or(0)
    }

    /// Returns 16 bytes.
    pub fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.roll().to_le_bytes());
        bytes[8..].copy_from_slice(&self.roll().to_le_bytes());
        bytes
    }
}

/// Turns a rate into whole occasions: what is left over counts the next time.
#[derive(Debug, Clone, Default)]
pub struct Meter(f64);

impl Meter {
    /// Returns how many occasions fall into this span.
    pub fn due(&mut self, rate: f64, span: Duration) -> usize {
        self.0 += rate * span.as_secs_f64();
        let whole = self.0.floor().max(0.0);
        self.0 -= whole;
        // A rate beyond what fits a usize was refused by nobody, but also asks for nothing real.
        whole as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_is_a_closed_list() {
        let faults: Faults = "kill=5,stall=2:3,lag=1:0.5,repeat=10".parse().unwrap();
        assert_eq!((faults.kill, faults.repeat), (5.0, 10.0));
        assert_eq!(faults.stall, Lasting { rate: 2.0, time: Duration::from_secs(3) });
        assert_eq!("none".parse(), Ok(Faults::default()));
        for bad in ["kill", "kill=x", "kill=-1", "kill=inf", "stall=2", "fire=1"] {
            assert!(bad.parse::<Faults>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_meter_loses_nothing() {
        let mut meter = Meter::default();
        let due: usize = (0..1_000).map(|_| meter.due(33.0, Duration::from_millis(10))).sum();
        assert!((329..=330).contains(&due), "{due}");
    }

    #[test]
    fn the_same_seed_makes_the_same_choices() {
        let rolls = |seed| {
            (0..5)
                .map({
                    let mut dice = Dice::new(seed);
                    move |_| dice.pick(100)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(8));
    }
}
