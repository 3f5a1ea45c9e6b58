//! The mine: what minions tell for other minions to ask (`_mine`, `_mine_get`, `_mine_delete`, `_mine_flush`).
//!
//! It lies on the disk in Salt's format, so that it outlives the master, and twice, for Salt's runners read and change it
//! there (salt-wire.md §8.3): `cachedir/mine/<id>.p` is where Salt 3008 has it, `cachedir/minions/<id>/mine.p` earlier ones.
//! A value may say who is to see it (`allow_tgt`); the option `mine_get` says what each minion may ask for.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use proto::ids::MinionId;
use proto::msgpack;
use proto::target::pcre::Pcre;
use proto::value::{Map, MapExt, Value};

use crate::command::TargetText;

/// The most that one minion may keep in the mine, in bytes.
pub(super) const MAX_MINE: usize = 4 * 1024 * 1024;
/// How much one question may be answered with.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// How many functions one question may name.
const MAX_FUNCTIONS: usize = 100;
/// What marks a value that says who may see it, and where the value is then.
const ACL: &str = "__saltmine_acl__";
const ACL_DATA: &str = "__data__";

/// Which minions may ask for which functions: expressions over ids and over names.
#[derive(Debug, Clone, Default)]
pub struct Rights(Vec<(Pcre, Vec<Pcre>)>);

impl Rights {
    /// Reads a map of expressions to lists of expressions.
    pub fn read(value: &Value) -> Result<Rights, String> {
        let regex = |value: &Value| -> Result<Pcre, String> {
            let text = value.as_str().ok_or_else(|| format!("{value:?} is no regular expression"))?;
            Pcre::parse(text).map_err(|error| error.to_string())
        };
        let rule = |(id, funs): (&Value, &Value)| -> Result<(Pcre, Vec<Pcre>), String> {
            let funs = funs.as_list().ok_or_else(|| format!("{id:?}: a list of functions is expected"))?;
            Ok((regex(id)?, funs.iter().map(regex).collect::<Result<_, _>>()?))
        };
        let rules = value.as_map().ok_or("a map of minions to lists of functions is expected")?;
        Ok(Rights(rules.iter().map(rule).collect::<Result<_, _>>()?))
    }

    /// Tells whether a minion may ask for a function. What cannot be compared is not allowed.
    pub fn allow(&self, id: &MinionId, fun: &str) -> bool {
        let matches = |pcre: &Pcre, text: &str| pcre.matches(text).unwrap_or(false);
        self.0.iter().any(|(ids, funs)| matches(ids, id.as_str()) && funs.iter().any(|known| matches(known, fun)))
    }
}

/// The mine on the disk. Everything here blocks.
#[derive(Debug)]
pub(super) struct Mine {
    cachedir: PathBuf,
    /// Two changes of one minion's file never mix.
    changing: Mutex<()>,
}

/// Why something is not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum MineError {
    /// The disk.
    #[error("write the mine")]
    Disk(#[from] io::Error),
    /// There is more of it than may be.
    #[error("a minion keeps at most {MAX_MINE} bytes in the mine")]
    TooLarge,
}

impl Mine {
    pub(super) fn new(cachedir: &Path) -> Mine {
        Mine { cachedir: cachedir.to_owned(), changing: Mutex::new(()) }
    }

    /// Returns the two files of a minion, the one that earlier releases of Salt know first.
    fn paths(&self, id: &MinionId) -> [PathBuf; 2] {
        let minion = self.cachedir.join("minions").join(id.as_str());
        [minion.join("mine.p"), self.cachedir.join("mine").join(format!("{id}.p"))]
    }

    /// Returns the file that counts: the newer one, for a runner of Salt's changes only its own. One that deletes its own
    /// means both.
    fn path(&self, id: &MinionId) -> Option<PathBuf> {
        let [earlier, newest] = self.paths(id);
        let changed = |path: &PathBuf| fs::metadata(path).and_then(|facts| facts.modified()).ok();
        Some(if changed(&earlier)? > changed(&newest)? { earlier } else { newest })
    }

    /// Returns what a minion keeps; nothing if it keeps nothing or its file cannot be read.
    pub(super) fn read(&self, id: &MinionId) -> Map {
        let Some(path) = self.path(id) else { return Map::new() };
        let size = fs::metadata(&path).map_or(0, |facts| facts.len());
        if size > 2 * MAX_MINE as u64 {
            return Map::new();
        }
        fs::read(&path).ok().and_then(|bytes| msgpack::decode_map(&bytes).ok()).unwrap_or_default()
    }

    /// Keeps values: those of before stay unless `clear` drops them.
    pub(super) fn keep(&self, id: &MinionId, data: Map, clear: bool) -> Result<(), MineError> {
        self.change(id, |kept| {
            if clear {
                kept.clear();
            }
            kept.extend(data);
        })
    }

    /// Drops a function's value.
    pub(super) fn delete(&self, id: &MinionId, fun: &str) -> Result<(), MineError> {
        self.change(id, |kept| drop(kept.take(fun)))
    }

