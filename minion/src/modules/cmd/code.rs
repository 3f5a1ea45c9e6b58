//! Programs that are given as code or as a script file, and where programs are.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::unistd::User;
use proto::value::{Map, MapExt, Value};

use super::{is_executable, split_words};
use crate::modules::args::plain_text;
use crate::modules::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param, find};

/// How much of a script is looked at for its first line.
const MAX_SHEBANG: u64 = 256;
/// Makes names of code files unlike each other.
static NEXT: AtomicU64 = AtomicU64::new(0);

pub(super) const EXEC_CODE: Function = Function {
    name: "cmd.exec_code",
    doc: "Run code in a language and return its output.

lang
    The interpreter, such as python3 or ruby; it gets a file with the code, and args.
code, args
    The code, and arguments for it: a list, or one text.
cwd
    The folder to run in. Further options are those of cmd.run.

CLI Example:

.. code-block:: bash

    salt '*' cmd.exec_code ruby 'puts \"cheese\"'
    salt '*' cmd.exec_code ruby 'puts \"cheese\"' args='[\"arg1\", \"arg2\"]' env='{\"FOO\": \"bar\"}'",
    params: &[
        Param::required("lang"),
        Param::required("code"),
        Param::optional("cwd", Fallback::None),
        Param::optional("args", Fallback::None),
        Param::keywords(),
    ],
    run: exec_code,
};

pub(super) const HAS_EXEC: Function = Function {
    name: "cmd.has_exec",
    doc: "Tell whether a program is in the minion's PATH.

CLI Example:

.. code-block:: bash

    salt '*' cmd.has_exec cat",
    params: &[Param::required("cmd")],
    run: |_, args| Ok(Value::Bool(which(&args).is_some()).into()),
};

pub(super) const SCRIPT: Function = Function {
    name: "cmd.script",
    doc:
        "Run a script of this host, with the interpreter that its first line names, and return what cmd.run_all returns.

source
    The script's absolute path. The master serves no files, so salt:// is refused.
args
    Its arguments: a list, or one text that is split as a shell would.
cwd
    The folder to run in. Further options are those of cmd.run.

CLI Example:

.. code-block:: bash

    salt '*' cmd.script /usr/local/sbin/check.sh args='one \"two three\"'",
    params: &[
        Param::required("source"),
        Param::optional("args", Fallback::None),
        Param::optional("cwd", Fallback::None),
        Param::keywords(),
    ],
    run: script,
};

pub(super) const WHICH: Function = Function {
    name: "cmd.which",
    doc: "Return the path of a program in the minion's PATH; nothing if there is none such.

CLI Example:

.. code-block:: bash

    salt '*' cmd.which cat",
    params: &[Param::required("cmd")],
    run: |_, args| Ok(Value::from(which(&args)).into()),
};

fn which(args: &Args) -> Option<String> {
    let name = args.text("cmd").filter(|name| !name.is_empty())?;
    let found = match name.contains('/') {
        true => Some(PathBuf::from(&name)).filter(|path| path.is_absolute() && is_executable(path)),
        false => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).map(|folder| folder.join(&name)).find(|path| is_executable(path))
        }
    };
    found.map(|path| path.to_string_lossy().into_owned())
}

/// Runs words with the options that the caller gave beyond its own.
fn run(cx: &ModuleContext, fun: &str, words: Vec<String>, args: &Args) -> Result<Outcome, CallError> {
    let own = args.extra().iter().filter(|(key, _)| !key.to_key().starts_with("__"));
    let mut options: Map = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    options.set("cwd", args.value("cwd").clone());
    options.set("python_shell", false);
    let function = find(fun).ok_or_else(|| CallError::Failed(format!("'{fun}' is not available.")))?;
    function.call(cx, vec![words.into()], options)
}

/// Reads `args`: a list of words, or a text of them.
fn words(value: &Value) -> Result<Vec<String>, CallError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::List(words) => Ok(words.iter().map(plain_text).collect()),
        other => split_words(&plain_text(other)),
    }
}

fn script(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let source = args.text("source").unwrap_or_default();
    let path = Path::new(&source);
    if !path.is_absolute() {
        return Err(CallError::Invocation(format!("'{source}' is no absolute path: the master serves no files")));
    }
    let mut argv = interpreter(path)?;
    argv.push(source);
    argv.extend(words(args.value("args"))?);
    run(cx, "cmd.run_all", argv, &args)
}

