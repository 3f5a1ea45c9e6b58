//! `cmd`: runs programs and shell scripts on this host, as the minion's user or another.
//!
//! ```yaml
//! # Minion configuration; neither is set by default.
//! cmd_blacklist_glob: ['rm *']      # commands that jobs may not run
//! cmd_whitelist_glob: ['/usr/*']    # if set, the only ones they may run
//! ```
//! The environment is the minion's, with every locale variable `C` (unless `reset_system_locale=False`) and `env` on top;
//! `NOTIFY_SOCKET` never passes on. Input is empty unless `stdin` is given. The program leads a process group of its own,
//! which is killed as a whole when it times out or its job is killed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use proto::target::glob::Glob;
use proto::value::{MapExt, Value};

use super::args::{plain_text, python_repr};
use super::process::{self, Ending, Finished, Run, Stderr};
use super::runas::Target;
use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};

/// The variables that Salt sets to `C`, so that programs speak the English that scripts expect.
const LOCALE: [&str; 13] = [
    "LC_CTYPE",
    "LC_NUMERIC",
    "LC_TIME",
    "LC_COLLATE",
    "LC_MONETARY",
    "LC_MESSAGES",
    "LC_PAPER",
    "LC_NAME",
    "LC_ADDRESS",
    "LC_TELEPHONE",
    "LC_MEASUREMENT",
    "LC_IDENTIFICATION",
    "LANGUAGE",
];
/// Options of Salt's that would change what runs, or as whom, and are not there: silence would be worse than a refusal.
const UNSUPPORTED: [&str; 6] = ["bg", "encoded_cmd", "group", "template", "umask", "use_vt"];

const PARAMS: &[Param] = &[
    Param::required("cmd"),
    Param::optional("cwd", Fallback::None),
    Param::optional("stdin", Fallback::None),
    Param::optional("runas", Fallback::None),
    Param::optional("shell", Fallback::None),
    Param::optional("python_shell", Fallback::Bool(true)),
    Param::optional("env", Fallback::None),
    Param::optional("clean_env", Fallback::Bool(false)),
    Param::optional("rstrip", Fallback::Bool(true)),
    Param::optional("hide_output", Fallback::Bool(false)),
    Param::optional("timeout", Fallback::None),
    Param::optional("reset_system_locale", Fallback::Bool(true)),
    Param::optional("ignore_retcode", Fallback::Bool(false)),
    Param::optional("redirect_stderr", Fallback::None),
    Param::optional("raise_err", Fallback::Bool(false)),
    Param::optional("prepend_path", Fallback::None),
    Param::optional("success_retcodes", Fallback::None),
    Param::keywords(),
];

mod code;

pub(super) const FUNCTIONS: &[Function] = &[
    code::EXEC_CODE,
    code::HAS_EXEC,
    Function {
        name: "cmd.retcode",
        doc: "Run a command and return its exit status. Takes what cmd.run takes.

CLI Example:

.. code-block:: bash

    salt '*' cmd.retcode \"file /bin/bash\"",
        params: PARAMS,
        run: |cx, args| execute(cx, &args, Stderr::Separate, |result| result.retcode.into()),
    },
    Function {
        name: "cmd.run",
        doc: "Run a command and return its output, standard error included.

cmd
    What to run: a text for the shell, or with python_shell=False a program and its arguments.
cwd
    The folder to run in. Default: the home directory of the user it runs as.
stdin
    What the command reads.
runas
    The user to run it as.
shell
    The shell. Default: the minion's $SHELL, or /bin/sh.
python_shell
    False runs the program directly, without a shell.
env
    A map of environment variables to set; clean_env=True drops all others.
timeout
    The seconds after which the command and all it started are killed.
ignore_retcode
    True makes the job succeed whatever the exit status.
raise_err
    True makes an exit status other than 0 an error.
success_retcodes
    Further exit statuses that count as 0.
rstrip, hide_output, redirect_stderr, prepend_path, reset_system_locale
    As in Salt.

CLI Example:

.. code-block:: bash

    salt '*' cmd.run \"ls -l | grep foo\"",
        params: PARAMS,
        run: |cx, args| execute(cx, &args, Stderr::Merged, |result| result.stdout.into()),
    },
    Function {
        name: "cmd.run_all",
        doc: "Run a command and return a map of its pid, retcode, stdout and stderr. Takes what cmd.run takes.

CLI Example:

.. code-block:: bash

    salt '*' cmd.run_all \"ls -l\"",
        params: PARAMS,
        run: |cx, args| execute(cx, &args, Stderr::Separate, all),
    },
    Function {
        name: "cmd.run_stderr",
        doc: "Run a command and return its standard error. Takes what cmd.run takes.

CLI Example:

.. code-block:: bash

    salt '*' cmd.run_stderr \"ls -l /nowhere\"",
        params: PARAMS,
        run: |cx, args| execute(cx, &args, Stderr::Separate, |result| result.stderr.into()),
    },
    Function {
        name: "cmd.run_stdout",
        doc: "Run a command and return its standard output. Takes what cmd.run takes.

CLI Example:

.. code-block:: bash

    salt '*' cmd.run_stdout \"ls -l\"",
        params: PARAMS,
        run: |cx, args| execute(cx, &args, Stderr::Separate, |result| result.stdout.into()),
    },
    code::SCRIPT,
    Function {
        name: "cmd.shell",
        doc: "Run a command in a shell, whatever python_shell says, and return its output. Takes what cmd.run takes.

CLI Example:

.. code-block:: bash

    salt '*' cmd.shell \"ls -l | grep foo\"",
        params: PARAMS,
        run: |cx, args| execute(cx, &args.with("python_shell", true), Stderr::Merged, |result| result.stdout.into()),
    },
    code::WHICH,
];

