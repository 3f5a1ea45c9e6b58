//! What goes wrong.

use master::bus::Disk;

use super::ledger::Fate;
use super::reactor::Left;
use super::world::{DEAD_MS, Happening, Lies, MINIONS, Socket, World};

/// How far clocks jump at most, in milliseconds: a day.
const JUMP_MS: usize = 86_400_000;
/// How long a host that was killed stays away at most.
const AWAY_MS: usize = 5_000;
/// No limit: more pages than anything here has.
const PAGES: u32 = 1 << 30;

impl World {
    /// Has one thing go wrong; after the time of trouble, has everything be well again.
    pub(super) fn fault(&mut self) {
        if !self.is_trouble() {
            return self.heal();
        }
        self.faults += 1;
        let minion = self.dice.pick(MINIONS);
        match self.dice.pick(17) {
            0 | 1 => self.kill_minion(minion, false),
            2 => self.kill_minion(minion, true),
            3 | 4 => self.end_master(false),
            5 => self.end_master(true),
            6 => self.cut_some(minion, 50),
            7 => self.cut_some(minion, DEAD_MS as usize),
            8 => self.part(minion),
            9 => self.stall(minion),
            10 => self.master_disk(),
            11 => self.master_disk_fails_once(),
            12 => self.fill_disk(minion),
            13 => self.master_lags(),
            14 => self.set_trap(),
            15 => self.master.dies_in = Some(self.dice.pick(8)),
            _ => self.jump(minion),
        }
    }

    /// Ends a minion's process, or its host.
    pub(super) fn kill_minion(&mut self, minion: usize, power: bool) {
        let Some(running) = self.minions[minion].running.take() else { return };
        let held = [running.dealer, running.sub];
        drop(running);
        self.note(|| format!("m{minion} {}", if power { "loses its power" } else { "is killed" }));
        self.ledger.crashed(minion, if power { Fate::Synced } else { Fate::Stored });
        for number in held.into_iter().flatten() {
            if power {
                self.cut(number, DEAD_MS as usize);
            }
            self.minion_closes(number);
        }
        if self.lies == Lies::Jobs {
            self.minions[minion].forget_jobs();
        }
        if power {
            if self.chance(70) {
                self.minions[minion].lose_unsynced();
            }
            self.minions[minion].boot_anew();
        }
        self.soon(AWAY_MS, Happening::MinionUp(minion));
    }

    pub(super) fn end_master(&mut self, power: bool) {
        let outbox = if power && self.chance(70) { self.outbox_after_power_cut() } else { Left::Whole };
        self.end_master_leaving(power, outbox);
    }

    pub(super) fn end_master_leaving(&mut self, power: bool, outbox: Left) {
        if !self.master.is_up() {
            return;
        }
        self.note(|| format!("the master {}", if power { "loses its power" } else { "is killed" }));
        self.ledger.master_ended(power);
        self.kill_master(power, outbox);
        self.soon(AWAY_MS, Happening::MasterUp);
    }

    fn connections_of(&self, minion: usize) -> Vec<u64> {
        self.connections.iter().filter(|(_, each)| each.minion == minion).map(|(number, _)| *number).collect()
    }

    fn cut_some(&mut self, minion: usize, notice_ms: usize) {
        for number in self.connections_of(minion) {
            if self.chance(60) {
                self.note(|| format!("connection {number} of m{minion} is cut; noticed within {notice_ms} ms"));
                self.cut(number, notice_ms);
            }
        }
    }

    /// Cuts a minion off for a while; nobody is told.
    fn part(&mut self, minion: usize) {
        let long = self.dice.pick(20_000) as u64;
        self.note(|| format!("m{minion} is cut off for {long} ms"));
        self.cut_until[minion] = self.now_ms + long;
        for number in self.connections_of(minion) {
            self.cut(number, DEAD_MS as usize);
        }
    }

