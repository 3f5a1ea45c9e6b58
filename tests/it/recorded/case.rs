//! One recording: the command, what it printed, how it ended.

/// What was recorded.
#[derive(Debug)]
pub(super) struct Case {
    /// The command, as it was typed.
    pub(super) command: String,
    /// Its standard output.
    pub(super) stdout: String,
    /// Its standard error.
    pub(super) stderr: String,
    /// Its exit code.
    pub(super) code: i32,
}

impl Case {
    /// Reads the file of a recording.
    #[track_caller]
    pub(super) fn parse(name: &str, text: &str) -> Case {
        let (command, rest) = text
            .strip_prefix("$ ")
            .and_then(|text| text.split_once('\n'))
            .unwrap_or_else(|| panic!("{name} begins with its command"));
        // An empty output leaves no line behind.
        let rest = format!("\n{rest}");
        let (printed, end) =
            rest.rsplit_once("\n--- exit ").unwrap_or_else(|| panic!("{name} ends with its exit code"));
        let (stdout, stderr) = printed.split_once("\n--- stderr").unwrap_or((printed, ""));
        let code = end.split(' ').next().and_then(|code| code.parse().ok());
        let code = code.unwrap_or_else(|| panic!("{name}: no exit code in {end:?}"));
        Case { command: command.to_owned(), stdout: lines(stdout), stderr: lines(stderr), code }
    }
}

/// Takes the line feed from the front and gives it to the end.
fn lines(text: &str) -> String {
    match text.strip_prefix('\n') {
        Some(text) => format!("{text}\n"),
        None => String::new(),
    }
}
