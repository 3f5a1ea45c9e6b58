//! The faults, and how each is done to a fleet. Every one ends healed: what was taken away is back.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;

use super::disk::{FailingDisk, Failure};
use super::proxy::Way;
use super::rig::Rig;
use crate::swarm::fault::Dice;

/// How long each way is, in the weather of one link that is slow: both directions.
const SLOW: Duration = Duration::from_millis(100);
/// The most that the clock is set ahead or back, in seconds.
const CLOCK_STEP_S: usize = 7_200;
/// How long the master may take to notice that its disk fails.
const NOTICED: Duration = Duration::from_secs(30);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The master's clock is set ahead or back.
    ClockStep,
    /// Links are reset, and refused for a while.
    Cut,
    /// Links are slow: 100 ms each way.
    Delay,
    /// The disk under the log is full for a while.
    DiskFull,
    /// Syncing the log fails with an I/O error for a while.
    DiskSyncFails,
    /// The log cannot be written for a while: read-only.
    DiskReadOnly,
    /// Links die and neither end is told.
    HalfOpen,
    /// kill -9 of the master.
    KillMaster,
    /// kill -9 of a minion.
    KillMinion,
    /// The master goes on at other ports.
    MoveMaster,
    /// Links carry nothing for a while.
    Stall,
    /// SIGSTOP of the master.
    StopMaster,
    /// SIGSTOP of a minion.
    StopMinion,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 13] = [
        Kind::ClockStep,
        Kind::Cut,
        Kind::Delay,
        Kind::DiskFull,
        Kind::DiskSyncFails,
        Kind::DiskReadOnly,
        Kind::HalfOpen,
        Kind::KillMaster,
        Kind::KillMinion,
        Kind::MoveMaster,
        Kind::Stall,
        Kind::StopMaster,
        Kind::StopMinion,
    ];

    /// Returns its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::ClockStep => "the master's clock is set, up to 2 h ahead or back",
            Kind::Cut => "links reset and refused",
            Kind::Delay => "links 100 ms slow each way",
            Kind::DiskFull => "disk full",
            Kind::DiskSyncFails => "fsync of the log fails (EIO)",
            Kind::DiskReadOnly => "log cannot be written (EROFS)",
            Kind::HalfOpen => "links half open: dead, and nobody told",
            Kind::KillMaster => "kill -9 of the master",
            Kind::KillMinion => "kill -9 of a minion",
            Kind::MoveMaster => "kill -9 of the master, which comes back on other ports",
            Kind::Stall => "links carry nothing for a while",
            Kind::StopMaster => "SIGSTOP of the master",
            Kind::StopMinion => "SIGSTOP of a minion",
        }
    }

    /// Does it, lets it last, and heals it. Tells whether this machine can do it at all.
    pub fn happen(self, rig: &mut Rig, dice: &mut Dice, scale: Scale) -> anyhow::Result<Done> {
        match self {
            Kind::ClockStep => return step_clock(rig, dice, scale),
            Kind::Cut => harm_roads(rig, dice, Way::Cut, scale.short),
            Kind::Delay => harm_roads(rig, dice, Way::Delayed(SLOW), scale.short),
            Kind::DiskFull => return fill(rig, dice, scale),
            Kind::DiskSyncFails => return fail(rig, dice, scale, Failure::Sync),
            Kind::DiskReadOnly => return fail(rig, dice, scale, Failure::Write),
            Kind::HalfOpen => harm_roads(rig, dice, Way::Lost, scale.long),
            Kind::KillMaster => {
                rig.kill_master();
                pause(some(dice, scale.short));
                rig.start_master()?;
            }
            Kind::KillMinion => {
                let at = dice.pick(rig.minions());
                rig.kill_minion(at);
                pause(some(dice, scale.short));
                rig.start_minion(at)?;
            }
            Kind::MoveMaster => {
                rig.kill_master();
                rig.start_master_elsewhere()?;
            }
            Kind::Stall => harm_roads(rig, dice, Way::Stalled, scale.long),
            Kind::StopMaster => {
                rig.master().signal(Signal::SIGSTOP);
                pause(some(dice, scale.long));
                rig.master().signal(Signal::SIGCONT);
            }
            Kind::StopMinion => {
                let at = dice.pick(rig.minions());
                rig.minion(at).signal(Signal::SIGSTOP);
                pause(some(dice, scale.long));
                rig.minion(at).signal(Signal::SIGCONT);
            }
        }
        Ok(Done::Yes)
    }
}

/// Whether a fault could be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Not here: with what is missing.
    No(&'static str),
    /// It was done.
    Yes,
}

/// How long faults last.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// The longest of those that anybody notices at once.
    pub short: Duration,
    /// The longest of those that are noticed after three PINGs.
    pub long: Duration,
}

/// Lets a fault last.
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Returns between half of a time and the whole.
fn some(dice: &mut Dice, time: Duration) -> Duration {
    time / 2 + time.mul_f64(dice.pick(1_000) as f64 / 2_000.0)
}

/// Harms the links of everybody, or of one minion.
fn harm_roads(rig: &Rig, dice: &mut Dice, way: Way, time: Duration) {
    let (all, at) = (dice.pick(2) == 0, dice.pick(rig.minions()));
    let set = |way| if all { rig.roads_are(way) } else { rig.road_is(at, way) };
    set(way);
    pause(some(dice, time));
    set(Way::Open);
}

fn step_clock(rig: &Rig, dice: &mut Dice, scale: Scale) -> anyhow::Result<Done> {
    let Some(clock) = rig.clock() else { return Ok(Done::No("there is no libfaketime")) };
    let seconds = i64::try_from(dice.pick(CLOCK_STEP_S) + 10).unwrap_or(10);
    let seconds = if dice.pick(2) == 0 { seconds } else { -seconds };
    clock.step(seconds)?;
    pause(some(dice, scale.long));
    clock.step(0)?;
    pause(some(dice, scale.short));
    Ok(Done::Yes)
}

fn fill(rig: &Rig, dice: &mut Dice, scale: Scale) -> anyhow::Result<Done> {
    let Some(disk) = rig.disk() else { return Ok(Done::No("this user may not mount a file system")) };
    ensure!(disk.fill(), "the disk could not be filled");
    let noticed = crate::comes_true(NOTICED, || rig.is_degraded());
    pause(some(dice, scale.short));
    ensure!(disk.free(), "the disk could not be given room");
    ensure!(noticed, "the master did not say that its disk is full:\n{}", rig.logs());
    Ok(Done::Yes)
}

fn fail(rig: &Rig, dice: &mut Dice, scale: Scale, failure: Failure) -> anyhow::Result<Done> {
    let harmed = rig.active_files();
    let Some(failing) = FailingDisk::of(rig.master().pid(), &harmed, failure) else {
        return Ok(Done::No("there is no strace, or it may not be used"));
    };
    // Only the segment that was written is harmed; if it was complete in this very moment, nothing is noticed.
    let noticed = crate::comes_true(NOTICED, || rig.is_degraded() || rig.active_files() != harmed);
    pause(some(dice, scale.short));
    drop(failing);
    ensure!(noticed, "the master did not say that its disk fails:\n{}", rig.logs());
    Ok(Done::Yes)
}
