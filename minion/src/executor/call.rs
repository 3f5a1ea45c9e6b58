//! Calls functions: the one way to run them, for jobs and for `halite-minion call`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proto::value::{Map, Value};
use tracing::{error, warn};

use super::job::{Call, Calls};
use super::ret::Done;
use crate::modules::{self, CallError, Function, ModuleContext, Outcome};

/// Runs the calls of a job, one after the other, and gathers what they give.
pub(super) fn run(cx: &ModuleContext, calls: &Calls) -> Done {
    let calls = match calls {
        Calls::One(one) => return call(cx, &one.fun, &one.arg),
        Calls::Many(calls) => calls,
    };
    let (mut ret, mut retcode, mut success) = (Map::new(), Map::new(), Map::new());
    for one in calls {
        // A killed job starts none of its further functions.
        let done = match cx.stopped() {
            Some(stop) => Done::failed(stop.to_string(), stop.retcode()),
            None => call(cx, &one.fun, &one.arg),
        };
        let fun = Value::from(one.fun.as_str());
        ret.insert(fun.clone(), done.ret);
        retcode.insert(fun.clone(), done.retcode);
        success.insert(fun, done.success);
    }
    Done { ret: ret.into(), retcode: retcode.into(), success: success.into(), out: None }
}

/// Runs one function by name with its arguments as a publication has them (`__kwarg__` maps are keyword arguments).
/// Blocks as long as the function does; panics in it become a failed result.
pub fn call(cx: &ModuleContext, fun: &str, arg: &[Value]) -> Done {
    let Some(function) = modules::find(fun).filter(|function| !is_disabled(cx, function)) else {
        return Done::failed(format!("'{fun}' is not available."), 1);
    };
    let (positional, keyword) = Call { fun: fun.to_owned(), arg: arg.to_vec() }.split();
    match catch_unwind(AssertUnwindSafe(|| function.call(cx, positional, keyword))) {
        Ok(Ok(Outcome { ret, retcode, out })) => Done::with_retcode(ret, retcode, out.map(str::to_owned)),
        Ok(Err(refusal)) => {
            log_refusal(function, &refusal);
            Done::failed(refusal.text(function), refusal.retcode())
        }
        Err(panic) => {
            let message = panic_text(panic.as_ref());
            error!(fun, message, "function panicked");
            Done::failed(format!("The minion function caused an exception: panic: {message}"), 1)
        }
    }
}

/// Tells whether the configuration takes this function's module away (`disable_modules`).
fn is_disabled(cx: &ModuleContext, function: &Function) -> bool {
    let disabled = cx.configured("disable_modules").and_then(Value::as_list).unwrap_or_default();
    disabled.iter().any(|module| module.as_str() == Some(function.module()))
}

fn log_refusal(function: &Function, refusal: &CallError) {
    let fun = function.name;
    match refusal {
        CallError::Stopped(stop) => warn!(fun, %stop, "job stopped"),
        // The reason may quote arguments, and so secrets: it is for whoever called.
        _ => warn!(fun, "function failed"),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::map;
    use std::sync::Arc;

    fn context(config: Map) -> ModuleContext {
        ModuleContext::offline("m1", Arc::new(config), Arc::new(Map::new()))
    }

    #[test]
    fn a_missing_function_is_not_available() {
        let done = call(&context(Map::new()), "no.such_function", &[]);
        assert_eq!(done, Done::failed("'no.such_function' is not available.".to_owned(), 1));
    }

    #[test]
    fn a_disabled_module_is_not_available() {
        let config = map! { "disable_modules" => vec!["cmd"] };
        let done = call(&context(config), "cmd.run", &[Value::from("true")]);
        assert_eq!(done.ret, Value::from("'cmd.run' is not available."));
    }

    #[test]
    fn several_functions_return_by_name() {
        let calls = Calls::Many(vec![
            Call { fun: "test.ping".to_owned(), arg: vec![] },
            Call { fun: "test.echo".to_owned(), arg: vec!["hello".into()] },
            Call { fun: "no.such".to_owned(), arg: vec![] },
        ]);
        let done = run(&context(Map::new()), &calls);
        let missing = "'no.such' is not available.";
        assert_eq!(done.ret, map! { "test.ping" => true, "test.echo" => "hello", "no.such" => missing }.into());
        assert_eq!(done.retcode, map! { "test.ping" => 0, "test.echo" => 0, "no.such" => 1 }.into());
        assert_eq!(done.success, map! { "test.ping" => true, "test.echo" => true, "no.such" => false }.into());
    }

    #[test]
    fn bad_arguments_are_told_with_the_documentation() {
        let done = call(&context(Map::new()), "test.sleep", &[]);
        let expected = "Passed invalid arguments to test.sleep: sleep() missing 1 required positional argument: 'length'\n\n    Instruct the minion to initiate a process that will sleep for a given\n    period of time.\n\n    CLI Example:\n\n    .. code-block:: bash\n\n        salt '*' test.sleep 20\n    ";
        assert_eq!((done.ret, done.retcode), (Value::from(expected), Value::from(1)));
    }

    #[test]
    fn a_killed_job_starts_no_further_function() {
        let cx = context(Map::new());
        cx.control.signal(9);
        let done = run(&cx, &Calls::Many(vec![Call { fun: "test.ping".to_owned(), arg: vec![] }]));
        assert_eq!(done.retcode, map! { "test.ping" => 137 }.into());
    }

    #[test]
    fn a_panic_is_a_failed_result() {
        let panic = catch_unwind(|| panic!("number {}", 7)).expect_err("panics");
        assert_eq!(panic_text(panic.as_ref()), "number 7");
    }
}
