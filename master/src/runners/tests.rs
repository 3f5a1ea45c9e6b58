//! What `runners` promises, tested.

use proto::value::Map;
use tempfile::TempDir;

use super::fake::{self, Asked, FakeDoor, json};
use super::*;
use crate::bus::{EventQuery, Since};
use crate::command::Origin;

struct Rig {
    door: FakeDoor,
    asked: Asked,
    bus: Bus,
    _folder: TempDir,
    _stop: tokio::sync::watch::Sender<bool>,
}

impl Rig {
    fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let (bus, stop) = fake::bus(folder.path());
        let (door, asked) = FakeDoor::new(bus.clone());
        Rig { door, asked, bus, _folder: folder, _stop: stop }
    }

    async fn run(&self, fun: &str, arg: &str, kwarg: &str) -> Result<Value, CommandError> {
        let caller = Caller { user: "root".into(), origin: Origin::Api { uid: 0, pid: None } };
        let (Value::List(arg), Value::Map(kwarg)) = (json(arg), json(kwarg)) else { panic!("a list and a map") };
        run(&self.door, &self.bus, caller, fun, Args { arg, kwarg }, None).await
    }

    async fn check(&self, fun: &str, arg: &str, kwarg: &str, expected: &str) {
        let value = self.run(fun, arg, kwarg).await.unwrap();
        assert_eq!(value.to_json().to_string(), json(expected).to_json().to_string(), "{fun}");
    }
}

#[test]
fn runners_and_functions_are_listed_in_order() {
    assert!(all().is_sorted_by_key(|runner| runner.name));
    for runner in all() {
        assert!(runner.functions.is_sorted_by_key(|function| function.name), "{}", runner.name);
    }
    assert!(find("event.send").is_some());
    assert!(find("event").is_none() && find("event.nosuch").is_none() && find("no.such").is_none());
}

