//! Runs an execution function on the master's own host: `halite-minion call --local`, which lies beside this binary.
//!
//! The master has no execution functions of its own and is not to have any: they are the minion's, with its limits.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use proto::value::Value;
use render::yaml;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::args::Args;
use crate::command::CommandError;

/// How long a function may take. Then it is killed: whoever waits here waits with an open connection.
const DEADLINE: Duration = Duration::from_secs(300);
/// The most that a function may print: as much as a minion sends. More is an error.
const MAX_OUTPUT: u64 = 4 << 20;

/// Runs a function and returns what it returned.
pub(super) async fn run(confdir: &str, fun: &str, args: &Args) -> Result<Value, CommandError> {
    let words = words(args)?;
    let program = program().map_err(|error| failed(fun, &format!("this binary cannot be found: {error}")))?;
    let mut command = Command::new(&program);
    command.args(["-c", confdir, "call", "--local", "--out", "json", "--out-indent", "-1", "--", fun]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| failed(fun, &format!("{} cannot be started: {error}; install it there", program.display())))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async { tokio::join!(limited(stdout), limited(stderr), child.wait()) };
    // A late one is killed when `child` is dropped.
    let Ok((stdout, stderr, _)) = tokio::time::timeout(DEADLINE, work).await else {
        return Err(failed(fun, &format!("it took longer than {} s and was killed", DEADLINE.as_secs())));
    };
    if stdout.len() as u64 > MAX_OUTPUT {
        return Err(failed(fun, &format!("it printed more than {MAX_OUTPUT} bytes")));
    }
    let printed: Option<serde_json::Value> = serde_json::from_slice(&stdout).ok();
    match printed.as_ref().and_then(|printed| printed.get("local")) {
        Some(value) => Ok(Value::from_json(value)),
        None => Err(failed(fun, String::from_utf8_lossy(&stderr).trim())),
    }
}

fn failed(fun: &str, why: &str) -> CommandError {
    CommandError::Internal(format!("failed to run {fun} on the master's host: {why}"))
}

fn program() -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("halite-minion"))
}

/// Reads one byte more than is allowed, so that too much shows. What reads no further ends by a closed pipe.
async fn limited(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut read = Vec::new();
    if let Some(stream) = stream {
        // What was read until a failure is what there is.
        let _ = stream.take(MAX_OUTPUT + 1).read_to_end(&mut read).await;
    }
    read
}

/// Writes arguments as words of a command line that are read back as the same values.
fn words(args: &Args) -> Result<Vec<String>, CommandError> {
    let positional = args.arg.iter().map(|value| {
        spellings(value).into_iter().find(|word| yaml::parse_kwarg(word).is_none() && yaml::cli_arg(word) == *value)
    });
    let named = args.kwarg.iter().map(|(name, value)| {
        let name = name.to_key();
        let mut words = spellings(value).into_iter().map(|word| format!("{name}={word}"));
        words.find(|word| yaml::parse_kwarg(word).is_some_and(|(key, read)| key == name && read == *value))
    });
    let words: Option<Vec<String>> = positional.chain(named).collect();
    words.ok_or_else(|| CommandError::Invalid("an argument of salt.cmd cannot be written as a word".to_owned()))
}

fn spellings(value: &Value) -> Vec<String> {
    let json = value.to_json().to_string();
    match value {
        Value::Str(text) => vec![text.clone(), json],
        Value::Null => vec!["None".to_owned(), json],
        _ => vec![json],
    }
}

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    #[test]
    fn words_are_read_back_as_the_same_values() {
        let check = |value: Value, expected: &str| {
            let args = Args { arg: vec![value], ..Args::default() };
            assert_eq!(words(&args).unwrap(), [expected]);
        };
        check("plain text".into(), "plain text");
        check("7".into(), "\"7\"");
        check("a=b".into(), "\"a=b\"");
        check("True".into(), "\"True\"");
        check(7.into(), "7");
        check(true.into(), "true");
        check(vec![1, 2].into(), "[1,2]");
        check(map! { "a" => "b" }.into(), "{\"a\":\"b\"}");
        let named = Args { kwarg: map! { "cwd" => "/", "n" => 3, "text" => "4" }, ..Args::default() };
        assert_eq!(words(&named).unwrap(), ["cwd=/", "n=3", "text=\"4\""]);
    }
}
