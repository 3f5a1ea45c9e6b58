//! One job as the minion sees it: the publication, parsed once.

use proto::value::{Map, MapExt, Value};
use thiserror::Error;

/// Fields of the native wire's publications that are no part of the job.
const WIRE_FIELDS: [&str; 3] = ["cmd", "serial", "expires"];

/// A job to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The job's id.
    pub jid: String,
    /// Who published it; empty if the publication does not say.
    pub user: String,
    /// The calls it makes.
    pub calls: Calls,
    /// The publication's fields as published, in order.
    pub load: Map,
}

/// The calls of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Calls {
    /// Several functions, each under its name in the return (`fun` is a list).
    Many(Vec<Call>),
    /// One function.
    One(Call),
}

/// One call: a function's name and its arguments as published.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function.
    pub fun: String,
    /// Its arguments; a map with `__kwarg__: true` holds keyword arguments.
    pub arg: Vec<Value>,
}

/// Why a publication is no job.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JobError {
    /// A field is missing or has another type than it must have.
    #[error("read the field '{0}' of a publication")]
    Field(&'static str),
}

impl Job {
    /// Reads a publication, native or Salt's.
    pub fn from_publication(publication: &Map) -> Result<Job, JobError> {
        let jid = publication.text("jid").filter(|jid| !jid.is_empty()).ok_or(JobError::Field("jid"))?;
        let user = publication.text("user").unwrap_or_default();
        let calls = Calls::read(publication)?;
        let mut load = publication.clone();
        load.retain(|key, _| !key.as_str().is_some_and(|key| WIRE_FIELDS.contains(&key)));
        Ok(Job { jid: jid.to_owned(), user: user.to_owned(), calls, load })
    }

    /// Returns `fun` as published: a name, or a list of names.
    pub fn fun(&self) -> Value {
        match &self.calls {
            Calls::Many(calls) => calls.iter().map(|call| call.fun.as_str()).collect::<Vec<_>>().into(),
            Calls::One(call) => call.fun.as_str().into(),
        }
    }

    /// Returns `fun_args`: the arguments as published.
    pub fn fun_args(&self) -> Value {
        match &self.calls {
            Calls::Many(calls) => calls.iter().map(|call| Value::List(call.arg.clone())).collect::<Vec<_>>().into(),
            Calls::One(call) => call.arg.clone().into(),
        }
    }

    /// Tells whether this job only asks about or acts on other jobs: such jobs never wait behind them.
    pub fn is_control(&self) -> bool {
        let control = |call: &Call| call.fun.starts_with("saltutil.");
        match &self.calls {
            Calls::Many(calls) => calls.iter().all(control),
            Calls::One(call) => control(call),
        }
    }

    /// Returns what functions get as `__pub_<field>`, and what `saltutil.running` shows beside the pid: the publication,
    /// and what Salt 3008 adds to it about resources, of which a Halite minion has none.
    pub fn publication(&self) -> Map {
        let mut publication = self.load.clone();
        for (field, value) in [
            ("resource_targets", Value::List(Vec::new())),
            ("pure_resource_target", Value::Bool(false)),
            ("minion_is_target", Value::Bool(true)),
        ] {
            if publication.at(field).is_none() {
                publication.set(field, value);
            }
        }
        publication
    }
}

impl Calls {
    fn read(publication: &Map) -> Result<Calls, JobError> {
        let empty = Value::List(Vec::new());
        let arg = publication.at("arg").unwrap_or(&empty).as_list().ok_or(JobError::Field("arg"))?;
        match publication.at("fun") {
            Some(Value::Str(fun)) => Ok(Calls::One(Call { fun: fun.clone(), arg: arg.to_vec() })),
            Some(Value::List(funs)) if !funs.is_empty() => {
                let mut calls = Vec::new();
                for (index, fun) in funs.iter().enumerate() {
                    let fun = fun.as_str().ok_or(JobError::Field("fun"))?.to_owned();
                    let arg = match arg.get(index) {
                        None | Some(Value::Null) => Vec::new(),
                        Some(Value::List(items)) => items.clone(),
                        Some(one) => vec![one.clone()],
                    };
                    calls.push(Call { fun, arg });
                }
                Ok(Calls::Many(calls))
            }
            _ => Err(JobError::Field("fun")),
        }
    }
}

impl Call {
    /// Parts the arguments into positional and keyword ones.
    pub fn split(&self) -> (Vec<Value>, Map) {
        let (mut positional, mut keyword) = (Vec::new(), Map::new());
        for arg in &self.arg {
            match arg {
                Value::Map(map) if map.at("__kwarg__").is_some_and(Value::is_truthy) => {
                    keyword.extend(map.iter().map(|(key, value)| (key.clone(), value.clone())));
                }
                other => positional.push(other.clone()),
            }
        }
        keyword.take("__kwarg__");
        (positional, keyword)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::map;

    #[test]
    fn keyword_arguments_are_parted_from_the_others() {
        let arg = vec![Value::from(1), map! { "__kwarg__" => true, "k" => "v" }.into(), map! { "plain" => 1 }.into()];
        let job =
            Job::from_publication(&map! { "jid" => "1", "fun" => "test.arg", "arg" => arg.clone() }).expect("a job");
        assert_eq!(job.fun_args(), Value::List(arg));
        let Calls::One(call) = &job.calls else { panic!("one call") };
        assert_eq!(call.split(), (vec![Value::from(1), map! { "plain" => 1 }.into()], map! { "k" => "v" }));
    }

    #[test]
    fn several_functions_have_their_own_arguments() {
        let publication = map! {
            "jid" => "1", "fun" => vec!["test.ping", "test.echo"],
            "arg" => vec![Value::List(vec![]), Value::from(vec!["hello"])],
        };
        let job = Job::from_publication(&publication).expect("a job");
        assert_eq!(job.fun(), Value::from(vec!["test.ping", "test.echo"]));
        assert_eq!(job.fun_args(), Value::List(vec![Value::List(vec![]), Value::from(vec!["hello"])]));
    }

    #[test]
    fn what_is_no_job_is_refused() {
        let check = |publication: Map, field| {
            assert_eq!(Job::from_publication(&publication), Err(JobError::Field(field)));
        };
        check(map! { "fun" => "test.ping" }, "jid");
        check(map! { "jid" => "1" }, "fun");
        check(map! { "jid" => "1", "fun" => "test.ping", "arg" => "x" }, "arg");
        check(map! { "jid" => "1", "fun" => vec![1] }, "fun");
    }

    #[test]
    fn the_publication_is_shown_as_published_without_the_wire() {
        let publication = map! { "cmd" => "publish", "serial" => 7, "fun" => "test.ping", "jid" => "1", "ret" => "" };
        let keys: Vec<String> =
            Job::from_publication(&publication).expect("a job").publication().keys().map(Value::to_key).collect();
        assert_eq!(keys, ["fun", "jid", "ret", "resource_targets", "pure_resource_target", "minion_is_target"]);
    }
}
