//! `event`: fires events, on the master's bus or on this minion's own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::value::{Map, MapExt, Value};
use tracing::warn;

use super::args::plain_text;
use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param, descend};

/// How long to wait for the master's acknowledgement unless `timeout` says otherwise; Salt's is 60 s too.
const ACKNOWLEDGEMENT_S: i64 = 60;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "event.fire",
        doc: "Fire an event on the minion's own event bus, which `halite-minion events` shows. Data must be a map.

With salt-call the minion must run on this host: it is its bus.

CLI Example:

.. code-block:: bash

    salt '*' event.fire '{\"data\":\"my event data\"}' 'tag'",
        params: &[Param::required("data"), Param::required("tag"), Param::optional("timeout", Fallback::None)],
        run: fire,
    },
    Function {
        name: "event.fire_master",
        doc: "Fire an event on the master's event bus. Returns True once the master has it.

CLI Example:

.. code-block:: bash

    salt '*' event.fire_master '{\"data\":\"my event data\"}' 'tag'",
        params: &[
            Param::required("data"),
            Param::required("tag"),
            Param::optional("preload", Fallback::None),
            Param::optional("timeout", Fallback::Int(ACKNOWLEDGEMENT_S)),
        ],
        run: |cx, args| send_data(cx, &args, args.value("data").clone()),
    },
    Function {
        name: "event.send",
        doc: "Send an event to the master's event bus. Returns True once the master has it.

tag
    The event's tag, such as myco/build/done.
data
    A map; it wins over what the other parameters add.
with_env, with_grains
    Adds environment variables or grains: True for all, or a name, or a list of names.
with_pillar, show_changed
    Not supported by this minion.
timeout
    The seconds to wait for the master. Default: 60.

Further keyword arguments are added to the data.

CLI Example:

.. code-block:: bash

    salt-call event.send myco/mytag foo=Foo bar=Bar
    salt-call event.send 'myco/mytag' '{foo: Foo, bar: Bar}'",
        params: &[
            Param::required("tag"),
            Param::optional("data", Fallback::None),
            Param::optional("preload", Fallback::None),
            Param::optional("with_env", Fallback::Bool(false)),
            Param::optional("with_grains", Fallback::Bool(false)),
            Param::optional("with_pillar", Fallback::Bool(false)),
            Param::optional("show_changed", Fallback::Bool(false)),
            Param::optional("timeout", Fallback::Int(ACKNOWLEDGEMENT_S)),
            Param::keywords(),
        ],
        run: send,
    },
];

fn fire(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let Some(data) = args.value("data").as_map() else {
        return Err(CallError::Invocation("data must be a map".to_owned()));
    };
    let fired = cx.events.fire_local(&tag(&args)?, data.clone());
    fired.map(|()| Value::Bool(true).into()).map_err(|error| CallError::Failed(error.to_string()))
}

fn send(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    if args.flag("with_pillar") || args.flag("show_changed") {
        return Err(CallError::Invocation("with_pillar and show_changed are not supported by this minion".to_owned()));
    }
    let mut data = Map::new();
    if args.flag("with_env") {
        let env =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?.into(), v.into_string().ok()?.into())));
        data.set("environ", chosen(&env.collect(), args.value("with_env")));
    }
    if args.flag("with_grains") {
        data.set("grains", chosen(&cx.grains, args.value("with_grains")));
    }
    data.extend(args.extra().clone());
    match args.value("data") {
        Value::Map(map) => data.extend(map.clone()),
        Value::Null => {}
        _ => return Err(CallError::Invocation("data must be a map".to_owned())),
    }
    send_data(cx, &args, data.into())
}

/// Returns everything, or what a name or a list of names picks.
fn chosen(all: &Map, choice: &Value) -> Map {
    let names: Vec<String> = match choice {
        Value::Str(name) => vec![name.clone()],
        Value::List(names) => names.iter().map(plain_text).collect(),
        _ => return all.clone(),
    };
    let mut picked = Map::new();
    for name in names {
        if let Some(value) = all.at(&name).or_else(|| descend(all, &name, ":")) {
            picked.set(&name, value.clone());
        }
    }
    picked
}