/// Returns what runs a script: what its first line says, else the shell; nothing for a compiled program.
fn interpreter(path: &Path) -> Result<Vec<String>, CallError> {
    let refuse = |error: std::io::Error| CallError::Failed(format!("Could not read '{}': {error}", path.display()));
    // A pipe would keep the job waiting.
    if !fs::metadata(path).map_err(refuse)?.is_file() {
        return Err(CallError::Failed(format!("Could not read '{}': no regular file", path.display())));
    }
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_SHEBANG).read_to_end(&mut head)).map_err(refuse)?;
    if head.starts_with(b"\x7fELF") {
        return Ok(Vec::new());
    }
    let text = String::from_utf8_lossy(&head);
    let line = text.lines().next().and_then(|line| line.strip_prefix("#!")).map(str::trim).unwrap_or_default();
    Ok(match line.split_once(char::is_whitespace) {
        // The kernel gives the rest as one argument.
        Some((program, argument)) => vec![program.to_owned(), argument.trim().to_owned()],
        None if line.is_empty() => vec!["/bin/sh".to_owned()],
        None => vec![line.to_owned()],
    })
}

fn exec_code(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let lang = args.text("lang").filter(|lang| !lang.is_empty() && !lang.starts_with('-'));
    let lang = lang.ok_or_else(|| CallError::Invocation("lang must name an interpreter".to_owned()))?;
    let user = args.extra().at("runas").filter(|user| user.is_truthy()).map(plain_text);
    let file = CodeFile::write(&args.text("code").unwrap_or_default(), user.as_deref());
    let file = file.map_err(|error| CallError::Failed(format!("Could not write the code: {error}")))?;
    let mut argv = vec![lang, file.0.to_string_lossy().into_owned()];
    argv.extend(match args.value("args") {
        Value::Str(one) => vec![one.clone()],
        other => words(other)?,
    });
    run(cx, "cmd.run", argv, &args)
}

/// A file with code, which only the user that runs it may read; removed with this value.
struct CodeFile(PathBuf);

impl CodeFile {
    fn write(code: &str, user: Option<&str>) -> std::io::Result<CodeFile> {
        let name = format!("halite-code-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        // Never a file, or a link, that somebody else has put there.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let guard = CodeFile(path);
        file.write_all(code.as_bytes())?;
        if let Some(user) = user.and_then(|user| User::from_name(user).ok().flatten()) {
            chown(&guard.0, Some(user.uid.as_raw()), None)?;
        }
        Ok(guard)
    }
}

impl Drop for CodeFile {
    fn drop(&mut self) {
        // It may be gone already; there is nobody to tell.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::map;
    use std::sync::Arc;

    fn call(fun: &str, args: &[&str], options: Map) -> Result<Outcome, CallError> {
        let cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(map! { "shell" => "/bin/sh" }));
        let args = args.iter().map(|arg| Value::from(*arg)).collect();
        find(fun).expect("a function").call(&cx, args, options)
    }

    #[test]
    fn code_is_run_and_its_file_removed() {
        let outcome = call(
            "cmd.exec_code",
            &["sh", "echo \"$1 $A\"; exit 3"],
            map! {
                "args" => vec!["x y"], "env" => map! { "A" => "1" },
            },
        );
        assert_eq!(outcome, Ok(Outcome::with_retcode("x y 1", 3)));
        let name = call("cmd.exec_code", &["sh", "echo $0"], Map::new()).expect("runs").ret;
        assert!(!Path::new(name.as_str().expect("a path")).exists());
        assert!(call("cmd.exec_code", &["", "x"], Map::new()).is_err());
        assert!(call("cmd.exec_code", &["no-such-interpreter", "x"], Map::new()).is_err());
    }

    #[test]
    fn a_script_needs_no_right_to_be_executed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("one.sh");
        fs::write(&path, "#!/bin/sh -e\nfalse || echo \"$1|$2\"; pwd >&2; exit 4\n").expect("written");
        let source = path.to_str().expect("text");
        let outcome = call("cmd.script", &[source], map! { "args" => "a 'b c'", "cwd" => "/" }).expect("runs");
        let map = outcome.ret.as_map().expect("a map");
        assert_eq!((map.text("stdout"), map.text("stderr"), outcome.retcode), (Some("a|b c"), Some("/"), 4));
    }

    #[test]
    fn scripts_of_elsewhere_are_refused() {
        for source in ["salt://x.sh", "http://x/y.sh", "x.sh", "/no/such/script", "/dev/null", "/"] {
            assert!(call("cmd.script", &[source], Map::new()).is_err(), "{source}");
        }
    }

    #[test]
    fn programs_are_found() {
        let path = call("cmd.which", &["sh"], Map::new()).expect("an outcome").ret;
        assert!(path.as_str().is_some_and(|path| path.ends_with("/sh")));
        assert_eq!(call("cmd.which", &["/bin/sh"], Map::new()).expect("an outcome").ret, "/bin/sh".into());
        assert_eq!(call("cmd.which", &["no-such-program"], Map::new()).expect("an outcome").ret, Value::Null);
        assert_eq!(call("cmd.has_exec", &["sh"], Map::new()).expect("an outcome").ret, true.into());
        assert_eq!(call("cmd.has_exec", &[""], Map::new()).expect("an outcome").ret, false.into());
        let text = call("cmd.shell", &["echo $((1 + 1))"], map! { "python_shell" => false });
        assert_eq!(text, Ok(Outcome::with_retcode("2", 0)));
    }
}
