//! The wheel: functions that manage the master, called `<wheel>.<function>` by reactions and by `halite run wheel.…`.
//!
//! One file per wheel, each with a table of functions, listed in [`all`]. As a runner it asks at the door, in the name of
//! whoever called it. Every call is announced as `salt/wheel/<jid>/new` and ended with `salt/wheel/<jid>/ret`.

mod key;

use proto::ids::Jid;
use proto::value::Value;

use crate::bus::Bus;
use crate::command::{Caller, CommandError};
use crate::runners::{Args, Ask, Call, Run, RunnerContext};

/// A wheel: its name and its functions.
struct Wheel {
    /// The part before the dot.
    name: &'static str,
    /// Its functions, alphabetical.
    functions: &'static [Function],
}

/// A function of a wheel.
struct Function {
    /// The part behind the dot.
    name: &'static str,
    run: Run,
}

/// Returns all wheels, alphabetical.
fn all() -> &'static [Wheel] {
    &[key::WHEEL]
}

fn find(fun: &str) -> Option<&'static Function> {
    let (wheel, function) = fun.split_once('.')?;
    let wheel = all().iter().find(|one| one.name == wheel)?;
    wheel.functions.iter().find(|one| one.name == function)
}

/// Tells whether there is such a function.
pub fn is_known(fun: &str) -> bool {
    find(fun).is_some()
}

/// Runs a function of the wheel and tells the bus about it.
pub async fn run(
    door: &dyn Ask,
    bus: &Bus,
    caller: Caller,
    fun: &str,
    args: Args,
    jid: Option<Jid>,
) -> Result<Value, CommandError> {
    let call = Call { room: "wheel", kind: "wheel", fun, run: find(fun).map(|function| function.run) };
    call.perform(door, bus, caller, args, jid).await
}

#[cfg(test)]
mod tests;