/// Sends the load that Salt's minion sends: on the master's bus the whole of it is the event's data.
fn send_data(cx: &ModuleContext, args: &Args, data: Value) -> Result<Outcome, CallError> {
    let tag = tag(args)?;
    let mut load = args.value("preload").as_map().cloned().unwrap_or_default();
    load.set("id", cx.id.as_str());
    load.set("cmd", "_minion_event");
    load.set("pretag", Value::Null);
    load.set("data", data);
    load.set("tag", tag.as_str());
    load.set("ts", SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let wait = wait(args)?;
    match cx.events.send(&tag, load, wait) {
        Ok(()) => Ok(Value::Bool(true).into()),
        Err(error) => {
            // Salt returns False too; the return code makes it a failure that the caller sees.
            warn!(%tag, %error, "failed to send an event");
            Ok(Outcome::with_retcode(false, 1))
        }
    }
}

fn wait(args: &Args) -> Result<Duration, CallError> {
    let Some(seconds) = args.number("timeout")? else {
        return Ok(Duration::from_secs(ACKNOWLEDGEMENT_S.unsigned_abs()));
    };
    let wait = Duration::try_from_secs_f64(seconds);
    wait.map_err(|_| CallError::Invocation(format!("timeout is no time to wait: {seconds}")))
}

fn tag(args: &Args) -> Result<String, CallError> {
    let tag = args.text("tag").filter(|tag| !tag.is_empty());
    tag.ok_or_else(|| CallError::Invocation("the tag is empty".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::{EventSink, NotDone, SendError, find};
    use std::sync::{Arc, Mutex};

    type Sent = (String, Map, Duration);

    /// Notes what arrives, and answers as told.
    struct Notebook {
        master: Mutex<Vec<Sent>>,
        local: Mutex<Vec<(String, Map)>>,
        answer: Result<(), SendError>,
    }

    impl EventSink for Notebook {
        fn send(&self, tag: &str, data: Map, wait: Duration) -> Result<(), SendError> {
            self.master.lock().expect("not poisoned").push((tag.to_owned(), data, wait));
            self.answer.clone()
        }

        fn fire_local(&self, tag: &str, data: Map) -> Result<(), NotDone> {
            self.local.lock().expect("not poisoned").push((tag.to_owned(), data));
            Ok(())
        }
    }

    struct Scene {
        cx: ModuleContext,
        notebook: Arc<Notebook>,
    }

    fn scene(answer: Result<(), SendError>) -> Scene {
        let notebook = Arc::new(Notebook { master: Mutex::default(), local: Mutex::default(), answer });
        let grains = proto::map! { "os" => "Debian", "site" => proto::map! { "dc" => "x" } };
        let mut cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(grains));
        cx.events = Arc::clone(&notebook) as Arc<dyn EventSink>;
        cx.job.publication = proto::map! { "fun" => "event.send", "jid" => "20261120235713399254" };
        Scene { cx, notebook }
    }

    impl Scene {
        fn call(&self, fun: &str, positional: Vec<Value>, keyword: Map) -> Result<Outcome, CallError> {
            find(fun).expect("a function").call(&self.cx, positional, keyword)
        }

        fn sent(&self) -> Sent {
            self.notebook.master.lock().expect("not poisoned").pop().expect("sent")
        }
    }

    #[test]
    fn an_event_has_the_recorded_shape() {
        let scene = scene(Ok(()));
        let args = vec!["myco/viajob".into(), proto::map! { "n" => 1 }.into()];
        assert_eq!(scene.call("event.send", args, Map::new()), Ok(Value::Bool(true).into()));
        let (tag, load, wait) = scene.sent();
        assert_eq!((tag.as_str(), wait), ("myco/viajob", Duration::from_secs(60)));
        let keys: Vec<String> = load.keys().map(Value::to_key).collect();
        assert_eq!(keys, ["id", "cmd", "pretag", "data", "tag", "ts"]);
        let data = proto::map! { "__pub_fun" => "event.send", "__pub_jid" => "20261120235713399254", "n" => 1 };
        assert_eq!(load.at("data"), Some(&data.into()));
    }

    #[test]
    fn keywords_and_chosen_grains_are_added() {
        let scene = scene(Ok(()));
        let keyword = proto::map! { "a" => 1, "with_grains" => vec!["site:dc", "none"] };
        scene.call("event.send", vec!["t".into()], keyword).expect("sent");
        let (_, load, _) = scene.sent();
        let data = load.at("data").expect("data");
        assert_eq!(data.get("grains"), Some(&proto::map! { "site:dc" => "x" }.into()));
        assert_eq!(data.get("a"), Some(&1.into()));
    }

    #[test]
    fn an_event_without_acknowledgement_failed() {
        let scene = scene(Err(SendError::NotAcknowledged));
        let args = vec![proto::map! { "data" => "x" }.into(), "t".into()];
        let outcome = scene.call("event.fire_master", args, proto::map! { "timeout" => 1 });
        assert_eq!(outcome, Ok(Outcome::with_retcode(false, 1)));
        assert_eq!(scene.sent().2, Duration::from_secs(1));
    }

    #[test]
    fn a_local_event_stays_here() {
        let scene = scene(Ok(()));
        let data = proto::map! { "data" => "message" };
        let args = vec![Value::from(data.clone()), "custom/two".into()];
        assert_eq!(scene.call("event.fire", args, Map::new()), Ok(Value::Bool(true).into()));
        assert_eq!(*scene.notebook.local.lock().expect("not poisoned"), [("custom/two".to_owned(), data)]);
        assert!(scene.call("event.fire", vec!["text".into(), "t".into()], Map::new()).is_err());
        assert!(scene.call("event.send", vec!["".into()], Map::new()).is_err());
    }
}
