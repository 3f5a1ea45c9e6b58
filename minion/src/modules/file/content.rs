//! What is in a file: reading, writing, adding, hashing.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use proto::value::{MapExt, Value};
use ring::digest;

use super::{bounded, failed, path};
use crate::modules::args::plain_text;
use crate::modules::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};

/// How much is hashed at once; between two pieces the job can be stopped.
const CHUNK: usize = 64 << 10;

pub(super) const APPEND: Function = Function {
    name: "file.append",
    doc: "Add lines to the end of a file. A last line without an end gets one first.

CLI Example:

.. code-block:: bash

    salt '*' file.append /etc/motd 'With all thine offerings' 'thou shalt offer salt.'
    salt '*' file.append /etc/motd args='one line'",
    params: &[Param::required("path"), Param::rest(), Param::keywords()],
    run: append,
};

pub(super) const CHECK_HASH: Function = Function {
    name: "file.check_hash",
    doc: "Tell whether a file has this hash: digits, or the algorithm, = or : and digits.

CLI Example:

.. code-block:: bash

    salt '*' file.check_hash /etc/fstab sha256=<hash>",
    params: &[Param::required("path"), Param::required("file_hash")],
    run: check_hash,
};

pub(super) const CONTAINS: Function = Function {
    name: "file.contains",
    doc: "Tell whether a file contains a text.

CLI Example:

.. code-block:: bash

    salt '*' file.contains /etc/crontab 'mymaintenance.sh'",
    params: &[Param::required("path"), Param::required("text")],
    run: contains,
};

pub(super) const GET_HASH: Function = Function {
    name: "file.get_hash",
    doc: "Return the hash of a file's content.

form
    sha1, sha256, sha384 or sha512.

CLI Example:

.. code-block:: bash

    salt '*' file.get_hash /etc/shadow",
    params: &[
        Param::required("path"),
        Param::optional("form", Fallback::Text("sha256")),
        Param::optional("chunk_size", Fallback::Int(65536)),
    ],
    run: |cx, args| Ok(Value::from(hash(cx, &path(&args, "path"), &form(&args))?).into()),
};

pub(super) const PREPEND: Function = Function {
    name: "file.prepend",
    doc: "Add lines to the start of a file.

CLI Example:

.. code-block:: bash

    salt '*' file.prepend /etc/motd 'With all thine offerings'",
    params: &[Param::required("path"), Param::rest(), Param::keywords()],
    run: prepend,
};

pub(super) const READ: Function = Function {
    name: "file.read",
    doc: "Return the content of a file of at most 8 MiB.

binary
    True returns bytes instead of text.

CLI Example:

.. code-block:: bash

    salt '*' file.read /path/to/file",
    params: &[Param::required("path"), Param::optional("binary", Fallback::Bool(false))],
    run: read,
};

pub(super) const TRUNCATE: Function = Function {
    name: "file.truncate",
    doc: "Cut a file, or fill it with zeros, to a length.

CLI Example:

.. code-block:: bash

    salt '*' file.truncate /path/to/file 512",
    params: &[Param::required("path"), Param::required("length")],
    run: truncate,
};

pub(super) const WRITE: Function = Function {
    name: "file.write",
    doc: "Write lines to a file, in place of what was in it.

CLI Example:

.. code-block:: bash

    salt '*' file.write /etc/motd 'With all thine offerings' 'thou shalt offer salt.'",
    params: &[Param::required("path"), Param::rest(), Param::keywords()],
    run: write,
};

