//! Faults chosen from a seed, one after the other, for as long as it is told to; after each one the log is compared with
//! what was acknowledged.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::kind::{Done, Kind, Scale, pause};
use super::rig::{Rig, Setup};
use crate::swarm::fault::Dice;

/// How long the load goes on before a fault, at most.
const BEFORE: Duration = Duration::from_millis(1_500);

/// How a campaign is led.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What decides everything: which faults, when, and how long.
    pub seed: u64,
    /// How long it goes on, one round of each kind at least.
    pub time: Duration,
    /// What goes wrong.
    pub kinds: Vec<Kind>,
    /// How long faults last.
    pub scale: Scale,
    /// To whom. The disk and the clock are those that the stage needs.
    pub setup: Setup,
    /// How many rounds a fleet sees before it is replaced by a new one.
    pub rounds: usize,
}

/// What became of one kind.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// How often it was done.
    pub rounds: u64,
    /// Processes that were killed.
    pub crashes: u64,
    /// From the beginning of the load to the end of the check.
    pub time: Duration,
    /// Events and returns that were acknowledged meanwhile.
    pub acknowledged: u64,
    /// Returns among them.
    pub returns: u64,
    /// The longest that everybody needed to come back.
    pub healed: Duration,
    /// What was acknowledged and is not there.
    pub lost: Vec<String>,
    /// What is there more than once.
    pub doubled: Vec<String>,
}

/// What a campaign has found.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// By kind.
    pub rows: BTreeMap<Kind, Row>,
    /// What could not be done, and why.
    pub skipped: BTreeMap<Kind, &'static str>,
    /// Jobs that the master took while its log was out of order.
    pub unannounced: usize,
}

/// Leads a campaign. Says on standard error where it is.
pub fn run(plan: &Plan) -> anyhow::Result<Table> {
    let mut dice = Dice::new(plan.seed);
    let mut table = Table::default();
    let began = Instant::now();
    let mut left: Vec<Kind> = Vec::new();
    let mut is_first = true;
    while is_first || began.elapsed() < plan.time {
        is_first = false;
        if left.is_empty() {
            left.clone_from(&plan.kinds);
        }
        left = stage(plan, &mut dice, left, &mut table)?;
    }
    Ok(table)
}

/// One fleet and some rounds; returns the kinds whose turn has not come.
fn stage(plan: &Plan, dice: &mut Dice, mut left: Vec<Kind>, table: &mut Table) -> anyhow::Result<Vec<Kind>> {
    let has = |kind| left.contains(&kind);
    // A clock and a disk of its own make a fleet a little less real, so only those have them that need them.
    let setup = Setup { has_small_disk: has(Kind::DiskFull), has_clock: has(Kind::ClockStep), ..plan.setup.clone() };
    let mut rig = Rig::start(&setup, dice.roll())?;
    let mut known = HashSet::new();
    for _ in 0..plan.rounds.min(left.len()) {
        let kind = left.swap_remove(dice.pick(left.len()));
        round(plan, dice, &mut rig, kind, (&mut known, table))?;
    }
    table.unannounced += rig.unannounced().len();
    Ok(left)
}

fn round(
    plan: &Plan,
    dice: &mut Dice,
    rig: &mut Rig,
    kind: Kind,
    (known, table): (&mut HashSet<String>, &mut Table),
) -> anyhow::Result<()> {
    let (began, before, crashes) = (Instant::now(), rig.judge().sums, rig.crashes());
    rig.work(true);
    pause(BEFORE.mul_f64(dice.pick(1_000) as f64 / 1_000.0));
    let done = kind.happen(rig, dice, plan.scale).map_err(|error| error.context(format!("{kind:?}")))?;
    let healed = rig.heal().map_err(|error| error.context(format!("after {kind:?}")))?;
    rig.settle().map_err(|error| error.context(format!("after {kind:?}")))?;
    let verdict = rig.judge();
    if let Done::No(why) = done {
        table.skipped.insert(kind, why);
        return Ok(());
    }
    let row = table.rows.entry(kind).or_default();
    row.rounds += 1;
    row.crashes += rig.crashes() - crashes;
    row.time += began.elapsed();
    row.acknowledged += verdict.sums.all() - before.all();
    row.returns += verdict.sums.returns - before.returns;
    row.healed = row.healed.max(healed);
    row.lost.extend(verdict.lost.into_iter().filter(|what| known.insert(what.clone())));
    row.doubled.extend(verdict.doubled.into_iter().filter(|what| known.insert(what.clone())));
    eprintln!(
        "faults: {kind:?}: {:.1} s, back after {:.1} s, lost {}, doubled {}",
        began.elapsed().as_secs_f64(),
        healed.as_secs_f64(),
        row.lost.len(),
        row.doubled.len()
    );
    Ok(())
}

impl Table {
    /// Returns what was lost or doubled, kind by kind.
    pub fn wrong(&self) -> Vec<String> {
        let wrong = |(kind, row): (&Kind, &Row)| {
            let lost = row.lost.iter().map(move |what| format!("{kind:?}: lost: {what}"));
            lost.chain(row.doubled.iter().map(move |what| format!("{kind:?}: doubled: {what}"))).collect::<Vec<_>>()
        };
        self.rows.iter().flat_map(wrong).collect()
    }

    /// Returns the table for people.
    pub fn lines(&self) -> String {
        let mut text = String::from(
            "| fault | rounds | processes killed | minutes | acknowledged | returns among them | all back, at most | lost | \
             doubled |\n|---|---|---|---|---|---|---|---|---|\n",
        );
        let mut all = Row::default();
        for (kind, row) in &self.rows {
            line(&mut text, kind.name(), row);
            all.rounds += row.rounds;
            all.crashes += row.crashes;
            all.time += row.time;
            all.acknowledged += row.acknowledged;
            all.returns += row.returns;
            all.healed = all.healed.max(row.healed);
            all.lost.extend(row.lost.iter().cloned());
            all.doubled.extend(row.doubled.iter().cloned());
        }
        line(&mut text, "all", &all);
        for (kind, why) in &self.skipped {
            let _ = writeln!(text, "not done: {}: {why}", kind.name());
        }
        text
    }
}

fn line(text: &mut String, name: &str, row: &Row) {
    // Writing into a text cannot fail.
    let _ = writeln!(
        text,
        "| {name} | {} | {} | {:.1} | {} | {} | {:.1} s | {} | {} |",
        row.rounds,
        row.crashes,
        row.time.as_secs_f64() / 60.0,
        row.acknowledged,
        row.returns,
        row.healed.as_secs_f64(),
        row.lost.len(),
        row.doubled.len()
    );
}