/// What a command left behind, as Salt tells it.
struct CommandResult {
    pid: u32,
    retcode: i64,
    stdout: String,
    stderr: String,
}

fn all(result: CommandResult) -> Value {
    let CommandResult { pid, retcode, stdout, stderr } = result;
    proto::map! { "pid" => pid, "retcode" => retcode, "stdout" => stdout, "stderr" => stderr }.into()
}

/// Runs the command and shows of it what the function is for.
fn execute(
    cx: &ModuleContext,
    args: &Args,
    stderr: Stderr,
    show: fn(CommandResult) -> Value,
) -> Result<Outcome, CallError> {
    let spec = Spec::read(cx, args, stderr)?;
    let mut result = spec.run(cx)?;
    if spec.success_retcodes.contains(&result.retcode) {
        result.retcode = 0;
    }
    let (retcode, shown) = (result.retcode, &spec.shown);
    if args.flag("raise_err") && retcode != 0 {
        let output = [result.stdout.as_str(), result.stderr.as_str()].join("\n");
        let text = format!("Command '{shown}' failed with return code: {retcode}\n{}", output.trim());
        return Err(CallError::Failed(text.trim_end().to_owned()));
    }
    if args.flag("hide_output") {
        (result.stdout, result.stderr) = Default::default();
    }
    let retcode = if args.flag("ignore_retcode") { 0 } else { retcode };
    Ok(Outcome::with_retcode(show(result), retcode))
}

/// A command, ready to run.
struct Spec {
    argv: Vec<OsString>,
    /// The command as the user wrote it, for messages.
    shown: String,
    cwd: PathBuf,
    env: BTreeMap<String, String>,
    stdin: Option<Vec<u8>>,
    stderr: Stderr,
    timeout: Option<f64>,
    timeout_text: String,
    runas: Option<Target>,
    rstrip: bool,
    success_retcodes: Vec<i64>,
}

impl Spec {
    fn read(cx: &ModuleContext, args: &Args, stderr: Stderr) -> Result<Spec, CallError> {
        if let Some(option) = UNSUPPORTED.iter().find(|name| args.extra().at(name).is_some_and(Value::is_truthy)) {
            return Err(CallError::Invocation(format!("the option '{option}' is not supported by this minion")));
        }
        let cmd = args.value("cmd");
        let shown = match cmd {
            Value::List(_) => python_repr(cmd),
            other => plain_text(other),
        };
        check_allowed(cx, cmd)?;
        let runas = args.text("runas").map(|user| Target::find(&user)).transpose();
        let runas = runas.map_err(|error| CallError::Failed(error.to_string()))?;
        let redirect = args.value("redirect_stderr").as_bool();
        let timeout = args.number("timeout")?.filter(|limit| *limit > 0.0);
        Ok(Spec {
            argv: argv(cx, args)?,
            shown,
            cwd: folder(args, runas.as_ref())?,
            env: environment(args, runas.as_ref())?,
            // The command line cannot hold a line feed, so Salt takes `\n` for one.
            stdin: args.text("stdin").map(|text| text.replace("\\n", "\n").into_bytes()),
            stderr: match redirect {
                Some(true) => Stderr::Merged,
                Some(false) => Stderr::Separate,
                None => stderr,
            },
            timeout,
            timeout_text: plain_text(args.value("timeout")),
            runas,
            rstrip: args.flag("rstrip"),
            success_retcodes: success_retcodes(args.value("success_retcodes"))?,
        })
    }

