//! The command as an operator meets it: words in, text and exit code out, with a scripted door behind a real API.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use proto::ids::{Jid, MinionId};
use proto::map;
use proto::tag::Tag;
use proto::value::{Map, Value};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::exit;
use super::parse::{Parsed, Task, parse};
use crate::api::{Ask, EventStream, bind, serve};
use crate::bus::{Event, EventQuery};
use crate::command::{Caller, Command, CommandError, KeyFingers, KeyLists, KeyPems, KeySelection, Published, Reply};

fn words(line: &str) -> Vec<OsString> {
    line.split(' ').map(OsString::from).collect()
}

#[test]
fn the_first_word_is_a_verb_or_a_target() {
    let check = |line: &str, expected: &str| {
        let Parsed { globals, task } = parse(words(line)).unwrap_or_else(|error| panic!("{line}: {error}"));
        let kind = format!("{task:?}");
        let kind = kind.split(['(', ' ']).next().unwrap_or_default();
        assert_eq!(
            (kind, globals.face.program()),
            (expected, line.split([' ', '/']).find(|w| w.starts_with("salt")).unwrap_or("halite")),
            "{line}"
        );
    };
    check("halite * test.ping", "Job");
    check("halite -c /x --out json web1 key", "Job");
    check("halite web1 test.echo run", "Job");
    check("halite -- key test.ping", "Job");
    check("halite -L key test.ping", "Job");
    check("halite -t 3 run test.ping", "Job");
    check("halite keys test.ping", "Job");
    check("halite key list", "Key");
    check("halite -c /x key list", "Key");
    check("halite -c/x --out=json -l debug key list --out yaml", "Key");
    check("halite run event.send a", "Run");
    check("halite events --tag a/* --tag b/*", "Events");
    check("halite jobs show 1", "Jobs");
    check("halite minions", "Minions");
    check("halite reactor test --tag t", "Reactor");
    check("halite reload", "Reload");
    check("halite doctor", "Doctor");
    check("halite demo", "Demo");
    check("halite completions bash", "Completions");
    check("halite man", "Man");
    check("salt key test.ping", "Job");
    check("salt -G os:Debian test.ping -t 3", "Job");
    check("salt-run jobs.lookup_jid 1", "Run");
    check("salt-run -t 3 -l quiet manage.up", "Run");
    check("salt-key -L", "Key");
}

#[test]
fn salt_call_is_passed_on() {
    let parsed = parse(words("/usr/bin/salt-call --local test.ping")).unwrap();
    assert!(matches!(parsed.task, Task::Call(words) if words.len() == 3));
}

#[test]
fn salt_key_speaks_as_key_does() {
    let check = |salt: &str, ours: &str| {
        let verb = |line: &str| match parse(words(line)).unwrap_or_else(|error| panic!("{line}: {error}")).task {
            Task::Key(args) => args.verb,
            other => panic!("{other:?}"),
        };
        assert_eq!(verb(&format!("salt-key {salt}")), verb(&format!("halite key {ours}")), "{salt}");
    };
    check("-L", "list");
    check("-l all", "list");
    check("-l un", "list pending");
    check("-y -a m1", "accept -y m1");
    check("-A", "accept --all");
    check("-y --include-rejected -a m2", "accept -y --include-rejected m2");
    check("-r m2", "reject m2");
    check("-R --include-denied", "reject -A --include-denied");
    check("-d m* -y", "delete m* -y");
    check("-D", "delete --all");
    check("-f m1", "finger m1");
    check("-F", "finger");
    check("-p m1", "print m1");
    check("-P", "print");
    check("-y --rotate-aes-key=False --preserve-minions=True -d m1", "delete m1 -y");
    check("-a m1 --include-all", "accept m1 --include-rejected --include-accepted");
    assert!(parse(words("salt-key -A -D")).is_err());
    assert!(parse(words("salt-key -l sideways")).is_err());
}

#[test]
fn every_help_has_an_example_and_the_whole_is_sound() {
    let command = super::parse::documented();
    command.clone().debug_assert();
    for verb in command.get_subcommands() {
        let help = verb.clone().render_long_help().to_string();
        assert!(help.contains("Example"), "{}", verb.get_name());
        for inner in verb.get_subcommands() {
            assert!(inner.clone().render_long_help().to_string().contains("Example"), "{}", inner.get_name());
        }
    }
}

