//! Further sources of pillar (`ext_pillar`): one file per source, listed in [`all`].
//!
//! ```yaml
//! ext_pillar:
//!   - cmd_yaml: /usr/local/bin/inventory %s      # %s is the minion's id
//! ```

mod cmd_json;
mod cmd_yaml;

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use proto::ids::MinionId;
use proto::value::Map;

/// How long a source's command may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How much it may print.
const MAX_OUTPUT: u64 = 4 * 1024 * 1024;

/// A source of pillar.
#[derive(Debug)]
pub struct Source {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Reads what a command printed.
    pub(super) read: fn(&str) -> Result<Map, String>,
}

/// Returns all sources, alphabetical.
pub(super) fn all() -> &'static [Source] {
    &[cmd_json::SOURCE, cmd_yaml::SOURCE]
}

/// Finds a source by its name.
pub fn find(name: &str) -> Option<&'static Source> {
    all().iter().find(|source| source.name == name)
}

impl Source {
    /// Asks for what this source says of a minion. Blocks.
    pub(super) fn pillar(&self, id: &MinionId, command: &str) -> Result<Map, String> {
        (self.read)(&output(id, command)?)
    }
}

/// Runs a command through the shell, with the minion's id for each `%s`, and returns what it printed.
fn output(id: &MinionId, command: &str) -> Result<String, String> {
    // The shell would read what a minion calls itself.
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-@:".contains(letter);
    if !id.as_str().chars().all(plain) {
        return Err("the minion's id has characters that mean something to a shell".to_owned());
    }
    let mut child = Command::new("/bin/sh")
        .args(["-c", &command.replace("%s", id.as_str())])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("the command cannot be started: {error}"))?;
    let (told, tells) = sync_channel(1);
    let mut printed = child.stdout.take();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = printed.as_mut().map(|from| from.take(MAX_OUTPUT + 1).read_to_string(&mut text)).transpose();
        // Nobody waits any more once the deadline has passed.
        let _ = told.send(read.map(|_| text));
    });
    let until = Instant::now() + DEADLINE;
    let text = tells.recv_timeout(DEADLINE);
    let too_much = matches!(&text, Ok(Ok(text)) if text.len() as u64 > MAX_OUTPUT);
    let status = ended(&mut child, if text.is_err() || too_much { Instant::now() } else { until });
    match text {
        Err(RecvTimeoutError::Timeout) => Err(format!("the command takes more than {} s", DEADLINE.as_secs())),
        Err(RecvTimeoutError::Disconnected) => Err("the command's output was lost".to_owned()),
        Ok(Err(error)) => Err(format!("the command's output cannot be read: {error}")),
        Ok(Ok(text)) if text.len() as u64 > MAX_OUTPUT => {
            Err(format!("the command prints more than {MAX_OUTPUT} bytes"))
        }
        Ok(Ok(text)) => match status {
            Some(status) if status.success() => Ok(text),
            Some(status) => Err(format!("the command failed: {status}")),
            None => Err(format!("the command takes more than {} s", DEADLINE.as_secs())),
        },
    }
}

/// Waits until a command has ended; kills it, and what it has started, when it is time.
fn ended(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    while Instant::now() < until {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
    // One that is gone already needs no signal.
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::SIGKILL);
    let _ = child.wait();
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::map;

    fn ask(name: &str, id: &str, command: &str) -> Result<Map, String> {
        find(name).unwrap().pillar(&MinionId::parse(id).unwrap(), command)
    }

    #[test]
    fn a_command_says_what_it_knows_of_a_minion() {
        assert_eq!(ask("cmd_yaml", "web1", "echo 'id: %s'"), Ok(map! { "id" => "web1" }));
        assert_eq!(ask("cmd_json", "web1", r#"echo '{"id": "%s"}'"#), Ok(map! { "id" => "web1" }));
        assert_eq!(ask("cmd_yaml", "web1", "true"), Ok(Map::new()));
    }

    #[test]
    fn a_command_that_fails_or_prints_nonsense_is_an_error() {
        for (command, why) in
            [("false", "failed"), ("echo '- x'", "no map"), ("echo 'a: [b'", "YAML"), ("yes", "prints more")]
        {
            let error = ask("cmd_yaml", "web1", command).unwrap_err();
            assert!(error.contains(why), "{command}: {error}");
        }
        assert!(ask("cmd_json", "web1", "echo '{'").unwrap_err().contains("JSON"));
    }

    #[test]
    fn an_id_never_reaches_a_shell_as_code() {
        let error = ask("cmd_yaml", "a;touch x", "echo 'id: %s'").unwrap_err();
        assert!(error.contains("shell"), "{error}");
    }
}
