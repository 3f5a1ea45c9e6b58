//! What `reactor/sls` promises, tested.

use std::os::unix::fs::symlink;
use std::time::Duration;

use proto::map;
use render::yaml::ReactorEntry;

use super::*;
use crate::reactor::rules::Rules;

struct Rig {
    folder: tempfile::TempDir,
    files: Files,
}

impl Rig {
    fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("root/reactor")).unwrap();
        Rig { folder, files: Files::default() }
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.folder.path().join(path), text).unwrap();
    }

    fn path(&self, path: &str) -> String {
        self.folder.path().join(path).display().to_string()
    }

    fn found(&self, path: &str) -> Vec<String> {
        let found = resolve(&Roots::base(vec![self.folder.path().join("root")]), path);
        let name = |file: PathBuf| file.file_name().unwrap().to_str().unwrap().to_owned();
        found.into_iter().map(name).collect()
    }

    fn render(&mut self, path: &str) -> Rendered {
        let loaded = Loaded {
            added: Vec::new(),
            guards: crate::reactor::GuardsConfig::default().into(),
            rules: Rules::new(Vec::<ReactorEntry>::new()),
            max_age: Duration::ZERO,
            file_roots: Arc::new(Roots::base(vec![self.folder.path().join("root")])),
            opts: Map::new(),
            grains: Map::new(),
        };
        self.files.render(&loaded, path, &Tag::parse("a/b").unwrap(), &map! { "id" => "m1" })
    }
}

#[test]
fn globs_name_files_in_order_and_leave_hidden_ones() {
    let rig = Rig::new();
    for name in ["b.sls", "a.sls", ".hidden.sls", "c.txt"] {
        rig.write(name, "");
    }
    assert_eq!(rig.found(&rig.path("*.sls")), ["a.sls", "b.sls"]);
    assert_eq!(rig.found(&rig.path("[ac].*")), ["a.sls", "c.txt"]);
    assert_eq!(rig.found(&rig.path("nosuch/*.sls")), [""; 0]);
    rig.write("root/reactor/x.sls", "");
    assert_eq!(rig.found(&rig.path("*/reactor/?.sls")), ["x.sls"]);
}

#[test]
fn salt_paths_stay_under_the_roots() {
    let rig = Rig::new();
    rig.write("secret.sls", "");
    rig.write("root/reactor/x.sls", "");
    symlink(rig.folder.path().join("secret.sls"), rig.folder.path().join("root/link.sls")).unwrap();
    symlink("reactor/x.sls", rig.folder.path().join("root/inner.sls")).unwrap();
    assert_eq!(rig.found("salt://reactor/x.sls"), ["x.sls"]);
    assert_eq!(rig.found("salt://reactor/x.sls?saltenv=base"), ["x.sls"]);
    assert_eq!(rig.found("salt://reactor/*.sls"), ["x.sls"]);
    assert_eq!(rig.found("salt://inner.sls"), ["inner.sls"]);
    for escape in ["salt://../secret.sls", "salt://reactor/../../secret.sls", "salt://link.sls", "salt://./x.sls"] {
        assert_eq!(rig.found(escape), [""; 0], "{escape}");
    }
    assert_eq!(rig.found(&format!("salt://{}", rig.path("secret.sls"))), [""; 0]);
}

#[test]
fn an_edit_counts_and_a_missing_file_is_named() {
    let mut rig = Rig::new();
    let path = rig.path("x.sls");
    let rendered = rig.render(&path);
    assert_eq!(rendered.faults[0].error, format!("Can not render SLS {path} for tag a/b. File missing or not found."));
    rig.write("x.sls", "a:\n  local.test.ping:\n    - tgt: {{ data['id'] }}\n");
    assert_eq!(rig.render(&path).high.len(), 1);
    rig.write("x.sls", "a:\n  local.test.ping:\n    - tgt: m1\nb:\n  local.test.ping:\n    - tgt: m1\n");
    assert_eq!(rig.render(&path).high.len(), 2);
}

#[test]
fn a_repair_is_told_once_until_the_file_changes() {
    let mut rig = Rig::new();
    let path = rig.path("x.sls");
    let text = "a:\n  local.test.arg:\n    - kwarg:\n         x: 1\n        y: 2\n";
    rig.write("x.sls", text);
    let rendered = rig.render(&path);
    assert_eq!((rendered.warnings.len(), rendered.warnings[0].line), (1, 5));
    assert_eq!(rig.render(&path).warnings, []);
    rig.write("x.sls", &format!("{text}        z: 3\n"));
    assert_eq!(rig.render(&path).warnings.len(), 2);
}

#[test]
fn a_template_error_names_its_line() {
    let mut rig = Rig::new();
    rig.write("x.sls", "a:\n  local.test.ping:\n    - tgt: {{ data.nope.deeper }}\n");
    let fault = rig.render(&rig.path("x.sls")).faults.remove(0);
    assert_eq!(fault.line, Some(3));
    assert!(fault.error.starts_with(&format!("Failed to render \"{}\": ", rig.path("x.sls"))), "{}", fault.error);
}

#[test]
fn templates_are_imported_from_the_roots_only() {
    let mut rig = Rig::new();
    rig.write("root/reactor/m.jinja", "{% set id = 'm7' %}");
    rig.write("secret.jinja", "{% set id = 'no' %}");
    rig.write("x.sls", "{% from 'reactor/m.jinja' import id %}\na:\n  local.test.ping:\n    - tgt: {{ id }}\n");
    assert_eq!(rig.render(&rig.path("x.sls")).faults, []);
    rig.write("y.sls", "{% from '../secret.jinja' import id %}\na:\n  local.test.ping:\n    - tgt: {{ id }}\n");
    assert_eq!(rig.render(&rig.path("y.sls")).faults.len(), 1);
}
