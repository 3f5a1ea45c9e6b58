//! Which beacons there shall be: what the files say, what was changed since, and what comes of both. Pure.
//!
//! A change at run time lasts until the minion stops. New files take over, beacon by beacon, what has changed in them; a beacon
//! whose entry in the files is as it was keeps what was changed at run time.

use std::sync::Arc;

use proto::value::{Map, MapExt, Value};

use super::setup::{self, Setup, SetupError};

/// Where a beacon stands that is not as the files say.
const AT_RUN_TIME: &str = "changed at run time";

/// The option `beacons` as the files have it.
#[derive(Debug, Clone, Default)]
pub struct Configured {
    /// The beacons and their options.
    pub beacons: Map,
    /// Where each one's configuration stands, by its name.
    pub places: Vec<(String, String)>,
}

/// What came of one beacon that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) error: SetupError,
    /// Whether the beacon goes on with the options that it had before.
    pub(super) goes_on: bool,
}

/// The beacons that there shall be. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    files: Arc<Configured>,
    now: Arc<Map>,
    pub(super) setups: Arc<Vec<Setup>>,
    pub(super) refused: Arc<Vec<Refused>>,
}

impl Roster {
    /// Begins with what the files say.
    pub(super) fn new(files: Configured) -> Roster {
        let now = Arc::new(files.beacons.clone());
        let mut roster = Roster { files: Arc::new(files), now, ..Roster::default() };
        roster.settle();
        roster
    }

    /// Begins with beacons that no configuration names.
    #[cfg(test)]
    pub(super) fn of(setups: Vec<Setup>) -> Roster {
        Roster { setups: Arc::new(setups), ..Roster::default() }
    }

    /// Returns what is configured now, in the shape of the option.
    pub(super) fn configured(&self) -> &Map {
        &self.now
    }

    /// Takes over what has changed in the files.
    pub(super) fn reload(&mut self, files: Configured) {
        let now = Arc::make_mut(&mut self.now);
        for name in self.files.beacons.keys().chain(files.beacons.keys()) {
            let new = files.beacons.get(name);
            if self.files.beacons.get(name) == new {
                continue;
            }
            match new {
                Some(options) => drop(now.insert(name.clone(), options.clone())),
                None => drop(now.shift_remove(name)),
            }
        }
        self.files = Arc::new(files);
        self.settle();
    }

    /// Changes what is configured.
    pub(super) fn edit(&mut self, edit: &mut dyn FnMut(&mut Map)) {
        edit(Arc::make_mut(&mut self.now));
        self.settle();
    }

    /// Makes setups of what is configured. A beacon that is bad now stays as it was, if it was there before.
    fn settle(&mut self) {
        let (mut setups, errors) = setup::read(&self.now, |name| self.place(name));
        let mut refused = Vec::new();
        for error in errors {
            let before = self.setups.iter().find(|setup| setup.name == error.name);
            refused.push(Refused { goes_on: before.is_some(), error });
            setups.extend(before.cloned());
        }
        (self.setups, self.refused) = (Arc::new(setups), Arc::new(refused));
    }

    fn place(&self, name: &str) -> String {
        let from_files = self.files.beacons.at(name) == self.now.at(name);
        let place = self.files.places.iter().find(|(known, _)| known == name).map(|(_, place)| place.as_str());
        match place {
            Some(place) if from_files => place.to_owned(),
            None if from_files => "the configuration".to_owned(),
            _ => AT_RUN_TIME.to_owned(),
        }
    }
}

/// Returns the options without `enabled`: one that is switched off can be checked and tried all the same.
pub(super) fn switched_on(options: &Value) -> Value {
    match options {
        Value::Map(map) => {
            map.iter().filter(|(key, _)| key.as_str() != Some("enabled")).map(pair).collect::<Map>().into()
        }
        Value::List(items) => Value::List(items.iter().map(switched_on).collect()),
        other => other.clone(),
    }
}

fn pair((key, value): (&Value, &Value)) -> (Value, Value) {
    (key.clone(), value.clone())
}

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    fn files(beacons: Map) -> Configured {
        let places = vec![("load".to_owned(), "minion:2:3".to_owned())];
        Configured { beacons, places }
    }

    fn percent(share: &str) -> Value {
        vec![map! { "percent" => share }].into()
    }

    fn names(roster: &Roster) -> Vec<&str> {
        roster.setups.iter().map(|setup| setup.name.as_str()).collect()
    }

    #[test]
    fn new_files_take_over_only_what_changed_in_them() {
        let mut roster = Roster::new(files(map! { "memusage" => percent("1%"), "swapusage" => percent("1%") }));
        roster.edit(&mut |now| {
            now.set("memusage", percent("2%"));
            now.set("load", Value::List(vec![]));
            now.set("swapusage", percent("2%"));
        });
        assert_eq!(names(&roster), ["memusage", "swapusage", "load"]);
        roster.reload(files(map! { "memusage" => percent("1%"), "swapusage" => percent("3%") }));
        let expected =
            map! { "memusage" => percent("2%"), "swapusage" => percent("3%"), "load" => Value::List(vec![]) };
        assert_eq!(*roster.configured(), expected);
        // What was changed is in the files now, as after `beacons.save`: nothing is lost and nothing comes back.
        roster.reload(files(expected.clone()));
        assert_eq!(*roster.configured(), expected);
        roster.reload(files(map! { "memusage" => percent("2%") }));
        assert_eq!(names(&roster), ["memusage"]);
    }

    #[test]
    fn a_bad_beacon_goes_on_as_it_was_and_a_new_one_is_disabled_alone() {
        let mut roster = Roster::new(files(map! { "load" => Value::List(vec![]) }));
        roster.reload(files(map! { "load" => "x", "memusage" => "y" }));
        assert_eq!(names(&roster), ["load"]);
        let told: Vec<(&str, &str, bool)> = roster
            .refused
            .iter()
            .map(|refused| (refused.error.name.as_str(), refused.error.place.as_str(), refused.goes_on))
            .collect();
        assert_eq!(told, [("load", "minion:2:3", true), ("memusage", "the configuration", false)]);
        roster.edit(&mut |now| now.set("load", 1));
        assert_eq!(roster.refused[0].error.place, AT_RUN_TIME);
    }

    #[test]
    fn all_are_switched_off_at_the_top() {
        let mut roster = Roster::new(files(map! { "load" => Value::List(vec![]) }));
        roster.edit(&mut |now| now.set("enabled", false));
        assert!(names(&roster).is_empty());
        roster.edit(&mut |now| now.set("enabled", true));
        assert_eq!(names(&roster), ["load"]);
    }

    #[test]
    fn a_beacon_that_is_off_can_be_tried() {
        let list = Value::from(vec![map! { "percent" => 1 }, map! { "enabled" => false }]);
        assert_eq!(switched_on(&list), vec![map! { "percent" => 1 }, Map::new()].into());
        assert_eq!(switched_on(&map! { "enabled" => false }.into()), Map::new().into());
    }
}
