//! `docs/reference/beacons.md`: every beacon with its options, from the doc comments of its `Config`.

use std::fmt::Write as _;

use super::rust::{self, Item, Struct};
use super::{MADE, cell, expect_file, expect_none, read};

const HEAD: &str = "
# Beacons

Every kind of beacon with its options; how to use them is in [Watch a host with beacons](../howto/beacons.md).
`<name>` stands for a name of yours.
";

#[test]
fn the_page_of_beacons_is_fresh() {
    let mut page = format!("{MADE}\n{HEAD}");
    writeln!(page, "\n## Options of every beacon\n").unwrap();
    let setup = read("minion/src/beacons/setup.rs");
    let setup = rust::structs(&setup).into_iter().find(|one| one.item.name == "Setup").unwrap();
    let every = setup.fields.iter().filter_map(|field| {
        let (name, doc) = field.doc.strip_prefix('`')?.split_once("`: ")?;
        Some(Item { name: name.to_owned(), doc: capital(doc), kind: String::new() })
    });
    let mut every: Vec<Item> = every.collect();
    every.extend([
        known("beacon_module", "The kind, if the name is one of your own. Default: the name."),
        known("enabled", "False switches it off. Beside the beacons it switches all of them off. Default: True."),
    ]);
    every.sort_by(|a, b| a.name.cmp(&b.name));
    table(&mut page, &every);
    for kind in minion::beacons::all() {
        let source = Source::of(kind.name);
        writeln!(page, "\n## {}\n\n{}", kind.name, source.head()).unwrap();
        let options = source.options();
        if options.is_empty() {
            writeln!(page, "\n{}", source.config().item.doc).unwrap();
        } else {
            page.push('\n');
            table(&mut page, &options);
        }
    }
    expect_file("docs/reference/beacons.md", &page);
}

#[test]
fn every_option_of_a_beacon_is_documented() {
    let mut findings = Vec::new();
    for kind in minion::beacons::all() {
        let source = Source::of(kind.name);
        let options = source.options();
        if options.is_empty() && source.config().item.doc.is_empty() {
            findings.push(format!("{}: its Config says nothing", kind.name));
        }
        let silent = options.iter().filter(|option| option.doc.is_empty());
        findings.extend(silent.map(|option| format!("{}: option {} says nothing", kind.name, option.name)));
        let first = source.config().fields.iter().filter(|field| rust::default(&field.doc).is_none());
        findings.extend(first.map(|field| format!("{}: option {} tells no default", kind.name, field.name)));
        if !source.head().contains("```yaml") {
            findings.push(format!("{}: the file opens with an example of its configuration", kind.name));
        }
    }
    expect_none(&findings);
}

fn known(name: &str, doc: &str) -> Item {
    Item { name: name.to_owned(), doc: doc.to_owned(), kind: String::new() }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn table(page: &mut String, options: &[Item]) {
    page.push_str("| option | meaning | default |\n|---|---|---|\n");
    for option in options {
        let (meaning, default) = rust::default(&option.doc).unwrap_or_else(|| (option.doc.clone(), String::new()));
        writeln!(page, "| `{}` | {} | {} |", option.name, cell(&meaning), cell(&default)).unwrap();
    }
}

/// The source of one beacon.
struct Source {
    text: String,
    structs: Vec<Struct>,
}

impl Source {
    fn of(name: &str) -> Source {
        let text = read(&format!("minion/src/beacons/{name}.rs"));
        let structs = rust::structs(&text);
        Source { text, structs }
    }

    fn head(&self) -> String {
        rust::head(&self.text).replace(" (`host/exec/`)", "")
    }

    fn config(&self) -> &Struct {
        self.find("Config").expect("a beacon has its Config")
    }

    fn find(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|one| one.item.name == name)
    }

    /// Returns all options, those within others under their full names.
    fn options(&self) -> Vec<Item> {
        let mut found = Vec::new();
        self.collect("", self.config(), &mut found);
        if found.is_empty() && self.config().item.kind.starts_with('(') {
            let doc = self.config().item.doc.clone();
            found.push(Item { name: "<name>".to_owned(), doc, kind: String::new() });
        }
        found
    }

    fn collect(&self, prefix: &str, of: &Struct, found: &mut Vec<Item>) {
        for field in &of.fields {
            let name = format!("{prefix}{}", field.name.trim_start_matches('_'));
            let doc = if field.doc.is_empty() { self.inherited(of, field) } else { field.doc.clone() };
            found.push(Item { name: name.clone(), doc, kind: field.kind.clone() });
            if let Some(inner) = self.find(&field.kind) {
                // A newtype takes names of the user's, each with what `Options` holds.
                let (inner, many) = if inner.item.kind.starts_with('(') {
                    (self.find("Options"), "<name>.")
                } else {
                    (Some(inner), "")
                };
                inner.into_iter().for_each(|inner| self.collect(&format!("{name}.{many}"), inner, found));
            } else if let Some(inner) = named_values(&field.kind).and_then(|kind| self.find(kind)) {
                self.collect(&format!("{name}.<name>."), inner, found);
            }
        }
    }

    /// Returns what a field without a doc of its own means: the struct's, or that of the option which holds the struct.
    fn inherited(&self, of: &Struct, field: &Item) -> String {
        let holder = self.structs.iter().flat_map(|one| &one.fields).find(|one| one.kind == of.item.name);
        let doc = if of.item.doc.is_empty() { holder.map(|one| one.doc.clone()) } else { Some(of.item.doc.clone()) };
        doc.map(|doc| format!("For {}. {doc}", field.name)).unwrap_or_default()
    }
}

/// Returns the type of the values of a map with names as keys.
fn named_values(kind: &str) -> Option<&str> {
    kind.strip_prefix("BTreeMap<String, ")?.strip_suffix('>')
}
