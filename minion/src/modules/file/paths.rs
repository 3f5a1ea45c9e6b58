//! Paths: what is there, and making, moving, linking and removing it.

use std::fs::{self, FileTimes, OpenOptions};
use std::os::unix::fs::{MetadataExt, symlink as make_symlink};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::value::Value;

use super::owner::{self, Owner};
use super::{absolute, failed, path};
use crate::modules::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};

/// The most directories below each other that are copied.
const MAX_DEPTH: usize = 200;

pub(super) const BASENAME: Function = Function {
    name: "file.basename",
    doc: "Return the last part of a path.

CLI Example:

.. code-block:: bash

    salt '*' file.basename /etc/hosts",
    params: &[Param::required("path")],
    run: |_, args| Ok(Value::from(split(&args.text("path").unwrap_or_default()).1).into()),
};

pub(super) const COPY: Function = Function {
    name: "file.copy",
    doc: "Copy a file, or with recurse=True a directory, with its owner and mode.

remove_existing
    True removes what is at the destination first.

CLI Example:

.. code-block:: bash

    salt '*' file.copy /path/to/src /path/to/dst
    salt '*' file.copy /path/to/src_dir /path/to/dst_dir recurse=True",
    params: &[
        Param::required("src"),
        Param::required("dst"),
        Param::optional("recurse", Fallback::Bool(false)),
        Param::optional("remove_existing", Fallback::Bool(false)),
    ],
    run: copy,
};

pub(super) const DIRECTORY_EXISTS: Function = Function {
    name: "file.directory_exists",
    doc: "Tell whether a directory is there.

CLI Example:

.. code-block:: bash

    salt '*' file.directory_exists /etc",
    params: &[Param::required("path")],
    run: |_, args| Ok(Value::Bool(path(&args, "path").is_dir()).into()),
};

pub(super) const DIRNAME: Function = Function {
    name: "file.dirname",
    doc: "Return a path without its last part.

CLI Example:

.. code-block:: bash

    salt '*' file.dirname /etc/hosts",
    params: &[Param::required("path")],
    run: |_, args| Ok(Value::from(split(&args.text("path").unwrap_or_default()).0).into()),
};

pub(super) const FILE_EXISTS: Function = Function {
    name: "file.file_exists",
    doc: "Tell whether a file is there, and no directory.

CLI Example:

.. code-block:: bash

    salt '*' file.file_exists /etc/passwd",
    params: &[Param::required("path")],
    run: |_, args| Ok(Value::Bool(path(&args, "path").is_file()).into()),
};

pub(super) const IS_LINK: Function = Function {
    name: "file.is_link",
    doc: "Tell whether a path is a symbolic link.

CLI Example:

.. code-block:: bash

    salt '*' file.is_link /path/to/link",
    params: &[Param::required("path")],
    run: |_, args| Ok(Value::Bool(path(&args, "path").is_symlink()).into()),
};

pub(super) const LINK: Function = Function {
    name: "file.link",
    doc: "Make a hard link.

CLI Example:

.. code-block:: bash

    salt '*' file.link /path/to/file /path/to/link",
    params: &[Param::required("src"), Param::required("path")],
    run: link,
};

pub(super) const MAKEDIRS: Function = Function {
    name: "file.makedirs",
    doc: "Make the directory that is to hold a path. A path that ends in a slash is made whole.

user, group, mode
    Whose it shall be, and its mode, if it is made.

CLI Example:

.. code-block:: bash

    salt '*' file.makedirs /opt/code/",
    params: &[
        Param::required("path"),
        Param::optional("user", Fallback::None),
        Param::optional("group", Fallback::None),
        Param::optional("mode", Fallback::None),
    ],
    run: makedirs,
};

