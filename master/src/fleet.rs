//! A fleet of real processes on loopback, for `halite demo` and the test harness: its own directory, its own free
//! ports, and an end with its owner.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a daemon may take until it says `ready`.
const READY: Duration = Duration::from_secs(30);
/// How long a daemon may take to stop when asked to.
const STOP: Duration = Duration::from_secs(15);
/// How often the log and the process are looked at while waiting.
const LOOK: Duration = Duration::from_millis(5);

/// Why a fleet cannot be started or kept.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A binary is not there.
    #[error(
        "find {path}; build it with `cargo build --bins`, or install halite-master and halite-minion beside halite"
    )]
    Missing {
        /// Where it was looked for.
        path: String,
    },
    /// The daemons could not be built.
    #[error("build the daemons; the output of cargo above says why")]
    Build(#[source] io::Error),
    /// A file or process operation failed.
    #[error("{doing}")]
    Io {
        /// What was attempted.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A daemon ended instead of getting ready.
    #[error("start {name}: it ended with {status}. Its log says:\n{log}")]
    Ended {
        /// The daemon.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// A daemon did not get ready in time.
    #[error("start {name}: it was not ready within {} s. Its log says:\n{log}", READY.as_secs())]
    NotReady {
        /// The daemon.
        name: String,
        /// The end of its log.
        log: String,
    },
}

/// The three binaries.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `halite`.
    pub halite: PathBuf,
    /// `halite-master`.
    pub master: PathBuf,
    /// `halite-minion`.
    pub minion: PathBuf,
}

impl Binaries {
    /// Finds the binaries beside the running one. Under cargo they are built first, with the same profile and target
    /// directory; elsewhere a missing one is an error that names its path.
    pub fn find() -> Result<Binaries, FleetError> {
        let exe = std::env::current_exe().map_err(|source| io_error("find the running program", source))?;
        let mut dir = exe.parent().unwrap_or(Path::new(".")).to_owned();
        // A test binary lies one level deeper.
        if dir.ends_with("deps") {
            dir.pop();
        }
        if let Some(cargo) = std::env::var_os("CARGO") {
            build(Path::new(&cargo), &dir)?;
        }
        let binaries = Binaries {
            halite: dir.join("halite"),
            master: dir.join("halite-master"),
            minion: dir.join("halite-minion"),
        };
        for path in [&binaries.halite, &binaries.master, &binaries.minion] {
            if !path.is_file() {
                return Err(FleetError::Missing { path: path.display().to_string() });
            }
        }
        Ok(binaries)
    }
}

/// Builds the daemons as the running program was built: `target/<profile>` tells how.
fn build(cargo: &Path, dir: &Path) -> Result<(), FleetError> {
    let mut command = Command::new(cargo);
    command.arg("build");
    // On a terminal cargo shows how far it is.
    if !io::IsTerminal::is_terminal(&io::stderr()) {
        command.arg("--quiet");
    }
    command.args(["--workspace", "--bin", "halite", "--bin", "halite-master", "--bin", "halite-minion"]);
    match dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some("release") => drop(command.arg("--release")),
        Some(profile) => drop(command.args(["--profile", profile])),
    }
    if let Some(target) = dir.parent() {
        command.arg("--target-dir").arg(target);
    }
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_this_package) {
            command.env_remove(name);
        }
    }
    if let Some(root) = std::env::var_os("CARGO_MANIFEST_DIR") {
        command.current_dir(root);
    }
    // Stdout may be somebody's JSON.
    let status = command.stdout(Stdio::null()).status().map_err(FleetError::Build)?;
    if status.success() {
        Ok(())
    } else {
        Err(FleetError::Build(io::Error::other(format!("cargo ended with {status}"))))
    }
}

/// Tells whether cargo set this variable for the package it runs. Some build scripts look at them: left in place, the
/// daemons would be built anew each time, and so would whatever cargo runs next.
fn is_of_this_package(variable: &str) -> bool {
    const PREFIXES: [&str; 4] = ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_"];
    const NAMES: [&str; 3] = ["CARGO_PRIMARY_PACKAGE", "CARGO_TARGET_TMPDIR", "OUT_DIR"];
    PREFIXES.iter().any(|prefix| variable.starts_with(prefix)) || NAMES.contains(&variable)
}

fn io_error(doing: impl Into<String>, source: io::Error) -> FleetError {
    FleetError::Io { doing: doing.into(), source }
}

