//! The init system that has the services, and how it is asked. Programs are called by name, never through a shell.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{ACTION_LIMIT, QUERY_LIMIT};
use crate::host::system;
use crate::modules::process::{Ending, Finished};
use crate::modules::{CallError, ModuleContext};

/// What can be done to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Disable,
    Enable,
    Reload,
    Restart,
    Start,
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    OpenRc,
    Systemd,
    Sysv,
}

/// The init system.
#[derive(Debug)]
pub(super) struct Manager {
    kind: Kind,
    /// Where the folder `etc` is; another place in tests.
    root: PathBuf,
    /// Where its programs are; an empty path looks in `PATH`.
    programs: PathBuf,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Action::Disable => "disable",
            Action::Enable => "enable",
            Action::Reload => "reload",
            Action::Restart => "restart",
            Action::Start => "start",
            Action::Stop => "stop",
        }
    }
}

fn succeeded(finished: &Finished) -> bool {
    matches!(finished.ending, Ending::Exited(0))
}

/// What a service does when the host boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtBoot {
    Starts,
    Stays,
}

impl Manager {
    /// Finds the init system of this host.
    pub(super) fn of_this_host() -> Result<Manager, CallError> {
        let kind = match system::init().as_str() {
            "systemd" => Kind::Systemd,
            "openrc" => Kind::OpenRc,
            _ if Path::new("/run/openrc/softlevel").exists() => Kind::OpenRc,
            _ if Path::new("/etc/init.d").is_dir() => Kind::Sysv,
            _ => return Err(CallError::Failed("this host has no init system that this minion knows".to_owned())),
        };
        Ok(Manager { kind, root: PathBuf::from("/"), programs: PathBuf::new() })
    }

    /// Does this to a service, or tells what the init system says.
    pub(super) fn act(&self, cx: &ModuleContext, name: &str, action: Action) -> Result<(), CallError> {
        let word = action.word();
        let finished = match (self.kind, action) {
            (Kind::Systemd, _) => self.run(cx, &["systemctl", "--no-ask-password", word, "--", &unit(name)]),
            (Kind::OpenRc, Action::Enable) => self.run(cx, &["rc-update", "add", name]),
            (Kind::OpenRc, Action::Disable) => self.run(cx, &["rc-update", "delete", name]),
            (Kind::OpenRc, _) => self.run(cx, &["rc-service", name, word]),
            (Kind::Sysv, Action::Enable | Action::Disable) => {
                let (debian, on) = (["update-rc.d", name, word], if word == "enable" { "on" } else { "off" });
                let missing = |error: &CallError| matches!(error, CallError::Failed(_));
                match self.run(cx, &debian) {
                    Err(error) if missing(&error) => self.run(cx, &["chkconfig", name, on]),
                    done => done,
                }
            }
            (Kind::Sysv, _) => self.run(cx, &[&self.script(name)?, word]),
        }?;
        if succeeded(&finished) {
            return Ok(());
        }
        let said = [finished.stderr.text(), finished.stdout.text()].map(|text| text.trim().to_owned());
        let said = said.iter().find(|text| !text.is_empty()).cloned().unwrap_or_default();
        Err(CallError::Failed(format!("failed to {word} {name}: {said}").trim_end_matches(": ").to_owned()))
    }

    /// Tells whether a service runs.
    pub(super) fn running(&self, cx: &ModuleContext, name: &str) -> Result<bool, CallError> {
        let finished = match self.kind {
            Kind::Systemd => self.ask(cx, &["systemctl", "is-active", "--quiet", "--", &unit(name)]),
            Kind::OpenRc => self.ask(cx, &["rc-service", name, "status"]),
            // No script, no service that could run.
            Kind::Sysv => match self.script(name) {
                Ok(script) => self.ask(cx, &[&script, "status"]),
                Err(_) => return Ok(false),
            },
        };
        Ok(succeeded(&finished?))
    }

    /// Tells whether a service starts at boot.
    pub(super) fn enabled(&self, cx: &ModuleContext, name: &str) -> Result<bool, CallError> {
        match self.kind {
            Kind::Systemd => {
                let finished = self.ask(cx, &["systemctl", "is-enabled", "--", &unit(name)])?;
                // `static` and the like exit with success too, but nothing starts them at boot.
                Ok(matches!(finished.stdout.text().trim(), "enabled" | "enabled-runtime"))
            }
            Kind::OpenRc => Ok(names(&self.root.join("etc/runlevels"), true).contains(name)),
            Kind::Sysv => {
                let levels = (2..=5).flat_map(|level| names(&self.root.join(format!("etc/rc{level}.d")), false));
                let mut starts = levels.filter(|link| link.starts_with('S') && link.len() > 3);
                Ok(starts.any(|link| link.get(3..) == Some(name)))
            }
        }
    }

    /// Returns the names of all services.
    pub(super) fn all(&self, cx: &ModuleContext) -> Result<Vec<String>, CallError> {
        let scripts = names(&self.root.join("etc/init.d"), false).into_iter().filter(|name| self.script(name).is_ok());
        let mut all: BTreeSet<String> = scripts.collect();
        if self.kind == Kind::Systemd {
            let argv = ["systemctl", "list-unit-files", "--no-legend", "--no-pager", "--full", "--type=service"];
            let finished = self.ask(cx, &argv)?;
            let text = finished.stdout.text();
            let files = text.lines().filter_map(|line| line.split_whitespace().next());
            all.extend(files.map(|file| file.strip_suffix(".service").unwrap_or(file).to_owned()));
        }
        Ok(all.into_iter().collect())
    }