pub(super) const MKDIR: Function = Function {
    name: "file.mkdir",
    doc: "Make a directory, and those above it that are missing.

user, group, mode
    Whose it shall be, and its mode, if it is made.

CLI Example:

.. code-block:: bash

    salt '*' file.mkdir /opt/jetty/context
    salt '*' file.mkdir /opt/jetty/context mode=0750",
    params: &[
        Param::required("dir_path"),
        Param::optional("user", Fallback::None),
        Param::optional("group", Fallback::None),
        Param::optional("mode", Fallback::None),
    ],
    run: mkdir,
};

pub(super) const MOVE: Function = Function {
    name: "file.move",
    doc: "Move a file or a directory within one file system. Returns a map of result and comment.

CLI Example:

.. code-block:: bash

    salt '*' file.move /path/to/src /path/to/dst",
    params: &[Param::required("src"), Param::required("dst")],
    run: move_path,
};

pub(super) const READDIR: Function = Function {
    name: "file.readdir",
    doc: "Return the names in a directory.

CLI Example:

.. code-block:: bash

    salt '*' file.readdir /path/to/dir/",
    params: &[Param::required("path")],
    run: readdir,
};

pub(super) const READLINK: Function = Function {
    name: "file.readlink",
    doc: "Return where a symbolic link points.

canonicalize
    True returns the path at the end of all links.

CLI Example:

.. code-block:: bash

    salt '*' file.readlink /path/to/link",
    params: &[Param::required("path"), Param::optional("canonicalize", Fallback::Bool(false))],
    run: readlink,
};

pub(super) const REMOVE: Function = Function {
    name: "file.remove",
    doc: "Remove a file, or a directory with all there is in it. Returns False if there was nothing.

CLI Example:

.. code-block:: bash

    salt '*' file.remove /tmp/foo",
    params: &[Param::required("path")],
    run: remove,
};

pub(super) const RENAME: Function = Function {
    name: "file.rename",
    doc: "Rename a file or a directory.

CLI Example:

.. code-block:: bash

    salt '*' file.rename /path/to/src /path/to/dst",
    params: &[Param::required("src"), Param::required("dst")],
    run: rename,
};

pub(super) const RMDIR: Function = Function {
    name: "file.rmdir",
    doc: "Remove an empty directory. Returns what the system says if it cannot be.

CLI Example:

.. code-block:: bash

    salt '*' file.rmdir /tmp/foo/",
    params: &[Param::required("path")],
    run: rmdir,
};

pub(super) const SYMLINK: Function = Function {
    name: "file.symlink",
    doc: "Make a symbolic link to src.

force
    True replaces a link, or a file, that is there.

CLI Example:

.. code-block:: bash

    salt '*' file.symlink /path/to/file /path/to/link",
    params: &[Param::required("src"), Param::required("path"), Param::optional("force", Fallback::Bool(false))],
    run: symlink,
};

pub(super) const TOUCH: Function = Function {
    name: "file.touch",
    doc: "Make an empty file if there is none, and set its times, by default to now.

atime, mtime
    Seconds since 1970.

CLI Example:

.. code-block:: bash

    salt '*' file.touch /var/log/emptyfile",
    params: &[
        Param::required("name"),
        Param::optional("atime", Fallback::None),
        Param::optional("mtime", Fallback::None),
    ],
    run: touch,
};

/// Splits a path before its last part, as Python does.
fn split(text: &str) -> (String, String) {
    let at = text.rfind('/').map_or(0, |at| at + 1);
    let (head, tail) = text.split_at(at);
    let trimmed = head.trim_end_matches('/');
    (if trimmed.is_empty() { head } else { trimmed }.to_owned(), tail.to_owned())
}

fn done() -> Result<Outcome, CallError> {
    Ok(Value::Bool(true).into())
}