/// What a minion of the scene does with a job.
#[derive(Clone)]
enum Does {
    Return(Value, i64),
    /// Says that it is still running, once, and returns then.
    ReturnWhenAsked(Value),
    /// Is a syndic, which names minions of its own; those whose id begins with `w` return true.
    Names(&'static [&'static str]),
    Nothing,
    /// Says that the job does not mean it.
    NotMeant,
    /// Not connected, for so many seconds.
    Away(u64),
}

/// A door with a handful of minions behind it. Every publication is answered with events at once.
#[derive(Clone, Default)]
struct Door {
    minions: Arc<Vec<(&'static str, Does)>>,
    log: Arc<Mutex<Vec<Event>>>,
    published: Arc<Mutex<Vec<(String, Value)>>>,
    keys: Arc<Mutex<Vec<(String, KeySelection)>>>,
}

impl Door {
    fn fire(&self, tag: &Tag, data: &Map) {
        let mut log = self.log.lock().unwrap();
        let offset = log.len() as u64 + 1;
        let data = proto::msgpack::encode_map(data).into();
        log.push(Event { offset, tag: tag.clone(), stamp_us: 1_795_218_702_651_957, data, durable: true });
    }

    fn give_back(&self, jid: &Jid, id: &str, value: &Value, retcode: i64) {
        let data = map! { "jid" => jid.as_str(), "id" => id, "return" => value.clone(), "retcode" => retcode };
        self.fire(&Tag::job_ret(jid, &MinionId::parse(id).unwrap()), &data);
    }

    fn publish(&self, fun: &str, arg: &[Value]) -> Published {
        let jid = Jid::at(1_795_218_752_821_625 + self.log.lock().unwrap().len() as i64);
        self.published.lock().unwrap().push((jid.to_string(), Value::from(fun)));
        self.fire(&Tag::job_new(&jid), &map! { "jid" => jid.as_str() });
        let offset = self.log.lock().unwrap().len() as u64;
        let mut down = Vec::new();
        for (id, does) in self.minions.iter() {
            match (does, fun) {
                (Does::Away(age), _) => down.push((MinionId::parse(id).unwrap(), Some(*age))),
                (Does::Names(ids), "saltutil.find_job") => {
                    ids.iter().for_each(|id| self.give_back(&jid, id, &Map::new().into(), 0));
                }
                (Does::Names(ids), _) => {
                    let syndic = MinionId::parse(id).unwrap();
                    self.fire(
                        &Tag::job_syndic(&jid, &syndic),
                        &map! { "minions" => ids.to_vec(), "syndic" => &syndic },
                    );
                    ids.iter()
                        .filter(|id| id.starts_with('w'))
                        .for_each(|id| self.give_back(&jid, id, &true.into(), 0));
                }
                (Does::ReturnWhenAsked(value), "saltutil.find_job") => {
                    let asked = Jid::parse(arg[0].as_str().unwrap()).unwrap();
                    self.give_back(&jid, id, &map! { "jid" => asked.as_str(), "pid" => 7 }.into(), 0);
                    self.give_back(&asked, id, value, 0);
                }
                (_, "saltutil.find_job") => self.give_back(&jid, id, &Map::new().into(), 0),
                (Does::NotMeant, _) => {
                    let id = MinionId::parse(id).unwrap();
                    self.fire(&Tag::job_no_match(&jid, &id), &map! { "jid" => &jid, "id" => &id });
                }
                (Does::Return(value, retcode), _) => self.give_back(&jid, id, value, *retcode),
                _ => {}
            }
        }
        let minions = self.minions.iter().map(|(id, _)| MinionId::parse(id).unwrap()).collect();
        let has_syndics = self.minions.iter().any(|(_, does)| matches!(does, Does::Names(_)));
        let syndic_wait = has_syndics.then_some(std::time::Duration::ZERO);
        Published { minions, down, offset, syndic_wait, ..Published::before(jid) }
    }

