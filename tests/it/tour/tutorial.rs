//! `docs/tutorial.md`: each block is typed, and what is printed below a command is what comes. `…` in it stands for
//! anything; what would never end is left to [`ENDLESS`].

use halite_tests::{Fleet, wait_for};

use super::{ByHand, PRINTED_DIR, Shell, blocks};

const TUTORIAL: &str = include_str!("../../../docs/tutorial.md");

/// Blocks that are not typed, by a word of theirs, each with its reason.
const NOT_TYPED: &[(&str, &str)] =
    &[("cargo build", "the binaries are there"), ("# terminal 1", "the daemons are started on ports of their own")];
/// Commands that end with Ctrl-C.
const ENDLESS: &[&str] = &["halite events  ", "halite run state.event"];
/// What is shown of one machine only: its kernel, and a fingerprint.
const SHOWN: [&str; 2] = ["Linux 6.12.0", "97:82:fd:a0:26:08:76:e2:…"];

fn typed() -> Vec<(&'static str, &'static str)> {
    let kept = |text: &str| !NOT_TYPED.iter().any(|(word, _)| text.contains(word));
    blocks(TUTORIAL).into_iter().filter(|(language, text)| *language != "text" && kept(text)).collect()
}

#[test]
fn the_tutorial_gives_what_it_says() {
    // Only for its directory and the place of the binaries.
    let fleet = Fleet::new().start();
    let dir = fleet.site.dir().join("tour");
    let bin = fleet.site.binaries().halite.parent().unwrap();
    let shell = Shell { dir: &dir, bin };
    let mut steps = typed().into_iter();
    let (_, files) = steps.next().unwrap();
    shell.types(files).expect_code(0);
    let _daemons = ByHand::start(&shell, fleet.site.binaries());
    wait_for("the key to be pending", || shell.types("halite key list").stdout.contains("Unaccepted Keys:\nweb1"));
    for (language, text) in steps {
        if text.contains("test.ping") {
            wait_for("web1 to be connected", || {
                shell.types("halite minions --out json").stdout.contains("\"up\": true")
            });
        }
        if language == "console" { console(&shell, text) } else { script(&shell, text) }
    }
    let told = |tag: &str| shell.types(&format!("halite events --since start --tag '{tag}' --out jsonl")).jsonl();
    wait_for("the beacon", || !told("salt/beacon/web1/memusage/").is_empty());
    wait_for("the reaction's return", || {
        told("salt/job/*/ret/web1").iter().any(|event| event["data"]["return"].to_string().contains("COMMAND"))
    });
    assert_eq!(told("myco/deploy")[0]["data"]["data"]["version"], 7);
}

/// Types the lines of a block; a here document is one of them.
fn script(shell: &Shell, text: &str) {
    let kept = text.lines().filter(|line| !ENDLESS.iter().any(|endless| line.starts_with(endless)));
    shell.types(&kept.collect::<Vec<_>>().join("\n")).expect_code(0);
}

/// Types what follows each `$ `, and expects what is printed below it.
fn console(shell: &Shell, text: &str) {
    let uname = shell.types("uname -sr").stdout;
    let jid = |shell: &Shell| {
        let jobs = shell.types("halite jobs list --out json").json();
        jobs.as_object().and_then(|jobs| jobs.keys().next_back().cloned()).unwrap_or_default()
    };
    let text = text.replace(SHOWN[0], uname.trim()).replace(SHOWN[1], "…");
    for step in text.split("$ ").skip(1) {
        let (command, printed) = step.split_once('\n').unwrap_or((step, ""));
        let command = match command.strip_prefix("halite jobs show ") {
            Some(_) => format!("halite jobs show {}", jid(shell)),
            None => command.to_owned(),
        };
        // Where a person presses the return key.
        let asked = printed.contains("Proceed?");
        // A person's shell goes on after a command that failed.
        let outcome = shell.types(&format!("set +e\n{}{command}", if asked { "echo | " } else { "" }));
        // The typed return ends the line on a terminal.
        let stdout = if asked { outcome.stdout.replace("[n/Y] ", "[n/Y]\n") } else { outcome.stdout };
        assert!(printed.is_empty() || fits(printed, &stdout), "{command}\nprinted:\n{printed}\ncame:\n{stdout}");
        assert_eq!(outcome.code, 0, "{command}: {}", outcome.stderr);
    }
}

/// Tells whether a text is what was printed, where `…` stands for the rest of a line.
fn fits(printed: &str, came: &str) -> bool {
    let (printed, came): (Vec<&str>, Vec<&str>) = (printed.lines().collect(), came.lines().collect());
    printed.len() == came.len()
        && printed.iter().zip(&came).all(|(printed, came)| match printed.split_once('…') {
            Some((start, _)) => came.starts_with(start),
            None => printed == came,
        })
}

#[test]
fn everything_in_the_tutorial_is_typed_or_has_a_reason() {
    assert!(typed().len() > 6, "the tutorial has its steps");
    for (word, _) in NOT_TYPED {
        assert!(blocks(TUTORIAL).iter().any(|(_, text)| text.contains(word)), "{word}: no such block");
    }
    assert!(TUTORIAL.contains(PRINTED_DIR));
}