    /// Drops everything of a minion.
    pub(super) fn flush(&self, id: &MinionId) -> io::Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let remove = |path: PathBuf| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        // One is enough for it to count no more.
        let removed = self.paths(id).map(remove);
        // It stays if Salt's tools keep anything else there.
        let _ = fs::remove_dir(self.cachedir.join("minions").join(id.as_str()));
        removed.into_iter().collect()
    }

    fn change(&self, id: &MinionId, edit: impl FnOnce(&mut Map)) -> Result<(), MineError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = self.read(id);
        edit(&mut kept);
        let bytes = msgpack::encode_map(&kept);
        if bytes.len() > MAX_MINE {
            return Err(MineError::TooLarge);
        }
        Ok(self.paths(id).iter().try_for_each(|path| write(path, &bytes))?)
    }
}

/// Writes a file that is there as a whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Ids do not begin with a dot, so this is nobody's file.
    let new = folder.join(".new");
    fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?.write_all(bytes)?;
    fs::rename(&new, path)
}

/// A question for the mine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub(super) target: TargetText,
    pub(super) functions: Vec<String>,
    /// Values are told by function, since several are asked for.
    by_function: bool,
}

impl Question {
    /// Reads `tgt`, `tgt_type` and `fun`: a text, several with commas, or a list.
    pub(super) fn read(tgt: Value, tgt_type: &str, fun: &Value) -> Option<Question> {
        let (mut functions, listed): (Vec<String>, bool) = match fun {
            Value::Str(text) => (text.split(',').map(str::to_owned).collect(), false),
            Value::List(names) => {
                (names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()?, true)
            }
            _ => return None,
        };
        functions.sort();
        functions.dedup();
        functions.truncate(MAX_FUNCTIONS);
        let by_function = listed || functions.len() > 1;
        let target = TargetText { tgt, tgt_type: tgt_type.to_lowercase(), delimiter: None };
        Some(Question { target, functions, by_function })
    }

    /// Leaves only what the option `mine_get` lets this minion ask for.
    pub(super) fn allowed(mut self, rights: Option<&Rights>, id: &MinionId) -> Option<Question> {
        if let Some(rights) = rights {
            self.functions.retain(|fun| rights.allow(id, fun));
        }
        (!self.functions.is_empty()).then_some(self)
    }

    /// Collects the answer for a minion, from the files of those that the target means. `sees` tells whether a target means
    /// the asker.
    pub(super) fn answer(&self, mine: &Mine, minions: &[MinionId], sees: &dyn Fn(&TargetText) -> bool) -> Map {
        let mut by_fun: HashMap<&str, Map> = HashMap::new();
        let mut size = 0;
        for minion in minions {
            let kept = mine.read(minion);
            for fun in &self.functions {
                let Some(value) = kept.at(fun).and_then(|entry| visible(entry, sees)) else { continue };
                size += msgpack::encode(value).len();
                if size > MAX_ANSWER {
                    tracing::warn!(fun, "an answer of the mine is cut at {MAX_ANSWER} bytes; ask for fewer minions");
                    return self.shaped(by_fun);
                }
                by_fun.entry(fun).or_default().set(minion.as_str(), value.clone());
            }
        }
        self.shaped(by_fun)
    }

    fn shaped(&self, mut by_fun: HashMap<&str, Map>) -> Map {
        if !self.by_function {
            return by_fun.into_values().next().unwrap_or_default();
        }
        let funs = self.functions.iter();
        funs.filter_map(|fun| Some((Value::from(fun.as_str()), Value::Map(by_fun.remove(fun.as_str())?)))).collect()
    }
}