/// One running daemon. Dropped, it is stopped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon with this configuration directory and waits until it says `ready`. It ends when its owner does:
    /// its standard input is a pipe that only the owner holds.
    pub fn start(name: &str, binary: &Path, confdir: &Path, log: &Path) -> Result<Daemon, FleetError> {
        let mut daemon = Daemon::spawn(name, binary, confdir, log)?;
        daemon.wait_ready()?;
        Ok(daemon)
    }

    fn spawn(name: &str, binary: &Path, confdir: &Path, log: &Path) -> Result<Daemon, FleetError> {
        let doing = || format!("start {name}");
        let file = File::create(log).map_err(|source| io_error(doing(), source))?;
        let child = Command::new(binary)
            .arg("-c")
            .arg(confdir)
            .arg("--until-stdin-closes")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(|source| io_error(doing(), source))?;
        Ok(Daemon { name: name.to_owned(), child, log: log.to_owned() })
    }

    fn wait_ready(&mut self) -> Result<(), FleetError> {
        let deadline = Instant::now() + READY;
        loop {
            if self.ready_line().is_some() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(FleetError::Ended { name: self.name.clone(), status, log: self.log_end() });
            }
            if Instant::now() > deadline {
                return Err(FleetError::NotReady { name: self.name.clone(), log: self.log_end() });
            }
            std::thread::sleep(LOOK);
        }
    }

    fn ready_line(&self) -> Option<String> {
        let log = fs::read_to_string(&self.log).ok()?;
        log.lines().find(|line| line.contains(" ready")).map(str::to_owned)
    }

    /// Returns the whole log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn log_end(&self) -> String {
        const LINES: usize = 20;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Returns the port that the ready line tells under a name.
    pub fn port(&self, name: &str) -> Option<u16> {
        let line = self.ready_line()?;
        let (_, rest) = line.split_once(&format!("{name}="))?;
        let addr = rest.split_whitespace().next()?;
        addr.rsplit(':').next()?.parse().ok()
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resident memory, in KiB.
    pub fn rss_kib(&self) -> Option<u64> {
        rss_kib(self.pid())
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // A process that has ended cannot be signalled, which is fine.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Kills the process on the spot, as a power cut would.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops the process as an operator would and returns how it ended.
    pub fn stop(mut self) -> Option<ExitStatus> {
        self.end()
    }

    fn end(&mut self) -> Option<ExitStatus> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status);
        }
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(LOOK);
        }
        let _ = self.child.kill();
        self.child.wait().ok()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns the resident memory of a process, in KiB.
pub fn rss_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The directories and ports of a fleet under one directory.
#[derive(Debug, Clone)]
pub struct Site {
    dir: PathBuf,
    binaries: Binaries,
    ports: Option<(u16, u16)>,
}

impl Site {
    /// Takes a directory for a fleet.
    pub fn new(dir: &Path, binaries: Binaries) -> Result<Site, FleetError> {
        for name in ["log", "master"] {
            fs::create_dir_all(dir.join(name))
                .map_err(|source| io_error(format!("make {name} in {}", dir.display()), source))?;
        }
        Ok(Site { dir: dir.to_owned(), binaries, ports: None })
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the binaries.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Returns the configuration directory of the master, or of a minion by its id.
    pub fn confdir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Returns the ports of publications and requests, once the master has run.
    pub fn ports(&self) -> Option<(u16, u16)> {
        self.ports
    }

    /// Returns the same site as minions see it that reach the master through other ports: a proxy's.
    pub fn through(&self, ports: (u16, u16)) -> Site {
        Site { ports: Some(ports), ..self.clone() }
    }

    /// Returns the same site whose minions are this program: a script that becomes one.
    pub fn with_minion(&self, program: &Path) -> Site {
        Site { binaries: Binaries { minion: program.to_owned(), ..self.binaries.clone() }, ..self.clone() }
    }

    /// Has the master take other free ports when it is started again.
    pub fn forget_ports(&mut self) {
        self.ports = None;
    }

    /// Starts the master with these extra lines of configuration. It takes free ports, and keeps them when started again.
    pub fn start_master(&mut self, extra: &str) -> Result<Daemon, FleetError> {
        let (publish, ret) = self.ports.unwrap_or((0, 0));
        let root = self.confdir("master");
        let config = format!(
            "root_dir: {}\ninterface: 127.0.0.1\npublish_port: {publish}\nret_port: {ret}\n{extra}\n",
            root.display()
        );
        write(&root.join("master"), &config)?;
        let log = self.dir.join("log").join("master.log");
        let daemon = Daemon::start("the master", &self.binaries.master, &root, &log)?;
        if let (Some(publish), Some(ret)) = (daemon.port("publish"), daemon.port("requests")) {
            self.ports = Some((publish, ret));
        }
        Ok(daemon)
    }

    /// Starts a minion with these extra lines of configuration.
    pub fn start_minion(&self, id: &str, extra: &str) -> Result<Daemon, FleetError> {
        self.start_minion_as(id, id, extra)
    }

    /// Starts a minion in a directory that does not bear its id.
    pub fn start_minion_as(&self, dir: &str, id: &str, extra: &str) -> Result<Daemon, FleetError> {
        self.configure(dir, id, extra)?;
        let log = self.dir.join("log").join(format!("{dir}.log"));
        Daemon::start(&format!("minion {dir}"), &self.binaries.minion, &self.confdir(dir), &log)
    }

    /// Writes the configuration of a minion.
    pub fn configure_minion(&self, id: &str, extra: &str) -> Result<(), FleetError> {
        self.configure(id, id, extra)
    }

    fn configure(&self, dir: &str, id: &str, extra: &str) -> Result<(), FleetError> {
        let (publish, ret) = self.ports.unwrap_or((4505, 4506));
        let root = self.confdir(dir);
        fs::create_dir_all(&root).map_err(|source| io_error(format!("make {}", root.display()), source))?;
        let config = format!(
            "root_dir: {}\nid: {id}\nmaster: 127.0.0.1\npublish_port: {publish}\nmaster_port: {ret}\n{extra}\n",
            root.display()
        );
        write(&root.join("minion"), &config)
    }
}

fn write(path: &Path, text: &str) -> Result<(), FleetError> {
    fs::write(path, text).map_err(|source| io_error(format!("write {}", path.display()), source))
}

/// Waits until standard input is closed: how a daemon ends with the process that started it.
pub fn stdin_closed() {
    let mut buffer = [0; 64];
    let mut stdin = io::stdin().lock();
    while matches!(stdin.read(&mut buffer), Ok(read) if read > 0) {}
}