    fn keys(&self, action: &str, selection: KeySelection) -> KeyLists {
        let m1 = MinionId::parse("m1").unwrap();
        let matches = selection.globs.iter().any(|glob| glob == "m1" || glob == "*");
        self.keys.lock().unwrap().push((action.to_owned(), selection));
        KeyLists { pending: if matches { vec![m1] } else { Vec::new() }, ..KeyLists::default() }
    }
}

impl Ask for Door {
    async fn ask(&self, _: Caller, command: Command) -> Result<Reply, CommandError> {
        match command {
            Command::Publish(job) if job.target.tgt_type == "grain" => {
                Err(CommandError::Invalid("targets of type grain are not supported yet".to_owned()))
            }
            Command::Publish(job) if job.target.tgt == Value::from("ghost*") => Err(CommandError::NoMatch),
            Command::Publish(job) => {
                let fun = job.fun.as_str().unwrap_or("several").to_owned();
                Ok(Reply::Published(self.publish(&fun, &job.arg)))
            }
            Command::KeyAccept(selection) => Ok(Reply::Keys(self.keys("accept", selection))),
            Command::KeyList => Ok(Reply::Keys(self.keys("list", selection_of("*")))),
            Command::KeyPrint(keys) if keys.globs == ["nosuch"] => Ok(Reply::KeyPems(KeyPems::default())),
            Command::KeyPrint(_) => Ok(Reply::KeyPems(KeyPems {
                keys: vec![("minions_pre", MinionId::parse("m1").unwrap(), "-----BEGIN\nx".to_owned())],
            })),
            Command::KeyFinger(_) => Ok(Reply::KeyFingers(KeyFingers {
                local: vec![("vm.pub".to_owned(), "a2:0d".to_owned())],
                keys: vec![("minions_pre", MinionId::parse("m1").unwrap(), "fb:22".to_owned())],
            })),
            Command::Run { fun, .. } if fun == "no.such" => {
                Err(CommandError::NotFound("'no.such' is not available.".to_owned()))
            }
            Command::Run { arg, kwarg, .. } => Ok(Reply::Value(map! { "args" => arg, "kwargs" => kwarg }.into())),
            Command::Reload => Err(CommandError::NotPermitted {
                user: "bob".to_owned(),
                what: "reload",
                remedy: "ask root".to_owned(),
            }),
            Command::Status => Ok(Reply::Value(map! { "head" => self.log.lock().unwrap().len() }.into())),
            _ => Ok(Reply::Done),
        }
    }

    async fn events(&self, _: Caller, query: EventQuery) -> Result<EventStream, CommandError> {
        use crate::bus::Since;
        use futures_util::StreamExt as _;
        let first = match query.since {
            Since::Offset(offset) => offset,
            _ => 0,
        };
        let globs: Vec<_> = query.tags.iter().map(|tag| proto::target::glob::Glob::new(tag)).collect();
        let wanted = |event: &Event| {
            event.offset >= first && (globs.is_empty() || globs.iter().any(|glob| glob.matches(event.tag.as_str())))
        };
        let log: Vec<Event> = self.log.lock().unwrap().iter().filter(|event| wanted(event)).cloned().collect();
        let log = futures_util::stream::iter(log);
        // As the bus does: only what has no end goes on.
        if query.until.is_some() {
            return Ok(Box::pin(log));
        }
        Ok(Box::pin(log.chain(futures_util::stream::pending())))
    }
}

fn selection_of(glob: &str) -> KeySelection {
    KeySelection {
        globs: vec![glob.to_owned()],
        include_rejected: false,
        include_denied: false,
        include_accepted: false,
        dry_run: true,
    }
}

/// A master's API on a thread of its own.
struct Master {
    dir: TempDir,
    door: Door,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Master {
    fn with(minions: Vec<(&'static str, Does)>) -> Master {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("master"), format!("sock_dir: {}\n", dir.path().join("run").display())).unwrap();
        let door = Door { minions: Arc::new(minions), ..Door::default() };
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let (sock_dir, serving) = (dir.path().join("run"), door.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = bind(&sock_dir).unwrap();
                ready.send(()).unwrap();
                serve(listener, serving, async move {
                    let _ = stopped.await;
                })
                .await;
            });
        });
        is_ready.recv().unwrap();
        Master { dir, door, stop: Some(stop), thread: Some(thread) }
    }

