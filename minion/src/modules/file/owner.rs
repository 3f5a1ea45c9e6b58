//! Whose a file is, its mode, and what else the file system knows of it.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown as change_owner, lchown as change_link_owner};
use std::path::Path;

use nix::unistd::{Gid, Group, User};
use proto::value::{Map, MapExt, Value};

use super::{content, failed, path};
use crate::host::processes::user_name;
use crate::modules::args::plain_text;
use crate::modules::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};

pub(super) const CHGRP: Function = Function {
    name: "file.chgrp",
    doc: "Give a file to a group.

CLI Example:

.. code-block:: bash

    salt '*' file.chgrp /etc/passwd root",
    params: &[Param::required("path"), Param::required("group")],
    run: |_, args| chown(&args, Links::Followed),
};

pub(super) const CHOWN: Function = Function {
    name: "file.chown",
    doc: "Give a file to a user and a group; an empty text leaves one as it is.

Returns nothing, or what is not there.

CLI Example:

.. code-block:: bash

    salt '*' file.chown /etc/passwd root root",
    params: &[Param::required("path"), Param::required("user"), Param::required("group")],
    run: |_, args| chown(&args, Links::Followed),
};

pub(super) const GET_GID: Function = Function {
    name: "file.get_gid",
    doc: "Return the number of the group a file belongs to.

CLI Example:

.. code-block:: bash

    salt '*' file.get_gid /etc/passwd",
    params: &[Param::required("path"), Param::optional("follow_symlinks", Fallback::Bool(true))],
    run: |_, args| told(&args, "gid"),
};

pub(super) const GET_GROUP: Function = Function {
    name: "file.get_group",
    doc: "Return the group a file belongs to.

CLI Example:

.. code-block:: bash

    salt '*' file.get_group /etc/passwd",
    params: &[Param::required("path"), Param::optional("follow_symlinks", Fallback::Bool(true))],
    run: |_, args| told(&args, "group"),
};

pub(super) const GET_MODE: Function = Function {
    name: "file.get_mode",
    doc: "Return the mode of a file.

CLI Example:

.. code-block:: bash

    salt '*' file.get_mode /etc/passwd",
    params: &[Param::required("path"), Param::optional("follow_symlinks", Fallback::Bool(true))],
    run: |_, args| told(&args, "mode"),
};

pub(super) const GET_UID: Function = Function {
    name: "file.get_uid",
    doc: "Return the number of the user a file belongs to.

CLI Example:

.. code-block:: bash

    salt '*' file.get_uid /etc/passwd",
    params: &[Param::required("path"), Param::optional("follow_symlinks", Fallback::Bool(true))],
    run: |_, args| told(&args, "uid"),
};

pub(super) const GET_USER: Function = Function {
    name: "file.get_user",
    doc: "Return the user a file belongs to.

CLI Example:

.. code-block:: bash

    salt '*' file.get_user /etc/passwd",
    params: &[Param::required("path"), Param::optional("follow_symlinks", Fallback::Bool(true))],
    run: |_, args| told(&args, "user"),
};

pub(super) const LCHOWN: Function = Function {
    name: "file.lchown",
    doc: "Give a file to a user and a group as file.chown does; of a symbolic link, the link itself.

CLI Example:

.. code-block:: bash

    salt '*' file.lchown /etc/passwd root root",
    params: &[Param::required("path"), Param::required("user"), Param::required("group")],
    run: |_, args| chown(&args, Links::Kept),
};

pub(super) const SET_MODE: Function = Function {
    name: "file.set_mode",
    doc: "Set the mode of a file, in octal digits, and return it.

CLI Example:

.. code-block:: bash

    salt '*' file.set_mode /etc/passwd 0644",
    params: &[Param::required("path"), Param::required("mode")],
    run: set_mode,
};

pub(super) const STATS: Function = Function {
    name: "file.stats",
    doc: "Return what the file system knows of a file.

hash_type
    A hash of the content to add as sum: sha1, sha256, sha384 or sha512.
follow_symlinks
    False tells of a symbolic link itself.

CLI Example:

.. code-block:: bash

    salt '*' file.stats /etc/passwd",
    params: &[
        Param::required("path"),
        Param::optional("hash_type", Fallback::None),
        Param::optional("follow_symlinks", Fallback::Bool(true)),
    ],
    run: |cx, args| Ok(Value::from(stats(cx, &args)?).into()),
};

/// Whom to give a file to; nothing leaves it as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Owner {
    /// The user.
    pub(super) uid: Option<u32>,
    /// The group.
    pub(super) gid: Option<u32>,
}

/// What to do with a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    Followed,
    Kept,
}

impl Owner {
    /// Reads the arguments `user` and `group`; refuses names that are not there.
    pub(super) fn read(args: &Args) -> Result<Owner, CallError> {
        let (owner, missing) = Owner::find(args);
        if missing.is_empty() { Ok(owner) } else { Err(CallError::Failed(missing.trim_end().to_owned())) }
    }