    /// Returns the names of the services that start at boot, or that do not.
    pub(super) fn at_boot(&self, cx: &ModuleContext, wanted: AtBoot) -> Result<Vec<String>, CallError> {
        let mut found = Vec::new();
        for name in self.all(cx)? {
            let starts = self.enabled(cx, &name)?;
            if starts == (wanted == AtBoot::Starts) {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Returns the path of a service's script.
    fn script(&self, name: &str) -> Result<String, CallError> {
        let path = self.root.join("etc/init.d").join(name);
        let runs = fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
        match runs {
            true => Ok(path.to_string_lossy().into_owned()),
            false => Err(CallError::Failed(format!("there is no service '{name}'"))),
        }
    }

    fn run(&self, cx: &ModuleContext, argv: &[&str]) -> Result<Finished, CallError> {
        self.program(cx, argv, ACTION_LIMIT)
    }

    fn ask(&self, cx: &ModuleContext, argv: &[&str]) -> Result<Finished, CallError> {
        self.program(cx, argv, QUERY_LIMIT)
    }

    fn program(&self, cx: &ModuleContext, argv: &[&str], limit: std::time::Duration) -> Result<Finished, CallError> {
        let (program, rest) = argv.split_first().map_or(("", argv), |(program, rest)| (*program, rest));
        let program = self.programs.join(program).to_string_lossy().into_owned();
        cx.run_program(&[&[program.as_str()], rest].concat(), limit)
    }
}

/// Returns a unit's whole name.
fn unit(name: &str) -> String {
    const KINDS: [&str; 8] = [".service", ".socket", ".timer", ".target", ".mount", ".path", ".slice", ".scope"];
    if KINDS.iter().any(|kind| name.ends_with(kind)) { name.to_owned() } else { format!("{name}.service") }
}

/// Returns the names in a folder, or in its folders.
fn names(folder: &Path, deeper: bool) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    if deeper {
        return entries.flat_map(|entry| names(&entry.path(), false)).collect();
    }
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::value::Map;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    fn context() -> ModuleContext {
        ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()))
    }

    fn program(path: &Path, body: &str) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
    }

    fn manager(kind: Kind, root: &Path) -> Manager {
        Manager { kind, root: root.to_owned(), programs: root.join("bin") }
    }

    #[test]
    fn systemd_is_asked_through_systemctl() {
        let dir = tempfile::tempdir().expect("a folder");
        let log = dir.path().join("log");
        let body = format!(
            "echo \"$*\" >>{}\ncase \"$*\" in *bad*) echo broken >&2; exit 1;; is-enabled*) echo enabled;; \
             list-unit-files*) echo 'web.service enabled enabled';; esac",
            log.display()
        );
        program(&dir.path().join("bin/systemctl"), &body);
        let (manager, cx) = (manager(Kind::Systemd, dir.path()), context());
        assert_eq!(manager.act(&cx, "web", Action::Restart), Ok(()));
        assert_eq!(manager.running(&cx, "web.socket"), Ok(true));
        assert_eq!((manager.running(&cx, "bad"), manager.enabled(&cx, "web")), (Ok(false), Ok(true)));
        assert_eq!(manager.all(&cx), Ok(vec!["web".to_owned()]));
        let refusal = manager.act(&cx, "bad", Action::Start).expect_err("fails");
        assert_eq!(refusal.to_string(), "failed to start bad: broken");
        let log = fs::read_to_string(log).expect("a log");
        assert!(log.contains("restart -- web.service\n") && log.contains("-- web.socket\n"), "{log}");
    }

    #[test]
    fn sysv_scripts_are_called_and_links_read() {
        let dir = tempfile::tempdir().expect("a folder");
        program(&dir.path().join("etc/init.d/web"), "[ \"$1\" = status ] || [ \"$1\" = start ]");
        fs::write(dir.path().join("etc/init.d/README"), "text").expect("written");
        fs::create_dir_all(dir.path().join("etc/rc3.d")).expect("made");
        symlink("../init.d/web", dir.path().join("etc/rc3.d/S20web")).expect("linked");
        let (manager, cx) = (manager(Kind::Sysv, dir.path()), context());
        assert_eq!((manager.act(&cx, "web", Action::Start), manager.running(&cx, "web")), (Ok(()), Ok(true)));
        assert!(manager.act(&cx, "web", Action::Stop).is_err());
        assert!(manager.act(&cx, "none", Action::Start).is_err());
        assert_eq!(manager.running(&cx, "none"), Ok(false));
        assert_eq!((manager.enabled(&cx, "web"), manager.enabled(&cx, "none")), (Ok(true), Ok(false)));
        assert_eq!(manager.all(&cx), Ok(vec!["web".to_owned()]));
        assert_eq!(manager.at_boot(&cx, AtBoot::Starts), Ok(vec!["web".to_owned()]));
        assert_eq!(manager.at_boot(&cx, AtBoot::Stays), Ok(vec![]));
    }

    #[test]
    fn openrc_has_runlevels() {
        let dir = tempfile::tempdir().expect("a folder");
        program(&dir.path().join("bin/rc-service"), "[ \"$1 $2\" = 'web status' ]");
        program(&dir.path().join("bin/rc-update"), "[ \"$1 $2\" = 'add web' ]");
        fs::create_dir_all(dir.path().join("etc/runlevels/default")).expect("made");
        symlink("/etc/init.d/web", dir.path().join("etc/runlevels/default/web")).expect("linked");
        let (manager, cx) = (manager(Kind::OpenRc, dir.path()), context());
        assert_eq!((manager.running(&cx, "web"), manager.enabled(&cx, "web")), (Ok(true), Ok(true)));
        assert_eq!((manager.act(&cx, "web", Action::Enable), manager.enabled(&cx, "x")), (Ok(()), Ok(false)));
        assert!(manager.act(&cx, "web", Action::Disable).is_err());
    }
}
