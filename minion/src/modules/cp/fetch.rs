//! One file from the master: asked for piece by piece, checked against the master's hash, and put in its place whole.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use proto::map;
use proto::value::{Map, MapExt, Value};
use ring::digest::{self, Context};

use crate::modules::{Args, CallError, ModuleContext};

/// How long the master may take for one answer; the first hash of a large file takes a while.
pub(super) const WAIT: Duration = Duration::from_secs(60);
/// How often a file is fetched whose hash is then not the master's: it was changed meanwhile.
const TRIES: usize = 3;
/// The largest file that is fetched.
const MAX_FILE: u64 = 16 << 30;
const PIECE: usize = 256 * 1024;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetched {
    /// The master has none such.
    Missing,
    /// What is here is what the master has.
    Unchanged,
    /// It was written.
    Written,
}

/// A file of the master: a plain relative path, and its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SaltUrl {
    pub(super) path: String,
    pub(super) saltenv: String,
}

/// Returns the environment that is asked for, configured, or `base`.
pub(super) fn saltenv(cx: &ModuleContext, given: Option<String>) -> String {
    let configured = || cx.config.text("saltenv").map(str::to_owned);
    given.filter(|env| !env.is_empty()).or_else(configured).unwrap_or_else(|| "base".to_owned())
}

/// Asks the master.
pub(super) fn ask(cx: &ModuleContext, cmd: &str, fields: Map) -> Result<Value, CallError> {
    cx.stopped().map_or(Ok(()), |stop| Err(CallError::Stopped(stop)))?;
    cx.master.ask(cmd, fields, WAIT).map_err(|error| CallError::Failed(error.to_string()))
}

impl SaltUrl {
    /// Reads the argument of this name.
    pub(super) fn of(cx: &ModuleContext, args: &Args, name: &str) -> Result<SaltUrl, CallError> {
        SaltUrl::parse(cx, &args.text(name).unwrap_or_default(), args.text("saltenv"))
    }

    /// Reads `salt://path?saltenv=env`, or a path.
    pub(super) fn parse(cx: &ModuleContext, text: &str, env: Option<String>) -> Result<SaltUrl, CallError> {
        let bad = |why: &str| CallError::Invocation(format!("{text:?} is no path of the master's files: {why}"));
        let path = match text.split_once("://") {
            Some(("salt", path)) => path,
            Some(_) => return Err(bad("only salt:// is supported")),
            None => text,
        };
        let (path, asked) = match path.split_once("?saltenv=") {
            Some((path, asked)) => (path, Some(asked.to_owned())),
            None => (path, None),
        };
        let saltenv = saltenv(cx, asked.or(env));
        let path = path.trim_matches('/');
        let plain = |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        // Both become parts of a path in the cache.
        if path.is_empty() || path.contains('\0') || !plain(path) {
            return Err(bad("it must be relative and without '..'"));
        }
        if saltenv.contains(['/', '\0']) || !plain(&saltenv) {
            return Err(bad("the environment must be a name"));
        }
        Ok(SaltUrl { path: path.to_owned(), saltenv })
    }

    /// Returns the last part of the path.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Returns where the file is kept in the cache.
    pub(super) fn cache_path(&self, cx: &ModuleContext) -> PathBuf {
        cx.cachedir().join("files").join(&self.saltenv).join(&self.path)
    }

    pub(super) fn fields(&self) -> Map {
        map! { "path" => self.path.as_str(), "saltenv" => self.saltenv.as_str() }
    }
}

/// Makes the folders above a file.
pub(super) fn make_folders(path: &Path) -> Result<(), CallError> {
    let above = path.parent().unwrap_or(path);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(above)
        .map_err(|error| CallError::Failed(format!("make {}: {error}", above.display())))
}