fn copy(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (src, dst) = (absolute(&args, "src")?, absolute(&args, "dst")?);
    if !src.exists() {
        return Err(CallError::Failed(format!("No such file or directory '{}'", src.display())));
    }
    if src.is_dir() && !args.flag("recurse") {
        return Err(CallError::Invocation(
            "Cannot copy overwriting a directory without recurse flag set to true!".to_owned(),
        ));
    }
    let what = format!("Could not copy '{}' to '{}'", src.display(), dst.display());
    if inside(&src, &dst) {
        return Err(CallError::Failed(format!("{what}: one is within the other")));
    }
    if args.flag("remove_existing") && dst.exists() {
        remove_path(&dst).map_err(|error| failed(&what, &error))?;
    }
    // As cp does: a file copied to a directory goes into it.
    let dst = match src.file_name() {
        Some(name) if dst.is_dir() && src.is_file() => dst.join(name),
        _ => dst,
    };
    copy_tree(cx, &src, &dst, MAX_DEPTH)?;
    done()
}

/// Tells whether one path is the other or below it, links resolved: such a copy would never end, or eat itself.
fn inside(src: &Path, dst: &Path) -> bool {
    let Ok(src) = src.canonicalize() else {
        return false;
    };
    let parent = dst.ancestors().find_map(|path| path.canonicalize().ok());
    parent.is_some_and(|parent| src.is_dir() && parent.starts_with(&src))
        || dst.canonicalize().is_ok_and(|dst| dst == src)
}

fn copy_tree(cx: &ModuleContext, src: &Path, dst: &Path, depth: usize) -> Result<(), CallError> {
    if let Some(stop) = cx.stopped() {
        return Err(CallError::Stopped(stop));
    }
    let what = format!("Could not copy '{}' to '{}'", src.display(), dst.display());
    let refuse = |error: std::io::Error| failed(&what, &error);
    let meta = fs::metadata(src).map_err(refuse)?;
    if meta.is_dir() {
        if depth == 0 {
            return Err(CallError::Failed(format!("{what}: more than {MAX_DEPTH} directories below each other")));
        }
        fs::create_dir_all(dst).map_err(refuse)?;
        for entry in fs::read_dir(src).map_err(refuse)? {
            let entry = entry.map_err(refuse)?;
            let to = dst.join(entry.file_name());
            if entry.file_type().map_err(refuse)?.is_symlink() {
                make_symlink(fs::read_link(entry.path()).map_err(refuse)?, to).map_err(refuse)?;
            } else {
                copy_tree(cx, &entry.path(), &to, depth - 1)?;
            }
        }
    } else if meta.is_file() {
        fs::copy(src, dst).map_err(refuse)?;
    } else {
        return Err(CallError::Failed(format!("{what}: no regular file")));
    }
    owner::give(dst, Owner { uid: Some(meta.uid()), gid: Some(meta.gid()) }).map_err(refuse)?;
    // After the owner: a change of owner takes the set-uid bit away.
    fs::set_permissions(dst, meta.permissions()).map_err(refuse)
}

fn link(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (src, path) = (path(&args, "src"), absolute(&args, "path")?);
    fs::hard_link(&src, &path).map_err(|error| failed(&format!("Could not create '{}'", path.display()), &error))?;
    done()
}

fn makedirs(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let text = args.text("path").unwrap_or_default();
    let folder = text.rsplit_once('/').map(|(folder, _)| if folder.is_empty() { "/" } else { folder });
    let folder = folder.ok_or_else(|| CallError::Invocation(format!("File path must be absolute: {text}")))?.to_owned();
    mkdir(cx, args.with("dir_path", folder.as_str()))?;
    Ok(Value::Null.into())
}

fn mkdir(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let path = path(&args, "dir_path");
    if path.is_dir() {
        return done();
    }
    let owner = Owner::read(&args)?;
    let mode = args.text("mode").map(|mode| owner::parse_mode(&mode)).transpose()?;
    let refuse = |error: std::io::Error| failed(&format!("Could not create '{}'", path.display()), &error);
    fs::create_dir_all(&path).map_err(refuse)?;
    owner::give(&path, owner).map_err(refuse)?;
    if let Some(mode) = mode {
        owner::set(&path, mode).map_err(refuse)?;
    }
    done()
}