    /// Runs a command line against this master; returns what it printed and its exit code.
    fn run(&self, line: &str) -> (String, u8) {
        let file: PathBuf = self.dir.path().join("out");
        let mut words = words(line);
        words.extend(["-c".into(), self.dir.path().into(), "--out-file".into(), file.clone().into()]);
        let code = super::run(words);
        (std::fs::read_to_string(file).unwrap_or_default(), code)
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn two() -> Master {
    Master::with(vec![("m1", Does::Return(true.into(), 0)), ("m2", Does::Return(true.into(), 0))])
}

#[test]
fn returns_are_printed_as_salt_prints_them() {
    let master = two();
    assert_eq!(master.run("halite * test.ping"), ("m1:\n    True\nm2:\n    True\n".to_owned(), exit::OK));
    assert_eq!(master.run("halite * test.ping --out txt"), ("m1: True\nm2: True\n".to_owned(), exit::OK));
    let json = "{\n    \"m1\": true,\n    \"m2\": true\n}\n";
    assert_eq!(master.run("halite * test.ping --out json"), (json.to_owned(), exit::OK));
    let jsonl = "{\"m1\":true}\n{\"m2\":true}\n";
    assert_eq!(master.run("halite * test.ping --out jsonl"), (jsonl.to_owned(), exit::OK));
    // recorded/targeting-jobs/tgt-glob.txt, out-json-static.txt
    let each = "{\n    \"m1\": true\n}\n{\n    \"m2\": true\n}\n";
    assert_eq!(master.run("salt * test.ping --out json"), (each.to_owned(), exit::OK));
    assert_eq!(master.run("salt * test.ping --out json --static"), (json.to_owned(), exit::OK));
    assert_eq!(master.run("salt * test.ping --out nosuch").0, "m1:\n    True\nm2:\n    True\n");
    assert_eq!(master.run("halite * test.ping --out nosuch").1, exit::USAGE);
}

#[test]
fn minions_that_a_syndic_names_are_waited_for_and_the_syndic_is_not() {
    let run =
        |ids, line: &str| Master::with(vec![("m1", Does::Return(1.into(), 0)), ("low", Does::Names(ids))]).run(line);
    let (text, code) = run(&["w1", "w2"], "halite * test.ping --summary");
    assert!(text.starts_with("m1:\n    1\nw1:\n    True\nw2:\n    True\n") && code == exit::OK, "{text}");
    assert!(text.contains("# of minions targeted: 3\n"), "{text}");
    let (text, code) = run(&["w1", "gone"], "halite -t 0 * test.ping");
    assert!(
        text.contains("w1:\n    True\ngone:\n    Minion did not return. [No response]") && code == exit::FAILED,
        "{text}"
    );
    assert!(!text.contains("low:\n"), "{text}");
    let (text, code) = Master::with(vec![("low", Does::Names(&[]))]).run("halite * test.ping");
    assert!(text.contains("neither here nor below a syndic") && code == exit::NO_MATCH, "{text}");
}

#[test]
fn headers_and_summary_are_those_of_salt() {
    let master = two();
    let (text, _) = master.run("halite * test.ping -v --static");
    assert!(
        text.starts_with(
            "Executing job with jid 20261120235232821625\n-------------------------------------------\n\nm1:\n"
        ),
        "{text}"
    );
    let (text, _) = master.run("halite * test.ping --show-jid");
    assert!(text.starts_with("jid: 20261120"), "{text}");
    let (text, _) = master.run("halite * --async test.sleep 3");
    assert!(text.starts_with("Executed command with job ID: 20261120"), "{text}");
    let (text, _) = master.run("halite * test.ping --summary");
    assert!(
        text.contains("# of minions targeted: 2\n# of minions returned: 2\n# of minions that did not return: 0\n"),
        "{text}"
    );
}

#[test]
fn a_failure_and_an_absence_are_exit_code_one() {
    let failing = Master::with(vec![("m1", Does::Return("".into(), 3))]);
    assert_eq!(failing.run("halite m1 cmd.run false"), ("m1:\n".to_owned(), exit::FAILED));
    let away = Master::with(vec![("m1", Does::Return(true.into(), 0)), ("m3", Does::Away(185))]);
    let expected = "m3:\n    Minion did not return. [Not connected, last seen 3 min ago]\nm1:\n    True\n";
    assert_eq!(away.run("halite * test.ping"), (expected.to_owned(), exit::FAILED));
    assert_eq!(away.run("halite * test.ping --hide-timeout"), ("m1:\n    True\n".to_owned(), exit::FAILED));
}

#[test]
fn those_still_running_are_waited_for_and_the_others_are_lost() {
    let master = Master::with(vec![
        ("m1", Does::Return(true.into(), 0)),
        ("m2", Does::ReturnWhenAsked("late".into())),
        ("m3", Does::Nothing),
    ]);
    let (text, code) = master.run("halite -t 0 * test.sleep 4");
    let jid = master.door.published.lock().unwrap()[0].0.clone();
    assert!(
        text.starts_with("m1:\n    True\nm2:\n    late\nm3:\n    Minion did not return. [No response]\n"),
        "{text}"
    );
    assert!(text.ends_with(&format!("\n    halite jobs show {jid}\n")), "{text}");
    assert_eq!(code, exit::FAILED);
    let (text, _) = master.run("salt -t 0 * test.sleep 4");
    assert!(text.contains("\n    salt-run jobs.lookup_jid 2026"), "{text}");
}

#[test]
fn each_kind_of_refusal_has_its_exit_code() {
    let master = two();
    let no_match = "No minions matched the target. No command was sent, no jid was assigned.\n";
    assert_eq!(master.run("halite ghost* test.ping"), (no_match.to_owned(), exit::NO_MATCH));
    assert_eq!(master.run("halite -G os:Debian test.ping").1, exit::USAGE);
    assert_eq!(master.run("halite * test.ping -b 2").1, exit::USAGE);
    assert_eq!(master.run("halite -R %web test.ping").1, exit::USAGE);
    assert_eq!(master.run("halite *").1, exit::USAGE);
    assert_eq!(master.run("halite").1, exit::USAGE);
    assert_eq!(master.run("halite reload").1, exit::NOT_PERMITTED);
    assert_eq!(master.run("halite run no.such").1, exit::FAILED);
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("master"), format!("sock_dir: {}\n", elsewhere.path().display())).unwrap();
    let line = format!("halite -c {} * test.ping", elsewhere.path().display());
    assert_eq!(super::run(words(&line)), exit::UNREACHABLE);
}

#[test]
fn an_option_that_only_salt_has_is_refused_with_what_to_do_instead() {
    let check = |line: &str, expected: &str| {
        let error = parse(words(line)).unwrap_err();
        assert!(error.to_string().starts_with(&format!("error: {expected}")), "{line}: {error}");
        assert_eq!(exit::usage(&error), exit::USAGE, "{line}");
    };
    for program in ["halite", "salt"] {
        for option in ["--batch-wait 2", "--batch-safe-limit=3", "--batch-safe-size 3", "--failhard"] {
            let name = option.split([' ', '=']).next().unwrap();
            check(&format!("{program} * test.ping {option}"), &format!("{name} is not taken: there are no batches"));
        }
        for option in ["-p", "--progress", "--subset", "-d", "--doc", "--documentation", "--return_config"] {
            check(&format!("{program} * test.ping {option}"), &format!("{option} is not taken: "));
        }
        for option in ["--return_kwargs", "--start-event", "--output-diff", "--config-dump", "--preview-target"] {
            check(&format!("{program} * test.ping {option}"), &format!("{option} is not taken: "));
        }
        for option in ["--module-executors", "--executor-opts", "--args-stdin", "--state-output", "--state_verbose"] {
            check(&format!("{program} * test.ping {option}"), &format!("{option} is not taken: "));
        }
    }
    for command in ["halite * test.ping", "salt * test.ping", "salt-run test.arg", "salt-key -L", "halite run test.arg"]
    {
        for option in ["--auth pam", "-T", "--eauth pam", "--username x", "--password x"] {
            let name = option.split(' ').next().unwrap();
            check(&format!("{command} {option}"), &format!("{name} is not taken: there is no external authentication"));
        }
        check(&format!("{command} --saltfile x"), "--saltfile is not taken: there are no Saltfiles");
        check(&format!("{command} --versions-report"), "--versions-report is not taken: --version");
    }
    check("salt * test.ping -a pam", "-a is not taken: there is no external authentication");
    check("salt-run -d", "-d is not taken: the runners are described");
    check("halite run test.arg --async", "--async is not taken: a runner is waited for");
    check("salt-key --gen-keys=x", "--gen-keys is not taken: a minion makes its own key");
    check("salt-key --gen-signature", "--gen-signature is not taken: ");
    check("halite * test.ping --no-such", "unexpected argument '--no-such' found");
}

#[test]
fn keys_are_listed_and_accepted_as_salt_key_does() {
    let master = two();
    // recorded/events/key-list-pending.txt, key-list-json.txt, key-accept.txt, key-finger.txt
    let listed = "Accepted Keys:\nDenied Keys:\nUnaccepted Keys:\nm1\nRejected Keys:\n";
    assert_eq!(master.run("halite key list"), (listed.to_owned(), exit::OK));
    assert_eq!(master.run("salt-key -L"), (listed.to_owned(), exit::OK));
    assert_eq!(master.run("halite key list pending"), ("Unaccepted Keys:\nm1\n".to_owned(), exit::OK));
    let json = "{
    \"minions_pre\": [
        \"m1\"
    ],
    \"minions_rejected\": [],
    \"minions\": [],
    \"minions_denied\": []
}
";
    assert_eq!(master.run("salt-key -L --out json"), (json.to_owned(), exit::OK));
    let accepted = "The following keys are going to be accepted:\nUnaccepted Keys:\nm1\nKey for minion m1 accepted.\n";
    assert_eq!(master.run("salt-key -y -a m1"), (accepted.to_owned(), exit::OK));
    let dry_runs: Vec<bool> = master.door.keys.lock().unwrap().iter().rev().take(2).map(|(_, s)| s.dry_run).collect();
    assert_eq!(dry_runs, [false, true]);
    assert_eq!(master.run("halite key accept m1 --dry-run").1, exit::OK);
    let nothing = "The key glob 'nosuch' does not match any unaccepted keys.\n";
    assert_eq!(master.run("salt-key -y -a nosuch"), (nothing.to_owned(), exit::OK));
    assert_eq!(master.run("halite key accept nosuch"), (nothing.to_owned(), exit::NO_MATCH));
    let fingers = "Local Keys:\nvm.pub:  a2:0d\nUnaccepted Keys:\nm1:  fb:22\n";
    assert_eq!(master.run("salt-key -F"), (fingers.to_owned(), exit::OK));
    assert_eq!(master.run("halite key finger m1"), ("Unaccepted Keys:\nm1:  fb:22\n".to_owned(), exit::OK));
    let printed = "Unaccepted Keys:\nm1:  -----BEGIN\nx\n";
    assert_eq!(master.run("salt-key -p m1"), (printed.to_owned(), exit::OK));
    assert_eq!(master.run("halite key print"), (printed.to_owned(), exit::OK));
    let nothing = "The key glob 'nosuch' does not match any accepted, denied, unaccepted or rejected keys.\n";
    assert_eq!(master.run("halite key print nosuch"), (nothing.to_owned(), exit::NO_MATCH));
    assert_eq!(master.run("salt-key -p nosuch"), (nothing.to_owned(), exit::OK));
}