    /// Reads the arguments `user` and `group`; tells what is not there, a line each.
    fn find(args: &Args) -> (Owner, String) {
        let named = |name: &str| args.text(name).filter(|text| !text.is_empty());
        let (mut owner, mut missing) = (Owner::default(), String::new());
        if let Some(user) = named("user") {
            owner.uid = user.parse().ok().or_else(|| Some(User::from_name(&user).ok()??.uid.as_raw()));
            missing.push_str(if owner.uid.is_none() { "User does not exist\n" } else { "" });
        }
        if let Some(group) = named("group") {
            owner.gid = group.parse().ok().or_else(|| Some(Group::from_name(&group).ok()??.gid.as_raw()));
            missing.push_str(if owner.gid.is_none() { "Group does not exist\n" } else { "" });
        }
        (owner, missing)
    }
}

/// Gives a file away. Without a change nothing is asked of the system: only root may.
pub(super) fn give(path: &Path, owner: Owner) -> io::Result<()> {
    let meta = fs::metadata(path)?;
    let same = owner.uid.is_none_or(|uid| uid == meta.uid()) && owner.gid.is_none_or(|gid| gid == meta.gid());
    if same { Ok(()) } else { change_owner(path, owner.uid, owner.gid) }
}

fn chown(args: &Args, links: Links) -> Result<Outcome, CallError> {
    let path = path(args, "path");
    let (owner, mut missing) = Owner::find(args);
    if fs::symlink_metadata(&path).is_err() {
        missing.push_str("File not found");
    }
    if !missing.is_empty() {
        return Ok(Value::from(missing).into());
    }
    let change = if links == Links::Kept { change_link_owner } else { change_owner };
    change(&path, owner.uid, owner.gid)
        .map_err(|error| failed(&format!("Could not change the owner of '{}'", path.display()), &error))?;
    Ok(Value::Null.into())
}

/// Reads a mode: octal digits, with or without a zero or `0o` first.
pub(super) fn parse_mode(text: &str) -> Result<u32, CallError> {
    let digits = text.trim().trim_start_matches("0o");
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| CallError::Invocation(format!("'{}' is no mode", text.escape_debug())))
}

/// Sets a mode.
pub(super) fn set(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn set_mode(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let file = path(&args, "path");
    let mode = parse_mode(&plain_text(args.value("mode")))?;
    if !file.exists() {
        return Err(CallError::Failed(format!("{}: File not found", file.display())));
    }
    set(&file, mode).map_err(|error| failed(&format!("Unable to change the mode of '{}'", file.display()), &error))?;
    Ok(stats(cx, &args)?.at("mode").cloned().unwrap_or_default().into())
}

fn metadata(args: &Args) -> Result<Metadata, CallError> {
    let path = path(args, "path");
    // A function without the parameter follows.
    let follows = args.value("follow_symlinks").is_null() || args.flag("follow_symlinks");
    let meta = if follows { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
    meta.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CallError::Failed(format!("Path not found: {}", path.display())),
        _ => failed(&format!("Could not read '{}'", path.display()), &error),
    })
}

fn group_name(gid: u32) -> String {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name)
}

#[expect(clippy::cast_precision_loss, reason = "Python's times are such numbers")]
fn stats(cx: &ModuleContext, args: &Args) -> Result<Map, CallError> {
    let (file, meta) = (path(args, "path"), metadata(args)?);
    let time = |seconds: i64, nanoseconds: i64| seconds as f64 + nanoseconds as f64 / 1e9;
    let mut map = proto::map! {
        "inode" => meta.ino(), "uid" => meta.uid(), "gid" => meta.gid(), "group" => group_name(meta.gid()),
        "user" => user_name(meta.uid()), "atime" => time(meta.atime(), meta.atime_nsec()),
        "mtime" => time(meta.mtime(), meta.mtime_nsec()), "ctime" => time(meta.ctime(), meta.ctime_nsec()),
        "size" => meta.size(), "mode" => mode_text(&meta),
    };
    if let Some(form) = args.text("hash_type").filter(|form| !form.is_empty()) {
        map.set("sum", content::hash(cx, &file, &form)?);
    }
    map.set("type", kind(&meta));
    map.set("target", file.canonicalize().unwrap_or(file).to_string_lossy().into_owned());
    Ok(map)
}

fn mode_text(meta: &Metadata) -> String {
    format!("{:04o}", meta.mode() & 0o7777)
}

fn kind(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "link",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () if kind.is_fifo() => "pipe",
        () if kind.is_socket() => "socket",
        () => "file",
    }
}

fn told(args: &Args, what: &str) -> Result<Outcome, CallError> {
    let meta = metadata(args)?;
    let value: Value = match what {
        "gid" => meta.gid().into(),
        "group" => group_name(meta.gid()).into(),
        "mode" => mode_text(&meta).into(),
        "uid" => meta.uid().into(),
        _ => user_name(meta.uid()).into(),
    };
    Ok(value.into())
}
