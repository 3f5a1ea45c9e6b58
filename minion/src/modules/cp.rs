//! `cp`: files of the master's file server.

use std::path::PathBuf;

use proto::map;
use proto::value::{Map, Value};

use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};

mod fetch;

use fetch::{Fetched, SaltUrl, WAIT, ask};

const SALTENV: Param = Param::optional("saltenv", Fallback::None);
/// The largest file that `get_file_str` returns: the return has to carry it.
const MAX_TEXT: u64 = 2 * 1024 * 1024;
/// How many files `get_dir` and `cache_files` fetch.
const MAX_FILES: usize = 10_000;
/// How much of a pushed file one request carries.
const PUSH_PIECE: usize = 256 * 1024;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "cp.cache_file",
        doc: "Keep a file of the master in this minion's cache, and return where; an empty text if there is none such.

CLI Example:

.. code-block:: bash

    salt '*' cp.cache_file salt://path/to/file",
        params: &[Param::required("path"), SALTENV, Param::optional("source_hash", Fallback::None)],
        run: |cx, args| Ok(cached(cx, &SaltUrl::of(cx, &args, "path")?)?.into()),
    },
    Function {
        name: "cp.cache_files",
        doc: "Keep several files of the master in this minion's cache, and return where.

CLI Example:

.. code-block:: bash

    salt '*' cp.cache_files salt://pathto/file1,salt://pathto/file1",
        params: &[Param::required("paths"), SALTENV],
        run: cache_files,
    },
    Function {
        name: "cp.envs",
        doc: "Return the environments of the master's file server.

CLI Example:

.. code-block:: bash

    salt '*' cp.envs",
        params: &[],
        run: |cx, _| Ok(plain(ask(cx, "_file_envs", Map::new())?)),
    },
    Function {
        name: "cp.get_dir",
        doc:
            "Copy a directory of the master to a directory here, and return the files that were written. The directories
that the destination needs are made. As in Salt, further keywords are variables for a template, and count for nothing.

CLI Example:

.. code-block:: bash

    salt '*' cp.get_dir salt://path/to/dir/ /minion/dest",
        params: &[
            Param::required("path"),
            Param::required("dest"),
            SALTENV,
            Param::optional("template", Fallback::None),
            Param::optional("gzip", Fallback::None),
            Param::keywords(),
        ],
        run: get_dir,
    },
    Function {
        name: "cp.get_file",
        doc: "Copy a file of the master to a path here, and return the path; an empty text if there is no such file.

makedirs
    True makes the directories that the path needs.

As in Salt, further keywords are variables for a template, and count for nothing.

CLI Example:

.. code-block:: bash

    salt '*' cp.get_file salt://path/to/file /minion/dest",
        params: &[
            Param::required("path"),
            Param::required("dest"),
            SALTENV,
            Param::optional("makedirs", Fallback::Bool(false)),
            Param::optional("template", Fallback::None),
            Param::optional("gzip", Fallback::None),
            Param::keywords(),
        ],
        run: get_file,
    },
    Function {
        name: "cp.get_file_str",
        doc: "Return what a file of the master says; an empty text if there is no such file.

CLI Example:

.. code-block:: bash

    salt '*' cp.get_file_str salt://my/file",
        params: &[Param::required("path"), SALTENV],
        run: get_file_str,
    },
    Function {
        name: "cp.hash_file",
        doc: "Return the hash of a file of the master, and its kind; an empty text if there is no such file.

CLI Example:

.. code-block:: bash

    salt '*' cp.hash_file salt://path/to/file",
        params: &[Param::required("path"), SALTENV],
        run: |cx, args| {
            let url = SaltUrl::of(cx, &args, "path")?;
            Ok(plain(ask(cx, "_file_hash", url.fields())?))
        },
    },
    Function {
        name: "cp.is_cached",
        doc: "Return where a file of the master is kept in this minion's cache; an empty text if it is not.

CLI Example:

.. code-block:: bash

    salt '*' cp.is_cached salt://path/to/file",
        params: &[Param::required("path"), SALTENV],
        run: |cx, args| {
            let path = SaltUrl::of(cx, &args, "path")?.cache_path(cx);
            Ok(Value::from(if path.is_file() { shown(&path) } else { String::new() }).into())
        },
    },
    Function {
        name: "cp.list_master",
        doc: "Return the files of the master's file server.

CLI Example:

.. code-block:: bash

    salt '*' cp.list_master",
        params: LIST,
        run: |cx, args| list(cx, &args, "_file_list"),
    },
    Function {
        name: "cp.list_master_dirs",
        doc: "Return the directories of the master's file server.

CLI Example:

.. code-block:: bash

    salt '*' cp.list_master_dirs",
        params: LIST,
        run: |cx, args| list(cx, &args, "_dir_list"),
    },
    Function {
        name: "cp.list_master_symlinks",
        doc: "Return the links of the master's file server, and what they say.

CLI Example:

.. code-block:: bash

    salt '*' cp.list_master_symlinks",
        params: LIST,
        run: |cx, args| list(cx, &args, "_symlink_list"),
    },
    Function {
        name: "cp.push",
        doc: "Send a file of this host to the master, which keeps it under cachedir/minions/<id>/files if its option
file_recv allows that. Return whether it took it.

CLI Example:

.. code-block:: bash

    salt '*' cp.push /etc/fstab",
        params: &[Param::required("path"), Param::optional("upload_path", Fallback::None)],
        run: push,
    },
];

const LIST: &[Param] = &[SALTENV, Param::optional("prefix", Fallback::Text(""))];

/// Returns a value whatever it is.
fn plain(ret: Value) -> Outcome {
    Outcome { ret, retcode: 0, out: None }
}

