//! Files that the file server has not, by pattern: `file_ignore_glob` and `file_ignore_regex`.

use proto::target::glob::Glob;
use proto::target::pcre::Pcre;

/// The patterns.
#[derive(Debug, Clone, Default)]
pub struct Ignored {
    globs: Vec<Glob>,
    regexes: Vec<Pcre>,
}

impl Ignored {
    /// Reads them; an expression that is none is named in the error.
    pub fn new(globs: &[String], regexes: &[String]) -> Result<Ignored, String> {
        // They may match anywhere; by itself first, for `a)|(b` is none.
        let regex = |text: &String| {
            Pcre::parse(text)
                .and_then(|_| Pcre::parse(&format!("(?s:.*?)(?:{text})")))
                .map_err(|error| error.to_string())
        };
        Ok(Ignored {
            globs: globs.iter().map(|text| Glob::new(text)).collect(),
            regexes: regexes.iter().map(regex).collect::<Result<_, _>>()?,
        })
    }

    /// Tells whether a path is left out: relative to its root, or whole.
    pub fn matches(&self, path: &str) -> bool {
        // One that cannot be compared in the steps there are is left out: ignoring is the safe answer.
        self.globs.iter().any(|glob| glob.matches(path))
            || self.regexes.iter().any(|regex| regex.matches(path).unwrap_or(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_leave_files_out() {
        let ignored = Ignored::new(&["*.pyc".into(), "*/.git/*".into()], &[r"/\.svn($|/)".into()]).unwrap();
        for path in ["a/b.pyc", "x/.git/config", "a/.svn", "a/.svn/x"] {
            assert!(ignored.matches(path), "{path}");
        }
        assert!(!ignored.matches("a/b.py"));
        assert!(Ignored::new(&[], &["(".into()]).is_err());
    }
}
