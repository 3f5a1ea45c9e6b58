//! `disk`: how full the file systems of this host are.

use proto::value::{Map, MapExt, Value};

use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};
use crate::host::filesystem::{self, Mount, Usage};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "disk.inodeusage",
        doc: "Return how many inodes of each mounted file system are in use.

CLI Example:

.. code-block:: bash

    salt '*' disk.inodeusage",
        params: &[Param::optional("args", Fallback::None)],
        run: |_, args| by_mount(&args, inodes),
    },
    Function {
        name: "disk.percent",
        doc: "Return how full each mounted file system is, or the one mounted at the given place.

CLI Example:

.. code-block:: bash

    salt '*' disk.percent /var",
        params: &[Param::optional("args", Fallback::None)],
        run: percent,
    },
    Function {
        name: "disk.usage",
        doc: "Return the size and use of each mounted file system, as df(1) counts them.

args
    Letters of options of df: a shows empty file systems too; k and P change nothing.

CLI Example:

.. code-block:: bash

    salt '*' disk.usage",
        params: &[Param::optional("args", Fallback::None)],
        run: |_, args| by_mount(&args, blocks),
    },
];

/// Returns the file systems that df shows: those with a size, each device once, the latest mount of a place.
fn shown(args: &Args) -> Result<Vec<(Mount, Usage)>, CallError> {
    let flags = args.text("args").unwrap_or_default();
    if let Some(letter) = flags.trim_start_matches('-').chars().find(|letter| !"akP".contains(*letter)) {
        return Err(CallError::Failed(format!("Invalid flag passed to disk.usage: {letter}")));
    }
    let all = flags.contains('a');
    let mut shown: Vec<(Mount, Usage)> = Vec::new();
    for mount in filesystem::mounts() {
        // A place that cannot be asked, such as another user's FUSE mount, is left out, as df leaves it out.
        let Ok(usage) = filesystem::usage(&mount.point) else {
            continue;
        };
        if !all && usage.total == 0 {
            continue;
        }
        shown.retain(|(earlier, _)| earlier.point != mount.point);
        let is_device = mount.device.starts_with('/');
        if all || !is_device || !shown.iter().any(|(earlier, _)| earlier.device == mount.device) {
            shown.push((mount, usage));
        }
    }
    Ok(shown)
}

fn by_mount(args: &Args, show: fn(&Mount, &Usage) -> Map) -> Result<Outcome, CallError> {
    let mut map = Map::new();
    for (mount, usage) in shown(args)? {
        map.set(&mount.point, show(&mount, &usage));
    }
    Ok(Value::from(map).into())
}

fn blocks(mount: &Mount, usage: &Usage) -> Map {
    let kilobytes = |bytes: u64| bytes.div_ceil(1024).to_string();
    proto::map! {
        "filesystem" => mount.device.as_str(), "1K-blocks" => kilobytes(usage.total), "used" => kilobytes(usage.used()),
        "available" => kilobytes(usage.available), "capacity" => share(usage.used(), usage.used() + usage.available),
    }
}

fn inodes(mount: &Mount, usage: &Usage) -> Map {
    let used = usage.inodes.saturating_sub(usage.inodes_free);
    proto::map! {
        "inodes" => usage.inodes.to_string(), "used" => used.to_string(), "free" => usage.inodes_free.to_string(),
        "use" => share(used, usage.inodes), "filesystem" => mount.device.as_str(),
    }
}

/// Returns a share in percent, rounded up as df does.
fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        _ => format!("{}%", (u128::from(part) * 100).div_ceil(u128::from(whole))),
    }
}

fn percent(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let asked = args.text("args");
    let mut map = Map::new();
    for (mount, usage) in shown(&Args::default())? {
        map.set(&mount.point, share(usage.used(), usage.used() + usage.available));
    }
    match asked {
        None => Ok(Value::from(map).into()),
        Some(place) => {
            let found = map.take(&place);
            let missing = || CallError::Failed(format!("Problem getting disk usage: nothing is mounted at {place}"));
            found.map(Outcome::from).ok_or_else(missing)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::find;
    use std::sync::Arc;

    fn call(fun: &str, args: &[&str]) -> Result<Outcome, CallError> {
        let cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()));
        find(fun).expect("a function").call(&cx, args.iter().map(|arg| Value::from(*arg)).collect(), Map::new())
    }

    #[test]
    fn the_root_has_the_columns_of_df() {
        let usage = call("disk.usage", &[]).expect("an outcome").ret;
        let root = usage.get("/").and_then(Value::as_map).expect("a root");
        let keys: Vec<String> = root.keys().map(Value::to_key).collect();
        assert_eq!(keys, ["filesystem", "1K-blocks", "used", "available", "capacity"]);
        assert!(root.text("capacity").is_some_and(|share| share.ends_with('%')), "{root:?}");
        let inodes = call("disk.inodeusage", &[]).expect("an outcome").ret;
        assert!(inodes.get("/").and_then(|root| root.get("use")).is_some());
    }

    #[test]
    fn one_place_can_be_asked_for() {
        let root = call("disk.percent", &["/"]).expect("an outcome").ret;
        assert!(root.as_str().is_some_and(|share| share.ends_with('%')), "{root:?}");
        assert!(call("disk.percent", &["/no/mount"]).is_err());
        assert!(call("disk.usage", &["x"]).is_err());
        assert!(call("disk.usage", &["a"]).expect("an outcome").ret.get("/proc").is_some());
    }

    #[test]
    fn shares_are_rounded_up() {
        assert_eq!((share(1, 1000), share(0, 5), share(0, 0)), ("1%".to_owned(), "0%".to_owned(), "-".to_owned()));
    }
}