#[test]
fn runners_and_events_print_what_they_have() {
    let master = two();
    // recorded/events/runner-event.txt
    let json = "{\n    \"args\": [\n        \"a\"\n    ],\n    \"kwargs\": {\n        \"b\": 1\n    }\n}\n";
    assert_eq!(master.run("salt-run test.arg a b=1 --out json"), (json.to_owned(), exit::OK));
    let stamp = "\"_stamp\": \"2026-11-20T23:51:42.651957+00:00\"";
    master.door.fire(&Tag::parse("a/1").unwrap(), &map! { "n" => 1 });
    master.door.fire(&Tag::parse("b/2").unwrap(), &map! { "n" => 2 });
    let plain = format!("a/1\t{{\"n\": 1, {stamp}}}\nb/2\t{{\"n\": 2, {stamp}}}\n");
    assert_eq!(master.run("halite events --since start --out plain"), (plain.clone(), exit::OK));
    assert_eq!(master.run("salt-run state.event count=2"), (plain + "None\n", exit::OK));
    let pretty = format!("b/2\t{{\n    {stamp},\n    \"n\": 2\n}}\n");
    assert_eq!(master.run("halite events --tag b/* --since start"), (pretty.clone(), exit::OK));
    assert_eq!(master.run("salt-run state.event b/* count=1 pretty=True"), (pretty + "None\n", exit::OK));
    let (jsonl, _) = master.run("halite events --since start --count 1 --out jsonl");
    assert!(jsonl.starts_with("{\"tag\":\"a/1\",\"offset\":1,\"data\":{\"n\":1,"), "{jsonl}");
    let (json, _) = master.run("halite events --since start --out json");
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&json).unwrap().len(), 2);
}

#[test]
fn completions_and_manual_are_made_from_the_same_words() {
    let master = two();
    let (script, code) = master.run("halite completions bash");
    assert!(script.contains("--summary") && script.contains("reactor") && code == exit::OK);
    let (page, _) = master.run("halite man");
    assert!(page.contains(".TH halite 1") && page.contains("events"), "{page}");
}

#[test]
fn those_who_are_not_meant_after_all_are_not_waited_for() {
    let good = Does::Return(true.into(), 0);
    let master = Master::with(vec![("m1", good), ("m2", Does::NotMeant)]);
    let (text, code) = master.run("halite * test.ping -t 3600 --summary");
    assert!(text.starts_with("m1:\n    True\n") && text.contains("# of minions targeted: 1\n"), "{text}");
    assert_eq!(code, exit::OK);
    let nobody = Master::with(vec![("m2", Does::NotMeant)]);
    assert_eq!(nobody.run("halite * test.ping -t 3600"), (String::new(), exit::NO_MATCH));
}
