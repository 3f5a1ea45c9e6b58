//! What goes wrong with real processes, on purpose, and the proof that nothing is lost by it.
//!
//! ```text
//! Campaign ── seed ──▶ Kind ── harms ──▶ Rig: master ◀── Road (proxy) ◀── minions, swarm ◀── Load
//!                                         └── log ──▶ Ledger ── compares with what was acknowledged ──▶ Table
//! ```
//! Reading order: [`campaign`] (which fault, when), [`kind`] (how each is done), [`rig`] (the fleet it is done to),
//! [`load`] (what goes on meanwhile), [`ledger`] (the checker), [`proxy`], [`disk`], [`clock`] (the tools).

pub mod campaign;
pub mod clock;
pub mod disk;
pub mod kind;
pub mod ledger;
pub mod load;
pub mod proxy;
pub mod rig;
