//! What is fuzzed, and what must hold for any bytes: no panic, no growth beyond the limits, and the laws that each
//! function names. The fuzzer and `cargo test` (`proto/tests/fuzz.rs`) run the same functions.

mod salt;
mod text;
mod wire;
mod zmtp;

/// One thing to be fuzzed.
pub struct Target {
    /// Its name: that of the fuzzer's binary and of the folder with its kept inputs.
    pub name: &'static str,
    /// Judges one input; panics when a law is broken.
    pub run: fn(&[u8]),
}

/// Returns all targets.
pub fn all() -> &'static [Target] {
    &[
        Target { name: "command", run: zmtp::command },
        Target { name: "curve", run: zmtp::curve },
        Target { name: "frame", run: zmtp::frame },
        Target { name: "glob", run: text::glob },
        Target { name: "greeting", run: zmtp::greeting },
        Target { name: "keys", run: text::keys },
        Target { name: "message", run: wire::message },
        Target { name: "msgpack", run: wire::msgpack },
        Target { name: "salt-auth", run: salt::auth },
        Target { name: "salt-clear", run: salt::clear },
        Target { name: "salt-envelope", run: salt::envelope },
        Target { name: "salt-event", run: salt::event },
        Target { name: "salt-ipc", run: salt::ipc },
        Target { name: "salt-msgpack", run: salt::msgpack_dialects },
        Target { name: "salt-publication", run: salt::publication },
        Target { name: "salt-reply", run: salt::reply },
        Target { name: "salt-request", run: salt::request },
        Target { name: "session", run: zmtp::session },
        Target { name: "tag", run: text::tag },
        Target { name: "target", run: text::target },
    ]
}

/// Runs the target of this name.
pub fn run(name: &str, data: &[u8]) {
    let target = all().iter().find(|target| target.name == name).expect("a binary has the name of a target");
    (target.run)(data);
}