fn shown(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

fn failed(what: &str, error: &std::io::Error) -> CallError {
    CallError::Failed(format!("{what}: {error}"))
}

fn list(cx: &ModuleContext, args: &Args, cmd: &str) -> Result<Outcome, CallError> {
    let saltenv = fetch::saltenv(cx, args.text("saltenv"));
    let fields = map! { "saltenv" => saltenv, "prefix" => args.text("prefix").unwrap_or_default() };
    Ok(plain(ask(cx, cmd, fields)?))
}

fn cached(cx: &ModuleContext, url: &SaltUrl) -> Result<Value, CallError> {
    let path = url.cache_path(cx);
    fetch::make_folders(&path)?;
    Ok(match fetch::fetch(cx, url, &path)? {
        Fetched::Missing => "".into(),
        Fetched::Unchanged | Fetched::Written => shown(&path).into(),
    })
}

fn cache_files(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let paths: Vec<String> = match args.value("paths") {
        Value::List(paths) => paths.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        other => other.to_key().split(',').map(|path| path.trim().to_owned()).collect(),
    };
    let saltenv = args.text("saltenv");
    let one = |path: &String| cached(cx, &SaltUrl::parse(cx, path, saltenv.clone())?);
    Ok(Value::List(paths.iter().take(MAX_FILES).map(one).collect::<Result<_, _>>()?).into())
}

/// Templates of paths and contents are rendered by states, which this minion has not.
fn no_template(args: &Args) -> Result<(), CallError> {
    match args.text("template") {
        None => Ok(()),
        Some(_) => Err(CallError::Invocation("the option 'template' is not supported by this minion".to_owned())),
    }
}

fn destination(args: &Args) -> Result<PathBuf, CallError> {
    let dest = PathBuf::from(args.text("dest").unwrap_or_default());
    match dest.is_absolute() {
        true => Ok(dest),
        false => Err(CallError::Invocation(format!("The destination must be an absolute path: {}", dest.display()))),
    }
}

fn get_file(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    no_template(&args)?;
    let url = SaltUrl::of(cx, &args, "path")?;
    let mut dest = destination(&args)?;
    if dest.is_dir() || args.text("dest").is_some_and(|dest| dest.ends_with('/')) {
        dest.push(url.name());
    }
    if args.flag("makedirs") {
        fetch::make_folders(&dest)?;
    }
    Ok(match fetch::fetch(cx, &url, &dest)? {
        Fetched::Missing => Value::from(""),
        Fetched::Unchanged | Fetched::Written => shown(&dest).into(),
    }
    .into())
}

fn get_file_str(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let url = SaltUrl::of(cx, &args, "path")?;
    let path = url.cache_path(cx);
    if cached(cx, &url)? == "".into() {
        return Ok(Value::from("").into());
    }
    let size = std::fs::metadata(&path).map_or(0, |facts| facts.len());
    if size > MAX_TEXT {
        return Err(CallError::Failed(format!("{} has {size} bytes; a return carries {MAX_TEXT}", path.display())));
    }
    let bytes = std::fs::read(&path).map_err(|error| failed("read the cached file", &error))?;
    Ok(plain(String::from_utf8(bytes).map_or_else(|error| Value::Bytes(error.into_bytes()), Value::from)))
}

fn get_dir(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    no_template(&args)?;
    let url = SaltUrl::of(cx, &args, "path")?;
    let dest = destination(&args)?;
    // As in Salt, the last part of the path is the directory that appears at the destination.
    let above = url.path.rsplit_once('/').map_or(0, |(above, _)| above.len() + 1);
    let listed = ask(cx, "_file_list", map! { "saltenv" => url.saltenv.as_str(), "prefix" => url.path.as_str() })?;
    let inside = format!("{}/", url.path);
    let files = listed.as_list().unwrap_or_default().iter().filter_map(Value::as_str);
    let mut written = Vec::new();
    for path in files.filter(|path| path.starts_with(&inside)).take(MAX_FILES) {
        let one = SaltUrl::parse(cx, path, Some(url.saltenv.clone()))?;
        let target = dest.join(&one.path[above..]);
        fetch::make_folders(&target)?;
        if fetch::fetch(cx, &one, &target)? != Fetched::Missing {
            written.push(shown(&target));
        }
    }
    Ok(Value::from(written).into())
}

fn push(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    use std::os::unix::fs::FileExt;
    let path = args.text("path").unwrap_or_default();
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(CallError::Invocation(format!("The path must be absolute and without '..': {path}")));
    }
    let named = args.text("upload_path").unwrap_or_else(|| path.clone());
    let parts: Vec<&str> = named.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let file = std::fs::File::open(&path).map_err(|error| failed(&format!("open {path}"), &error))?;
    let facts = file.metadata().map_err(|error| failed(&format!("read {path}"), &error))?;
    if !facts.is_file() {
        return Err(CallError::Failed(format!("{path} is no file")));
    }
    let (mut loc, mut piece) = (0, vec![0; PUSH_PIECE]);
    loop {
        cx.stopped().map_or(Ok(()), |stop| Err(CallError::Stopped(stop)))?;
        let read = file.read_at(&mut piece, loc).map_err(|error| failed(&format!("read {path}"), &error))?;
        if read == 0 && loc > 0 {
            return Ok(Value::Bool(true).into());
        }
        let data = Value::Bytes(piece[..read].to_vec());
        let fields = map! { "path" => parts.clone(), "size" => facts.len(), "loc" => loc, "data" => data };
        let taken = cx.master.ask("_file_recv", fields, WAIT).map_err(|error| CallError::Failed(error.to_string()))?;
        if !taken.is_truthy() {
            return Ok(Outcome::with_retcode(false, 1));
        }
        if read == 0 {
            return Ok(Value::Bool(true).into());
        }
        loc += read as u64;
    }
}

#[cfg(test)]
mod tests;