    /// Has a minion's messages crawl; it may give up and come back before they arrive.
    fn stall(&mut self, minion: usize) {
        let (long, gives_up) = (self.dice.pick(10_000) as u64, self.chance(50));
        self.note(|| format!("m{minion} is slow: {long} ms"));
        for number in self.connections_of(minion) {
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.stall_ms = long;
            }
            let socket = self.connections.get(&number).map(|connection| connection.socket);
            if gives_up && socket == Some(Socket::Dealer) {
                self.soon(3_000, Happening::Ended(number, super::world::Way::Down));
            }
        }
    }

    fn master_disk(&mut self) {
        let (late, long) = (self.chance(30), self.dice.pick(5_000) as u64);
        self.master.disk = if late { Disk::FailsLate } else { Disk::Fails };
        (self.master.disk_until, self.master.slow_ms) = (self.now_ms + long, 0);
        self.note(|| format!("the master's disk fails for {long} ms"));
    }

    /// The disk hangs, fails one commit, and works again at once.
    fn master_disk_fails_once(&mut self) {
        let (late, long) = (self.chance(30), self.dice.pick(2_000) as u64);
        self.master.disk = if late { Disk::FailsLate } else { Disk::Fails };
        (self.master.disk_until, self.master.slow_ms) = (self.now_ms + 20_000, long + 1);
        self.note(|| format!("the master's disk fails once, after {long} ms"));
        // What waits behind it is what such a disk endangers.
        for minion in 0..MINIONS {
            for _ in 0..self.dice.pick(20) {
                self.soon(400, Happening::Fire(minion));
            }
        }
    }

    /// The log refuses something and works again before the sessions, busy with what comes in, have seen it.
    fn master_lags(&mut self) {
        let long = 300 + self.dice.pick(3_000) as u64;
        self.note(|| format!("the disk fails once, and the master's sessions look again in {long} ms"));
        self.fail_once(long);
        for minion in 0..MINIONS {
            for _ in 0..self.dice.pick(12) {
                self.soon(long as usize, Happening::Fire(minion));
            }
        }
    }

    fn fail_once(&mut self, lag_ms: u64) {
        self.master.lags_until = self.now_ms + lag_ms;
        let slow_ms = 1 + self.dice.pick(50) as u64;
        (self.master.disk, self.master.disk_until, self.master.slow_ms) = (Disk::Fails, self.now_ms + 20_000, slow_ms);
    }

    fn set_trap(&mut self) {
        self.note(|| "a trap is set for the next return".to_owned());
        self.master.trap = true;
        self.soon(1_000, Happening::Publish);
    }

    /// The first copy of a return is refused, late enough for the second one to come in between.
    pub(super) fn spring_trap(&mut self, number: u64) {
        let long = 1_000 + self.dice.pick(3_000) as u64;
        self.note(|| format!("the trap springs: the disk fails once, {number} is cut, nobody looks for {long} ms"));
        self.fail_once(long);
        self.cut(number, 50);
    }

    fn fill_disk(&mut self, minion: usize) {
        let (spool, memory) = (self.chance(70), self.chance(50));
        let Some(running) = &self.minions[minion].running else { return };
        if spool {
            running.keeper.limit_pages(1).unwrap();
        }
        if memory {
            running.memory.limit_pages(1).unwrap();
        }
        self.note(|| format!("m{minion}'s disk is full: spool {spool}, jobs {memory}"));
    }

    fn jump(&mut self, minion: usize) {
        let skew_ms = self.dice.pick(2 * JUMP_MS) as i64 - JUMP_MS as i64;
        if self.chance(50) {
            self.minions[minion].skew_ms = skew_ms;
            self.note(|| format!("m{minion}'s clock jumps to {skew_ms} ms"));
        } else {
            self.master.skew_ms = skew_ms;
            self.note(|| format!("the master's clock jumps to {skew_ms} ms"));
        }
    }

    fn heal(&mut self) {
        self.note(|| "nothing goes wrong any more".to_owned());
        self.cut_until = [0; MINIONS];
        if self.lies != Lies::Log {
            self.master.disk_until = 0;
        }
        (self.master.lags_until, self.master.trap, self.master.dies_in) = (0, false, None);
        for minion in &self.minions {
            let Some(running) = &minion.running else { continue };
            running.keeper.limit_pages(PAGES).unwrap();
            running.memory.limit_pages(PAGES).unwrap();
        }
        for connection in self.connections.values_mut() {
            connection.stall_ms = 0;
        }
    }
}