fn move_path(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (src, dst) = (absolute(&args, "src")?, absolute(&args, "dst")?);
    let what = format!("Unable to move '{}' to '{}'", src.display(), dst.display());
    fs::rename(&src, &dst).map_err(|error| failed(&what, &error))?;
    let comment = format!("'{}' moved to '{}'", src.display(), dst.display());
    Ok(Value::from(proto::map! { "result" => true, "comment" => comment }).into())
}

fn readdir(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let path = absolute(&args, "path")?;
    if !path.is_dir() {
        return Err(CallError::Invocation("A valid directory was not specified.".to_owned()));
    }
    let entries =
        fs::read_dir(&path).map_err(|error| failed(&format!("Could not read '{}'", path.display()), &error))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(Value::from([".", ".."].map(str::to_owned).into_iter().chain(names).collect::<Vec<_>>()).into())
}

fn readlink(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let path = absolute(&args, "path")?;
    if !path.is_symlink() {
        return Err(CallError::Invocation(format!("A valid link was not specified: {}", path.display())));
    }
    let target = if args.flag("canonicalize") { path.canonicalize() } else { fs::read_link(&path) };
    let target = target.map_err(|error| failed(&format!("Could not read '{}'", path.display()), &error))?;
    Ok(Value::from(target.to_string_lossy().into_owned()).into())
}

fn remove_path(path: &Path) -> std::io::Result<()> {
    if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn remove(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let path = absolute(&args, "path")?;
    if path.canonicalize().is_ok_and(|path| path == Path::new("/")) {
        return Err(CallError::Invocation("the root of this host is not removed".to_owned()));
    }
    // Not `exists`: a link that points nowhere is there too.
    if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(Outcome { ret: Value::Bool(false), retcode: 0, out: None });
    }
    remove_path(&path).map_err(|error| failed(&format!("Could not remove '{}'", path.display()), &error))?;
    done()
}

fn rename(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (src, dst) = (absolute(&args, "src")?, path(&args, "dst"));
    let what = format!("Could not rename '{}' to '{}'", src.display(), dst.display());
    fs::rename(&src, &dst).map_err(|error| failed(&what, &error))?;
    done()
}

fn rmdir(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let path = absolute(&args, "path")?;
    if !path.is_dir() {
        return Err(CallError::Invocation("A valid directory was not specified.".to_owned()));
    }
    match fs::remove_dir(&path) {
        Ok(()) => done(),
        Err(error) => Ok(Value::from(error.to_string()).into()),
    }
}

fn symlink(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (src, path) = (path(&args, "src"), absolute(&args, "path")?);
    let refuse = |error: std::io::Error| failed(&format!("Could not create '{}'", path.display()), &error);
    if path.is_symlink() {
        if fs::read_link(&path).is_ok_and(|target| target == src) {
            return done();
        }
        if !args.flag("force") {
            return Err(CallError::Failed(format!("Found existing symlink: {}", path.display())));
        }
    } else if path.exists() && !args.flag("force") {
        return Err(CallError::Failed(format!("Existing path is not a symlink: {}", path.display())));
    }
    if path.is_symlink() || path.is_file() {
        fs::remove_file(&path).map_err(refuse)?;
    }
    make_symlink(&src, &path).map_err(refuse)?;
    done()
}

fn touch(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let path = path(&args, "name");
    let time = |name: &str| -> Result<SystemTime, CallError> {
        let Some(seconds) = args.number(name)? else {
            return Ok(SystemTime::now());
        };
        let since = Duration::try_from_secs_f64(seconds).ok().and_then(|since| UNIX_EPOCH.checked_add(since));
        since.ok_or_else(|| CallError::Invocation("atime and mtime must be seconds since 1970".to_owned()))
    };
    let times = FileTimes::new().set_accessed(time("atime")?).set_modified(time("mtime")?);
    let refuse = |error: std::io::Error| failed(&format!("Could not touch '{}'", path.display()), &error);
    let file = match path.is_dir() {
        true => fs::File::open(&path),
        false => OpenOptions::new().create(true).append(true).open(&path),
    };
    file.map_err(refuse)?.set_times(times).map_err(refuse)?;
    done()
}