/// Returns the lines to write: the positional arguments, or `args`.
fn lines(args: &Args) -> (String, usize) {
    let values = match args.extra().at("args") {
        Some(Value::List(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => args.rest(),
    };
    (values.iter().map(|line| format!("{}\n", plain_text(line))).collect(), values.len())
}

fn wrote(verb: &str, count: usize, path: &Path) -> Result<Outcome, CallError> {
    Ok(Value::from(format!("{verb} {count} lines to \"{}\"", path.display())).into())
}

fn append(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (file, (text, count)) = (path(&args, "path"), lines(&args));
    let refuse = |error: io::Error| failed(&format!("Could not write '{}'", file.display()), &error);
    let mut out = super::writable(&file, OpenOptions::new().create(true).append(true)).map_err(refuse)?;
    if !ends_in_line_feed(&file).map_err(refuse)? {
        out.write_all(b"\n").map_err(refuse)?;
    }
    out.write_all(text.as_bytes()).map_err(refuse)?;
    wrote("Wrote", count, &file)
}

/// Tells whether a text added to this file would start a line.
fn ends_in_line_feed(path: &Path) -> io::Result<bool> {
    use std::io::{Seek, SeekFrom};
    let mut file = fs::File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn prepend(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (file, (text, count)) = (path(&args, "path"), lines(&args));
    let old = if file.exists() { bounded(&file)? } else { Vec::new() };
    overwrite(&file, &[text.as_bytes(), &old].concat())?;
    wrote("Prepended", count, &file)
}

fn write(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (file, (text, count)) = (path(&args, "path"), lines(&args));
    overwrite(&file, text.as_bytes())?;
    wrote("Wrote", count, &file)
}

/// Replaces what is in a file; the file stays the same, with its owner, mode and links.
pub(super) fn overwrite(path: &Path, bytes: &[u8]) -> Result<(), CallError> {
    let file = super::writable(path, OpenOptions::new().create(true).write(true).truncate(true));
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| failed(&format!("Could not write '{}'", path.display()), &error))
}

fn contains(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (file, text) = (path(&args, "path"), args.text("text").unwrap_or_default());
    if !file.exists() {
        return Ok(Value::Bool(false).into());
    }
    let content = bounded(&file)?;
    let found = text.is_empty() || content.windows(text.len()).any(|window| window == text.as_bytes());
    Ok(Value::Bool(found).into())
}

fn read(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let bytes = bounded(&path(&args, "path"))?;
    if args.flag("binary") {
        return Ok(Value::Bytes(bytes).into());
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| CallError::Failed("the file is no text; binary=True reads it".to_owned()))?;
    Ok(Value::from(text).into())
}

fn truncate(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let file = path(&args, "path");
    let length = args.integer("length")?;
    let length = u64::try_from(length).map_err(|_| CallError::Invocation("length must not be negative".to_owned()))?;
    let cut = super::writable(&file, OpenOptions::new().write(true)).and_then(|file| file.set_len(length));
    cut.map_err(|error| failed(&format!("Could not truncate '{}'", file.display()), &error))?;
    Ok(Value::Null.into())
}

fn form(args: &Args) -> String {
    args.text("form").unwrap_or_else(|| "sha256".to_owned())
}

/// Returns the hash of a file in hexadecimal digits.
pub(super) fn hash(cx: &ModuleContext, path: &Path, form: &str) -> Result<String, CallError> {
    let algorithm = match form {
        "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        "sha256" => &digest::SHA256,
        "sha384" => &digest::SHA384,
        "sha512" => &digest::SHA512,
        _ => return Err(CallError::Failed(format!("hash type {form} is not supported by this minion"))),
    };
    let refuse = |error: io::Error| failed(&format!("Could not read '{}'", path.display()), &error);
    let mut file = super::readable(path)?;
    let (mut context, mut chunk) = (digest::Context::new(algorithm), vec![0; CHUNK]);
    loop {
        if let Some(stop) = cx.stopped() {
            return Err(CallError::Stopped(stop));
        }
        match file.read(&mut chunk).map_err(refuse)? {
            0 => break,
            count => context.update(&chunk[..count]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn check_hash(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let given = args.text("file_hash").unwrap_or_default();
    let (form, digits) = match given.split_once([':', '=']) {
        Some((form, digits)) => (form.to_lowercase(), digits),
        None => (by_length(&given)?.to_owned(), given.as_str()),
    };
    let same = hash(cx, &path(&args, "path"), &form)?.eq_ignore_ascii_case(digits.trim());
    Ok(Value::Bool(same).into())
}

fn by_length(digits: &str) -> Result<&'static str, CallError> {
    match digits.len() {
        40 => Ok("sha1"),
        64 => Ok("sha256"),
        96 => Ok("sha384"),
        128 => Ok("sha512"),
        _ => Err(CallError::Failed(format!("hash '{}' has no known length", digits.escape_debug()))),
    }
}