    fn run(&self, cx: &ModuleContext) -> Result<CommandResult, CallError> {
        let mut command = match &self.runas {
            Some(target) => target.command(&cx.program, &self.argv),
            None => {
                let mut command = Command::new(&self.argv[0]);
                command.args(&self.argv[1..]);
                command
            }
        };
        command.current_dir(&self.cwd).env_clear().envs(&self.env);
        let timeout = self.timeout.and_then(|limit| Duration::try_from_secs_f64(limit).ok());
        let run = Run {
            command,
            stdin: self.stdin.clone(),
            stderr: self.stderr,
            timeout: timeout.and_then(|limit| Instant::now().checked_add(limit)),
            deadline: cx.deadline,
            control: &cx.control,
        };
        let finished = process::run(run).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            CallError::Failed(format!("Unable to run command '{}', reason: {cause}", self.shown))
        })?;
        self.result(finished)
    }

    fn result(&self, finished: Finished) -> Result<CommandResult, CallError> {
        let Finished { pid, ending, stdout, stderr } = finished;
        let strip = |text: String| if self.rstrip { text.trim_end().to_owned() } else { text };
        match ending {
            Ending::Exited(retcode) => {
                Ok(CommandResult { pid, retcode, stdout: strip(stdout.text()), stderr: strip(stderr.text()) })
            }
            Ending::Stopped(stop) => Err(CallError::Stopped(stop)),
            Ending::TimedOut => {
                let stdout = format!("{} : Timed out after {} seconds", self.shown, self.timeout_text);
                Ok(CommandResult { pid, retcode: 1, stdout, stderr: String::new() })
            }
        }
    }
}

/// Refuses what the minion's configuration forbids.
fn check_allowed(cx: &ModuleContext, cmd: &Value) -> Result<(), CallError> {
    let text = match cmd {
        Value::List(words) => words.iter().map(plain_text).collect::<Vec<_>>().join(" "),
        other => plain_text(other),
    };
    let listed = |key: &str| {
        let globs = cx.configured(key).and_then(Value::as_list).unwrap_or_default();
        (!globs.is_empty()).then(|| globs.iter().any(|glob| Glob::new(&plain_text(glob)).matches(&text)))
    };
    if listed("cmd_blacklist_glob") == Some(true) || listed("cmd_whitelist_glob") == Some(false) {
        return Err(CallError::Failed(format!("The shell command \"{text}\" is not permitted")));
    }
    Ok(())
}

