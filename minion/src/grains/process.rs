//! This process: its user, shell, path, folder and pid.

use std::env;

use proto::value::Map;

use super::GrainsContext;
use crate::host::users;

pub(super) fn grains(_: &GrainsContext<'_>) -> Map {
    let me = users::me();
    let path = env::var("PATH").unwrap_or_default();
    let folders: Vec<String> = path.split(':').filter(|folder| !folder.is_empty()).map(str::to_owned).collect();
    let shell = env::var("SHELL").ok().filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".to_owned());
    let cwd = env::current_dir().map(|cwd| cwd.to_string_lossy().into_owned()).unwrap_or_default();
    proto::map! {
        "cwd" => cwd,
        "gid" => me.gid,
        "groupname" => me.group,
        "path" => path,
        "pid" => std::process::id(),
        "ps" => "ps -efHww",
        "shell" => shell,
        "systempath" => folders,
        "uid" => me.uid,
        "username" => me.user,
    }
}