#[tokio::test]
async fn a_run_is_announced_and_ended() {
    let rig = Rig::new();
    rig.check("test.arg", r#"["a"]"#, r#"{"b": 1}"#, r#"{"args": ["a"], "kwargs": {"b": 1}}"#).await;
    let mut events = fake::events(&rig.bus, "salt/run/*");
    let (tag, new) = fake::next(&mut events).await;
    let jid = new.text("jid").unwrap().to_owned();
    assert_eq!(tag, format!("salt/run/{jid}/new"));
    let expected = format!(r#"{{"fun":"runner.test.arg","jid":"{jid}","user":"root","fun_args":["a",{{"b":1}}]"#);
    assert_eq!(Value::Map(new).to_json().to_string(), expected.clone() + "}");
    let (tag, ret) = fake::next(&mut events).await;
    assert_eq!(tag, format!("salt/run/{jid}/ret"));
    let end = r#","return":{"args":["a"],"kwargs":{"b":1}},"success":true}"#;
    assert_eq!(Value::Map(ret).to_json().to_string(), expected + end);
}

#[tokio::test]
async fn an_unknown_runner_is_not_available() {
    let rig = Rig::new();
    let error = rig.run("no.such", "[]", "{}").await.unwrap_err();
    assert_eq!(error, CommandError::NotFound("'no.such' is not available.".into()));
    let (tag, ret) = fake::next(&mut fake::events(&rig.bus, "salt/run/*")).await;
    assert!(tag.ends_with("/ret"));
    assert_eq!(ret.text("return"), Some("'no.such' is not available."));
    assert_eq!((ret.at("success"), ret.at("retcode")), (Some(&false.into()), Some(&254.into())));
    assert_eq!(ret.text("fun"), Some("no.such"));
}

#[tokio::test]
async fn event_send_fires_as_recorded() {
    let mut rig = Rig::new();
    rig.check("event.send", r#"["myco/fromrunner", {"a": 1}]"#, "{}", "true").await;
    let (caller, command) = rig.asked.next().await;
    assert_eq!(caller.user, "root");
    assert_eq!(command, Command::Fire { tag: "myco/fromrunner".into(), data: map! { "a" => 1 } });
    rig.check("event.send", r#"["t"]"#, r#"{"data": {"a": 1}, "b": [2], "__pub_jid": "x"}"#, "true").await;
    let data = map! { "a" => 1, "b" => vec![Value::from(2)] };
    assert_eq!(rig.asked.next().await.1, Command::Fire { tag: "t".into(), data });
    rig.check("event.send", "[]", r#"{"tag": "t"}"#, "true").await;
    assert_eq!(rig.asked.next().await.1, Command::Fire { tag: "t".into(), data: Map::new() });
}

#[tokio::test]
async fn wrong_arguments_are_refused_with_the_usage() {
    let rig = Rig::new();
    let check = async |fun: &str, arg: &str, kwarg: &str, expected: &str| {
        let error = rig.run(fun, arg, kwarg).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("event.send", "[]", "{}", "missing 1 required positional argument: 'tag'; usage: event.send TAG").await;
    check("event.send", r#"["t", "text"]"#, "{}", "data must be a map, not text").await;
    check("event.send", r#"["t", {}, 3]"#, "{}", "takes 2 positional arguments but 3 were given").await;
    check("manage.up", "[]", r#"{"x": 1}"#, "got an unexpected keyword argument 'x'").await;
    check("jobs.list_job", "[[]]", "{}", "'jid' must be text, not list").await;
}

#[tokio::test]
async fn salt_cmd_takes_its_function_by_name() {
    let rig = Rig::new();
    for (arg, kwarg) in [("[]", r#"{"fun": "test.ping"}"#), (r#"["test.ping"]"#, "{}")] {
        // The minion's program is not beside the test's.
        let error = rig.run("salt.cmd", arg, kwarg).await.unwrap_err().to_string();
        assert!(error.contains("test.ping on the master's host"), "{error}");
    }
}

#[tokio::test]
async fn manage_tells_who_is_up() {
    let rig = Rig::new();
    rig.door.answer("minions", Ok(json(r#"[{"id":"m1","up":true},{"id":"m2","up":false},{"id":"m3","up":true}]"#)));
    rig.check("manage.up", "[]", "{}", r#"["m1","m3"]"#).await;
    rig.check("manage.present", "[]", "{}", r#"["m1","m3"]"#).await;
    rig.check("manage.down", "[]", "{}", r#"["m2"]"#).await;
    rig.check("manage.status", "[]", "{}", r#"{"up":["m1","m3"],"down":["m2"]}"#).await;
    rig.door.answer("matching", Ok(json(r#"["m2","m3"]"#)));
    let target = r#"{"tgt": "G@os:Debian", "tgt_type": "compound", "gather_job_timeout": 3}"#;
    rig.check("manage.status", "[]", target, r#"{"up":["m3"],"down":["m2"]}"#).await;
    rig.check("manage.up", "[]", target, r#"["m3"]"#).await;
    rig.check("manage.down", "[]", r#"{"tgt": null}"#, r#"["m2"]"#).await;
}

#[tokio::test]
async fn manage_asks_salt_minions_whose_presence_nobody_knows() {
    let rig = Rig::new();
    let minions = r#"[{"id":"m1","up":false},{"id":"m2","up":true},{"id":"s1","up":null}]"#;
    rig.door.answer("minions", Ok(json(minions)));
    rig.check("manage.present", "[]", "{}", r#"["m2"]"#).await;
    rig.check("manage.status", "[]", r#"{"timeout": 0}"#, r#"{"up":["m2"],"down":["m1","s1"]}"#).await;
    let bus = rig.bus.clone();
    let query = EventQuery { tags: vec!["salt/job/*/new".into()], since: Since::Now, until: None };
    let mut jobs = bus.subscribe(query);
    let answers = tokio::spawn(async move {
        let job = jobs.next().await.unwrap().map().unwrap();
        let tag = Tag::parse(&format!("salt/job/{}/ret/s1", job.text("jid").unwrap())).unwrap();
        bus.fire(tag, &map! { "id" => "s1", "return" => true }).await.unwrap();
    });
    rig.check("manage.up", "[]", r#"{"timeout": 60}"#, r#"["m2","s1"]"#).await;
    answers.await.unwrap();
    let error = rig.run("manage.up", "[]", r#"{"timeout": "long"}"#).await.unwrap_err().to_string();
    assert!(error.contains("timeout must be a number of seconds, not text"), "{error}");
}

const JOB: &str = r#"{"jid":"20261121003232784705","Function":"test.sleep","Arguments":[3],"Target":"*",
    "Target-type":"glob","User":"root","Minions":["m1","m2","m3"],"StartTime":"2026, Nov 21 00:32:32.784705","Result":{
    "m2":{"return":true,"retcode":0,"success":true},"m1":{"return":"no","retcode":1,"success":false}}}"#;

#[tokio::test]
async fn jobs_show_what_came_back() {
    let rig = Rig::new();
    rig.door.answer("job", Ok(json(JOB)));
    let jid = r#"["20261121003232784705"]"#;
    rig.check("jobs.lookup_jid", jid, "{}", r#"{"m2":true,"m1":"no"}"#).await;
    // Without quotes, a jid is a number.
    let mut number = Args { arg: vec![Value::Int(20_261_121_003_232_784_705)], kwarg: Map::new() };
    assert_eq!(number.need_text(0, "jid", "").unwrap(), "20261121003232784705");
    let missing = r#"{"m3":"Minion did not return"}"#;
    rig.check("jobs.lookup_jid", jid, r#"{"missing": true, "returned": false}"#, missing).await;
    rig.check("jobs.list_job", jid, "{}", JOB).await;
    rig.check("jobs.exit_success", jid, "{}", r#"{"m1":false,"m2":true,"m3":false}"#).await;
    let printed = JOB.replace(r#""jid":"20261121003232784705","#, "");
    rig.check("jobs.print_job", jid, "{}", &format!(r#"{{"20261121003232784705":{printed}}}"#)).await;
}

#[tokio::test]
async fn an_unknown_job_has_no_returns() {
    let rig = Rig::new();
    rig.door.answer("job", Err(CommandError::NotFound("there is no job".into())));
    rig.check("jobs.lookup_jid", r#"["20200101000000000000"]"#, "{}", "{}").await;
    let shown = r#"{"jid":"20200101000000000000","Error":"Cannot contact returner or no job with this jid",
        "StartTime":"2020, Jan 01 00:00:00.000000","Result":{}}"#;
    rig.check("jobs.list_job", r#"["20200101000000000000"]"#, "{}", shown).await;
}

#[tokio::test]
async fn jobs_are_searched_by_function_and_target() {
    let rig = Rig::new();
    let jobs = r#"{"1":{"Function":"test.ping","Target":["m3","m1"]},"2":{"Function":"cmd.run","Target":"m*"}}"#;
    rig.door.answer("jobs", Ok(json(jobs)));
    let check = async |kwarg: &str, expected: &[&str]| {
        let found = rig.run("jobs.list_jobs", "[]", kwarg).await.unwrap();
        let found: Vec<String> = found.as_map().unwrap().keys().map(Value::to_key).collect();
        assert_eq!(found, expected, "{kwarg}");
    };
    check("{}", &["1", "2"]).await;
    check(r#"{"search_target": "m1"}"#, &["1"]).await;
    check(r#"{"search_function": "test.*,cmd.run"}"#, &["1", "2"]).await;
    check(r#"{"search_function": ["cmd.*"], "search_target": "m1"}"#, &[]).await;
}

#[tokio::test]
async fn a_device_gets_its_function_as_a_job() {
    let mut rig = Rig::new();
    let kwarg = r#"{"tgt":"router1","function":"net.load_template","template_name":"salt://t.jinja","events":true}"#;
    rig.run("proxy.execute", "[]", kwarg).await.unwrap();
    let (_, Command::Publish(job)) = rig.asked.next().await else { panic!("a job") };
    assert_eq!(
        (job.target.tgt, job.target.tgt_type.as_str(), job.fun),
        ("router1".into(), "glob", "net.load_template".into())
    );
    assert_eq!(Value::List(job.arg), json(r#"[{"__kwarg__":true,"template_name":"salt://t.jinja"}]"#));
    rig.check("proxy.execute", r#"["router1"]"#, "{}", r#""Please specify a Salt function to execute.""#).await;
    rig.run("salt.execute", r#"["m1","test.arg",[1]]"#, r#"{"kwarg":{"a":2}}"#).await.unwrap();
    let (_, Command::Publish(job)) = rig.asked.next().await else { panic!("a job") };
    assert_eq!(Value::List(job.arg), json(r#"[1,{"__kwarg__":true,"a":2}]"#));
}
