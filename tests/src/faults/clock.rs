//! A clock that can be set, for one process: `libfaketime` before the C library. The monotonic clock goes on as it is.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Where Debian's package `libfaketime` puts it.
const LIBRARIES: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];

/// The clock of a process.
#[derive(Debug)]
pub struct Clock {
    offset: PathBuf,
}

impl Clock {
    /// Puts a clock over a program; none where the library is not installed. The program is replaced by a script that
    /// becomes it, so its process id stays that of the script.
    pub fn over(dir: &Path, program: &mut PathBuf) -> anyhow::Result<Option<Clock>> {
        let Some(library) = LIBRARIES.iter().find(|library| Path::new(library).exists()) else { return Ok(None) };
        let clock = Clock { offset: dir.join("clock") };
        clock.step(0)?;
        let script = format!(
            "#!/bin/sh\nexport LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={} FAKETIME_CACHE_DURATION=1 \
             FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1\nexec {} \"$@\"\n",
            clock.offset.display(),
            program.display()
        );
        *program = dir.join("with-clock");
        std::fs::write(&*program, script).context("write the script")?;
        std::fs::set_permissions(&*program, PermissionsExt::from_mode(0o755)).context("make the script a program")?;
        Ok(Some(clock))
    }

    /// Sets the clock so many seconds ahead of the true one, or behind it; it is seen within a second or two.
    pub fn step(&self, seconds: i64) -> anyhow::Result<()> {
        std::fs::write(&self.offset, format!("{seconds:+}\n")).context("set the clock")
    }
}