/// Returns the program and its arguments.
fn argv(cx: &ModuleContext, args: &Args) -> Result<Vec<OsString>, CallError> {
    let words = match args.value("cmd") {
        Value::List(words) => words.iter().map(plain_text).collect(),
        cmd if args.flag("python_shell") => {
            let shell = args.text("shell").or_else(|| cx.grains.text("shell").map(str::to_owned));
            let shell = shell.or_else(|| std::env::var("SHELL").ok()).unwrap_or_else(|| "/bin/sh".to_owned());
            if !is_executable(Path::new(&shell)) {
                return Err(CallError::Failed(format!("The shell {shell} is not available")));
            }
            vec![shell, "-c".to_owned(), plain_text(cmd)]
        }
        cmd => split_words(&plain_text(cmd))?,
    };
    if words.is_empty() {
        return Err(CallError::Invocation("the command is empty".to_owned()));
    }
    Ok(words.into_iter().map(OsString::from).collect())
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn folder(args: &Args, runas: Option<&Target>) -> Result<PathBuf, CallError> {
    let Some(cwd) = args.text("cwd").filter(|cwd| !cwd.is_empty()) else {
        let home = match runas {
            Some(target) => Some(target.home.clone()),
            None => std::env::home_dir(),
        };
        let usable = |home: &PathBuf| home.is_absolute() && std::fs::read_dir(home).is_ok();
        return Ok(home.filter(usable).unwrap_or_else(|| PathBuf::from("/")));
    };
    let path = PathBuf::from(&cwd);
    match path.is_absolute() && path.is_dir() {
        true => Ok(path),
        false => Err(CallError::Failed(format!("Specified cwd '{cwd}' either not absolute or does not exist"))),
    }
}

fn environment(args: &Args, runas: Option<&Target>) -> Result<BTreeMap<String, String>, CallError> {
    let given = given_environment(args.value("env"))?;
    let mut env = BTreeMap::new();
    if !args.flag("clean_env") {
        env.extend(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))));
        env.remove("NOTIFY_SOCKET");
    }
    if args.flag("reset_system_locale") {
        env.extend(LOCALE.iter().map(|name| ((*name).to_owned(), "C".to_owned())));
    }
    if let Some(target) = runas {
        // The loader obeys these before the rights of root are given up.
        if given.keys().any(|name| name.starts_with("LD_")) {
            return Err(CallError::Invocation("env cannot set LD_ variables together with runas".to_owned()));
        }
        let text = |path: &Path| path.to_string_lossy().into_owned();
        env.insert("HOME".to_owned(), text(&target.home));
        env.insert("SHELL".to_owned(), text(&target.shell));
        env.insert("USER".to_owned(), target.name.clone());
        env.insert("LOGNAME".to_owned(), target.name.clone());
    }
    env.extend(given);
    if let Some(prefix) = args.text("prepend_path") {
        let path = env.get("PATH").cloned().unwrap_or_default();
        env.insert("PATH".to_owned(), format!("{prefix}:{path}"));
    }
    Ok(env)
}

/// Reads `env`: a map, or a list of maps. A variable without a value is set to nothing.
fn given_environment(env: &Value) -> Result<BTreeMap<String, String>, CallError> {
    let maps: Vec<&Value> = match env {
        Value::Null => return Ok(BTreeMap::new()),
        Value::List(items) => items.iter().collect(),
        one => vec![one],
    };
    let mut out = BTreeMap::new();
    for map in maps {
        let map = map.as_map().ok_or_else(|| CallError::Invocation("env must be a map".to_owned()))?;
        for (name, value) in map {
            let name = plain_text(name);
            let value = if value.is_null() { String::new() } else { plain_text(value) };
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(CallError::Invocation(format!("env has a bad variable: {}", name.escape_debug())));
            }
            out.insert(name, value);
        }
    }
    Ok(out)
}

fn success_retcodes(value: &Value) -> Result<Vec<i64>, CallError> {
    let words: Vec<String> = match value {
        Value::Null => return Ok(Vec::new()),
        Value::List(items) => items.iter().map(plain_text).collect(),
        other => plain_text(other).split(',').map(str::to_owned).collect(),
    };
    let codes: Result<_, _> = words.iter().map(|word| word.trim().parse()).collect();
    codes.map_err(|_| CallError::Invocation("success_retcodes must be a list of integers".to_owned()))
}

/// Splits a text into words as a shell would, without expanding anything (Python's `shlex.split`).
fn split_words(text: &str) -> Result<Vec<String>, CallError> {
    let raise = |message: &str| CallError::Exception { kind: "ValueError", message: message.to_owned() };
    let (mut words, mut word, mut letters) = (Vec::new(), None::<String>, text.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                quoted(letter, &mut letters, word).ok_or_else(|| raise("No closing quotation"))?;
            }
            '\\' => {
                let next = letters.next().ok_or_else(|| raise("No escaped character"))?;
                word.get_or_insert_default().push(next);
            }
            _ if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Takes letters up to the closing quote; nothing if there is none.
fn quoted(quote: char, letters: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match letters.next()? {
            letter if letter == quote => return Some(()),
            '\\' if quote == '"' => match letters.next()? {
                letter @ ('"' | '\\') => word.push(letter),
                letter => word.extend(['\\', letter]),
            },
            letter => word.push(letter),
        }
    }
}

#[cfg(test)]
mod tests;