/// Returns the value of an entry, if it may be seen.
fn visible<'a>(entry: &'a Value, sees: &dyn Fn(&TargetText) -> bool) -> Option<&'a Value> {
    let Some(guarded) = entry.as_map().filter(|entry| entry.at(ACL).is_some()) else { return Some(entry) };
    let allowed = match guarded.at("allow_tgt").filter(|tgt| tgt.is_truthy()) {
        None => true,
        Some(tgt) => {
            let tgt_type = guarded.text("allow_tgt_type").unwrap_or("glob").to_owned();
            sees(&TargetText { tgt: tgt.clone(), tgt_type, delimiter: None })
        }
    };
    guarded.at(ACL_DATA).filter(|_| allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::map;

    fn id(text: &str) -> MinionId {
        MinionId::parse(text).unwrap()
    }

    fn mine() -> (tempfile::TempDir, Mine) {
        let folder = tempfile::tempdir().unwrap();
        let mine = Mine::new(folder.path());
        (folder, mine)
    }

    fn ask(mine: &Mine, fun: impl Into<Value>, asker: &str) -> Value {
        let question = Question::read("*".into(), "glob", &fun.into()).unwrap();
        let sees = |target: &TargetText| target.tgt.as_str() == Some(asker);
        question.answer(mine, &[id("a"), id("b")], &sees).into()
    }

    #[test]
    fn what_a_minion_keeps_outlives_the_master_and_is_merged() {
        let (folder, mine) = mine();
        mine.keep(&id("a"), map! { "x" => 1, "y" => 2 }, false).unwrap();
        mine.keep(&id("a"), map! { "y" => 3 }, false).unwrap();
        let later = Mine::new(folder.path());
        assert_eq!(later.read(&id("a")), map! { "x" => 1, "y" => 3 });
        later.keep(&id("a"), map! { "z" => 4 }, true).unwrap();
        assert_eq!(later.read(&id("a")), map! { "z" => 4 });
        later.delete(&id("a"), "z").unwrap();
        assert_eq!(later.read(&id("a")), Map::new());
        later.flush(&id("a")).unwrap();
        later.flush(&id("never")).unwrap();
        assert!(!folder.path().join("mine/a.p").exists() && !folder.path().join("minions/a").exists());
    }

    #[test]
    fn salts_runners_of_every_release_see_the_mine_and_what_they_change_counts() {
        let (folder, mine) = mine();
        let files = ["mine/a.p", "minions/a/mine.p"].map(|name| folder.path().join(name));
        for changed in &files {
            mine.keep(&id("a"), map! { "x" => 1, "y" => 2 }, false).unwrap();
            for path in &files {
                assert_eq!(msgpack::decode_map(&fs::read(path).unwrap()).unwrap(), map! { "x" => 1, "y" => 2 });
            }
            // `cache.clear_mine_func`; its clock is that of the file system, which may stand still for a moment.
            fs::write(changed, msgpack::encode_map(&map! { "x" => 1 })).unwrap();
            let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
            fs::File::options().write(true).open(changed).unwrap().set_modified(later).unwrap();
            assert_eq!(mine.read(&id("a")), map! { "x" => 1 });
            // `cache.clear_mine`
            mine.keep(&id("a"), map! { "z" => 3 }, false).unwrap();
            assert_eq!(mine.read(&id("a")), map! { "x" => 1, "z" => 3 });
            fs::remove_file(changed).unwrap();
            assert_eq!(mine.read(&id("a")), Map::new());
        }
    }

    #[test]
    fn one_function_is_told_by_minion_and_several_by_function() {
        let (_folder, mine) = mine();
        mine.keep(&id("a"), map! { "x" => 1, "y" => 2 }, false).unwrap();
        mine.keep(&id("b"), map! { "x" => 3 }, false).unwrap();
        assert_eq!(ask(&mine, "x", "a"), map! { "a" => 1, "b" => 3 }.into());
        let both = map! { "x" => map! { "a" => 1, "b" => 3 }, "y" => map! { "a" => 2 } };
        assert_eq!(ask(&mine, "x,y", "a"), both.clone().into());
        assert_eq!(ask(&mine, vec!["y", "x"], "a"), both.into());
        assert_eq!(ask(&mine, vec!["x"], "a"), map! { "x" => map! { "a" => 1, "b" => 3 } }.into());
        assert_eq!(ask(&mine, "none", "a"), Map::new().into());
        assert_eq!(Question::read("*".into(), "glob", &7.into()), None);
    }

    #[test]
    fn a_value_is_seen_by_whom_it_names_alone() {
        let (_folder, mine) = mine();
        let guarded = map! { ACL => 1, ACL_DATA => "secret", "allow_tgt" => "a", "allow_tgt_type" => "glob" };
        mine.keep(&id("b"), map! { "x" => guarded, "y" => map! { ACL => 1, ACL_DATA => "open" } }, false).unwrap();
        assert_eq!(ask(&mine, "x", "a"), map! { "b" => "secret" }.into());
        assert_eq!(ask(&mine, "x", "c"), Map::new().into());
        assert_eq!(ask(&mine, "y", "c"), map! { "b" => "open" }.into());
    }

    #[test]
    fn the_masters_rights_decide_what_may_be_asked_for() {
        let rights = map! { "web.*" => vec!["network\\..*"], "db" => vec!["x"] };
        let rights = Rights::read(&rights.into()).unwrap();
        let question = || Question::read("*".into(), "glob", &vec!["network.ip", "x"].into()).unwrap();
        let allowed = |who: &str| question().allowed(Some(&rights), &id(who)).map(|question| question.functions);
        assert_eq!(allowed("web1"), Some(vec!["network.ip".to_owned()]));
        assert_eq!(allowed("other"), None);
        assert_eq!(question().allowed(None, &id("other")).map(|question| question.functions.len()), Some(2));
        for wrong in [Value::from("x"), map! { "a" => "x" }.into(), map! { "(" => vec!["x"] }.into()] {
            assert!(Rights::read(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn too_much_is_refused_and_what_was_there_stays() {
        let (folder, mine) = mine();
        mine.keep(&id("a"), map! { "x" => 1 }, false).unwrap();
        let large = "x".repeat(MAX_MINE);
        assert!(matches!(mine.keep(&id("a"), map! { "y" => large }, false), Err(MineError::TooLarge)));
        assert_eq!(mine.read(&id("a")), map! { "x" => 1 });
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("mine"), mode("mine/a.p")), (0o700, 0o600));
    }
}