/// Fetches a file, unless it is here already.
pub(super) fn fetch(cx: &ModuleContext, url: &SaltUrl, dest: &Path) -> Result<Fetched, CallError> {
    for _ in 0..TRIES {
        let told = ask(cx, "_file_hash", url.fields())?;
        let Some((algorithm, hash)) = hash(&told)? else { return Ok(Fetched::Missing) };
        if hash_of(dest, algorithm).is_ok_and(|own| own == hash) {
            return Ok(Fetched::Unchanged);
        }
        match download(cx, url, dest, algorithm, &hash)? {
            Download::Done => return Ok(Fetched::Written),
            Download::Missing => return Ok(Fetched::Missing),
            Download::Changed => {}
        }
    }
    Err(CallError::Failed(format!("salt://{} changed {TRIES} times while it was fetched", url.path)))
}

fn hash(told: &Value) -> Result<Option<(&'static digest::Algorithm, String)>, CallError> {
    let Some(told) = told.as_map() else { return Ok(None) };
    let name = told.text("hash_type").unwrap_or("sha256");
    let algorithm = match name {
        "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        "sha256" => &digest::SHA256,
        "sha384" => &digest::SHA384,
        "sha512" => &digest::SHA512,
        other => {
            let text =
                format!("the master's hash_type {other} is not supported by this minion; sha256 is Salt's default");
            return Err(CallError::Failed(text));
        }
    };
    Ok(told.text("hsum").filter(|hash| !hash.is_empty()).map(|hash| (algorithm, hash.to_owned())))
}

enum Download {
    Changed,
    Done,
    Missing,
}

fn download(
    cx: &ModuleContext,
    url: &SaltUrl,
    dest: &Path,
    algorithm: &'static digest::Algorithm,
    hash: &str,
) -> Result<Download, CallError> {
    let failed = |error: io::Error| CallError::Failed(format!("write {}: {error}", dest.display()));
    let part = Partial::new(dest).map_err(failed)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&part.0).map_err(failed)?;
    let (mut context, mut loc) = (Context::new(algorithm), 0_u64);
    loop {
        let mut fields = url.fields();
        fields.set("loc", loc);
        let reply = ask(cx, "_serve_file", fields)?;
        let data = match reply.get("data") {
            Some(Value::Bytes(data)) => data.as_slice(),
            // Text on the Salt wire is whatever can be read as text.
            Some(Value::Str(data)) => data.as_bytes(),
            _ => return Err(CallError::Failed("the master sent a piece of a file that is none".to_owned())),
        };
        if data.is_empty() {
            let there = reply.get("dest").and_then(Value::as_str).is_some_and(|dest| !dest.is_empty());
            if !there {
                return Ok(Download::Missing);
            }
            break;
        }
        loc += data.len() as u64;
        if loc > MAX_FILE {
            return Err(CallError::Failed(format!("salt://{} is larger than {MAX_FILE} bytes", url.path)));
        }
        context.update(data);
        file.write_all(data).map_err(failed)?;
    }
    if hex(context.finish().as_ref()) != hash {
        return Ok(Download::Changed);
    }
    part.put(dest).map_err(failed)?;
    Ok(Download::Done)
}

/// A file that is being written beside its place; removed unless it is put there.
struct Partial(PathBuf);

impl Partial {
    fn new(dest: &Path) -> io::Result<Partial> {
        let name = dest.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let mut random = [0; 8];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random)
            .map_err(|_| io::Error::other("the system gives no random bytes"))?;
        Ok(Partial(dest.with_file_name(format!(".{name}.{}", hex(&random)))))
    }

    fn put(self, dest: &Path) -> io::Result<()> {
        // What was there keeps its mode.
        if let Ok(facts) = fs::metadata(dest) {
            fs::set_permissions(&self.0, facts.permissions())?;
        }
        fs::rename(&self.0, dest)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone if it was put in its place.
        let _ = fs::remove_file(&self.0);
    }
}

fn hash_of(path: &Path, algorithm: &'static digest::Algorithm) -> io::Result<String> {
    let (mut file, mut context, mut piece) = (File::open(path)?, Context::new(algorithm), vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(context.finish().as_ref())),
            read => context.update(&piece[..read]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
