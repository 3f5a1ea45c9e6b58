//! A door for tests: notes what it is asked, and answers as it is told.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use proto::ids::{Jid, MinionId};
use proto::tag::Tag;
use proto::value::{Map, Value};
use tokio::sync::{mpsc, watch};

use super::{Answer, Args, Ask};
use crate::bus::{Bus, BusConfig, EventQuery, Since, Subscription};
use crate::command::{Caller, Command, CommandError, KeyFingers, KeyLists, Published, Reply};

/// How many commands a test may leave unread.
const ASKED: usize = 10_000;

/// The door. Answers of commands can be set by the command's name (`minions`).
#[derive(Clone)]
pub(crate) struct FakeDoor {
    asked: mpsc::Sender<(Caller, Command)>,
    bus: Bus,
    next_jid: Arc<AtomicI64>,
    published: Arc<Mutex<HashMap<Jid, Caller>>>,
    /// What is answered to `JobShow`, `JobsList`, `Minions`…
    pub(crate) answers: Arc<Mutex<HashMap<&'static str, Result<Value, CommandError>>>>,
    /// While false, nothing is answered at all.
    pub(crate) open: watch::Sender<bool>,
}

/// What the door was asked, in order.
pub(crate) struct Asked(mpsc::Receiver<(Caller, Command)>);

impl Asked {
    pub(crate) async fn next(&mut self) -> (Caller, Command) {
        self.0.recv().await.unwrap()
    }

    /// Returns what was asked and not read yet.
    pub(crate) fn rest(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.0.try_recv().ok().map(|(_, command)| command)).collect()
    }
}

impl FakeDoor {
    pub(crate) fn new(bus: Bus) -> (FakeDoor, Asked) {
        let (asked, inbox) = mpsc::channel(ASKED);
        let next_jid = Arc::new(AtomicI64::new(1_795_220_912_000_000));
        let answers = Arc::default();
        (
            FakeDoor { asked, bus, next_jid, published: Arc::default(), answers, open: watch::channel(true).0 },
            Asked(inbox),
        )
    }

    pub(crate) fn answer(&self, what: &'static str, answer: Result<Value, CommandError>) {
        self.answers.lock().unwrap().insert(what, answer);
    }

    fn reply(&self, what: &'static str) -> Result<Reply, CommandError> {
        let answer = self.answers.lock().unwrap().get(what).cloned();
        answer.unwrap_or(Ok(Value::Null)).map(Reply::Value)
    }

    /// Knows `m1` and `m2`, both accepted.
    fn keys(&self, what: &str) -> Result<Reply, CommandError> {
        let [m1, m2] = ["m1", "m2"].map(|id| MinionId::parse(id).unwrap());
        Ok(match what {
            "fingers" => {
                Reply::KeyFingers(KeyFingers { local: Vec::new(), keys: vec![("minions", m1, "88:cf".to_owned())] })
            }
            _ => Reply::Keys(KeyLists { accepted: vec![m1, m2], ..KeyLists::default() }),
        })
    }

    async fn publish(
        &self,
        caller: Caller,
        jid: Jid,
        fun: Value,
        minions: Vec<MinionId>,
    ) -> Result<Reply, CommandError> {
        // Being busy passes; any other answer stays.
        if let Err(error) = self.reply("publish") {
            if matches!(error, CommandError::Busy(_)) {
                self.answers.lock().unwrap().remove("publish");
            }
            return Err(error);
        }
        let first = self.published.lock().unwrap().insert(jid.clone(), caller.clone()).is_none();
        if first {
            let new = proto::map! { "jid" => &jid, "user" => caller.user.as_str(), "fun" => fun };
            self.bus.fire(Tag::job_new(&jid), &new).await.unwrap();
        }
        let published = Published { minions, offset: self.bus.head(), ..Published::before(jid) };
        Ok(Reply::Published(published))
    }
}

impl Ask for FakeDoor {
    fn ask(&self, caller: Caller, command: Command) -> Answer<'_, Reply> {
        Box::pin(async move {
            self.asked.try_send((caller.clone(), command.clone())).unwrap();
            self.open.subscribe().wait_for(|open| *open).await.unwrap();
            match command {
                Command::Fire { tag, data } => {
                    self.bus.fire(Tag::parse(&tag).unwrap(), &data).await.unwrap();
                    Ok(Reply::Done)
                }
                Command::Events(query) => Ok(Reply::Events(Box::new(self.bus.subscribe(query)))),
                Command::Grains(_) => self.reply("grains"),
                Command::Matching(_) => self.reply("matching"),
                Command::JobShow(_) => self.reply("job"),
                Command::JobsActive => self.reply("active"),
                Command::JobsList(_) => self.reply("jobs"),
                Command::Minions => self.reply("minions"),
                Command::Publish(request) => {
                    let jid = match request.jid {
                        Some(jid) => jid,
                        None => self.new_jid().await?,
                    };
                    // The ids of a list are all accepted.
                    let ids = request.target.tgt.as_list().unwrap_or_default().iter();
                    let minions = ids.filter_map(|id| MinionId::parse(id.as_str()?).ok()).collect();
                    self.publish(caller, jid, request.fun, minions).await
                }
                Command::KeyFinger(_) => self.keys("fingers"),
                Command::KeyList => self.keys("keys"),
                Command::ReactorList => self.reply("reactor"),
                Command::Status => self.reply("status"),
                Command::Run { fun, arg, kwarg, jid } => {
                    super::run(self, &self.bus, caller, &fun, Args { arg, kwarg }, jid).await.map(Reply::Value)
                }
                Command::Wheel { fun, arg, kwarg, jid } => {
                    crate::wheel::run(self, &self.bus, caller, &fun, Args { arg, kwarg }, jid).await.map(Reply::Value)
                }
                _ => Ok(Reply::Done),
            }
        })
    }

    fn new_jid(&self) -> Answer<'_, Jid> {
        Box::pin(async move { Ok(Jid::at(self.next_jid.fetch_add(1, Ordering::Relaxed))) })
    }
}

/// Starts a bus under a folder. It commits until the test's runtime ends or the sender says stop.
pub(crate) fn bus(folder: &Path) -> (Bus, watch::Sender<bool>) {
    let (bus, task) = Bus::open(BusConfig::new(folder.join("events"))).unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(task.run(stopped));
    (bus, stop)
}

/// Subscribes to the tags of a glob, from the first event on.
pub(crate) fn events(bus: &Bus, tag: &str) -> Subscription {
    bus.subscribe(EventQuery { tags: vec![tag.to_owned()], since: Since::Start, until: None })
}

/// Returns the next event's tag and data, without `_stamp`.
pub(crate) async fn next(events: &mut Subscription) -> (String, Map) {
    use proto::value::MapExt;
    let event = events.next().await.unwrap();
    let mut data = event.map().unwrap();
    data.take("_stamp");
    (event.tag.as_str().to_owned(), data)
}

/// Reads a value that is written as JSON.
pub(crate) fn json(text: &str) -> Value {
    Value::from_json(&serde_json::from_str(text).unwrap())
}
