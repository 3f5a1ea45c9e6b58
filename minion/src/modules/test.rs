//! `test`: harmless functions that show a minion answers, and how.

use std::time::Duration;

use proto::value::{Map, Value};

use super::args::{plain_text, python_repr};
use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};

/// The Salt release whose behaviour this minion shows.
const SALT_VERSION: &str = "3008.5";
/// The longest `test.fib` computes; beyond it numbers stop fitting.
const MAX_FIB: i64 = 180;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "test.arg",
        doc: "Return the arguments and keyword arguments as they arrived.

CLI Example:

.. code-block:: bash

    salt '*' test.arg 1 two 3.1 txt=\"hello\" wow='{a: 1}'",
        params: &[Param::rest(), Param::keywords()],
        run: arg,
    },
    Function {
        name: "test.arg_repr",
        doc: "Return the arguments and keyword arguments as Python would print them.

CLI Example:

.. code-block:: bash

    salt '*' test.arg_repr 1 two 3.1 txt=\"hello\"",
        params: &[Param::rest(), Param::keywords()],
        run: arg_repr,
    },
    Function {
        name: "test.echo",
        doc: "Return the given text.

CLI Example:

.. code-block:: bash

    salt '*' test.echo 'foo bar baz quo qux'",
        params: &[Param::required("text")],
        run: |_, args| Ok(args.value("text").clone().into()),
    },
    Function {
        name: "test.exception",
        doc: "Raise an exception with the given message.

CLI Example:

.. code-block:: bash

    salt '*' test.exception 'Oh noes!'",
        params: &[Param::optional("message", Fallback::Text("Test Exception"))],
        run: exception,
    },
    Function {
        name: "test.false",
        doc: "Always return False.

CLI Example:

.. code-block:: bash

    salt '*' test.false",
        params: &[],
        run: |_, _| Ok(Value::Bool(false).into()),
    },
    Function {
        name: "test.fib",
        doc: "Return a Fibonacci number and the seconds it took to compute it.

CLI Example:

.. code-block:: bash

    salt '*' test.fib 3",
        params: &[Param::required("num")],
        run: fib,
    },
    Function {
        name: "test.kwarg",
        doc: "Return the keyword arguments as they arrived.

CLI Example:

.. code-block:: bash

    salt '*' test.kwarg num=1 txt=\"two\" env='{a: 1, b: \"hello\"}'",
        params: &[Param::keywords()],
        run: |_, args| Ok(Value::Map(args.extra().clone()).into()),
    },
    Function {
        name: "test.outputter",
        doc: "Return the given data, to be shown by the text outputter.

CLI Example:

.. code-block:: bash

    salt '*' test.outputter foobar",
        params: &[Param::required("data")],
        run: |_, args| Ok(Outcome::shown_by(args.value("data").clone(), "txt")),
    },
    Function {
        name: "test.ping",
        doc: "Return True: the minion is there and runs jobs. No ICMP is sent.

CLI Example:

.. code-block:: bash

    salt '*' test.ping",
        params: &[],
        run: |_, _| Ok(Value::Bool(true).into()),
    },
    Function {
        name: "test.retcode",
        doc: "Return True with the given return code.

CLI Example:

.. code-block:: bash

    salt '*' test.retcode 42",
        params: &[Param::optional("code", Fallback::Int(42))],
        run: |_, args| Ok(Outcome::with_retcode(true, args.integer("code")?)),
    },
    Function {
        name: "test.sleep",
        doc: "Instruct the minion to initiate a process that will sleep for a given
period of time.

CLI Example:

.. code-block:: bash

    salt '*' test.sleep 20",
        params: &[Param::required("length")],
        run: sleep,
    },
    Function {
        name: "test.true",
        doc: "Always return True.

CLI Example:

.. code-block:: bash

    salt '*' test.true",
        params: &[],
        run: |_, _| Ok(Value::Bool(true).into()),
    },
    Function {
        name: "test.version",
        doc: "Return the version of this minion.

CLI Example:

.. code-block:: bash

    salt '*' test.version",
        params: &[],
        run: |_, _| Ok(Value::from(env!("CARGO_PKG_VERSION")).into()),
    },
    Function {
        name: "test.versions",
        doc: "Return the version of this minion, and the release of Salt that it is compatible with.

CLI Example:

.. code-block:: bash

    salt '*' test.versions",
        params: &[],
        run: versions,
    },
];

fn arg(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let ret = proto::map! { "args" => args.rest().to_vec(), "kwargs" => args.extra().clone() };
    Ok(Value::Map(ret).into())
}

fn arg_repr(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let items: Vec<String> = args.rest().iter().map(python_repr).collect();
    let tuple = match items.as_slice() {
        [one] => format!("({one},)"),
        items => format!("({})", items.join(", ")),
    };
    let kwargs = python_repr(&Value::Map(args.extra().clone()));
    Ok(Value::Map(proto::map! { "args" => tuple, "kwargs" => kwargs }).into())
}

fn exception(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    Err(CallError::Exception { kind: "Exception", message: plain_text(args.value("message")) })
}

fn fib(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (begin, number) = (std::time::Instant::now(), args.integer("num")?);
    if !(0..=MAX_FIB).contains(&number) {
        return Err(CallError::Invocation(format!("num must be between 0 and {MAX_FIB}")));
    }
    let (last, _) = (0..number).fold((0_i128, 1_i128), |(a, b), _| (b, a + b));
    Ok(Value::List(vec![last.into(), begin.elapsed().as_secs_f64().into()]).into())
}

fn sleep(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let length = u64::try_from(args.integer("length")?).map_err(|_| CallError::Exception {
        kind: "ValueError",
        message: "sleep length must be non-negative".to_owned(),
    })?;
    cx.pause(Duration::from_secs(length))?;
    Ok(Value::Bool(true).into())
}

fn versions(_: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    let ret: Map = proto::map! { "halite" => env!("CARGO_PKG_VERSION"), "salt" => SALT_VERSION };
    Ok(Value::Map(ret).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::{Stop, find};
    use std::sync::Arc;
    use std::time::Instant;

    fn context() -> ModuleContext {
        ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()))
    }

    fn call(fun: &str, positional: Vec<Value>) -> Result<Outcome, CallError> {
        find(fun).expect("a function").call(&context(), positional, Map::new())
    }

    #[test]
    fn arguments_come_back() {
        let args = vec![Value::from(1), "two".into()];
        let expected = proto::map! { "args" => args.clone(), "kwargs" => Map::new() };
        assert_eq!(call("test.arg", args), Ok(Value::Map(expected).into()));
        let args = vec![1.into(), "1".into(), "2024-01-02".into(), 16.into(), true.into()];
        let expected = proto::map! { "args" => "(1, '1', '2024-01-02', 16, True)", "kwargs" => "{}" };
        assert_eq!(call("test.arg_repr", args), Ok(Value::Map(expected).into()));
    }

    #[test]
    fn an_exception_is_raised() {
        let error = call("test.exception", vec!["boom".into()]).expect_err("raises");
        let text = error.text(find("test.exception").expect("a function"));
        assert_eq!(text, "The minion function caused an exception: Exception: boom");
    }

    #[test]
    fn a_return_code_is_kept() {
        assert_eq!(call("test.retcode", vec![7.into()]), Ok(Outcome::with_retcode(true, 7)));
        assert_eq!(call("test.fib", vec![5.into()]).expect("a number").ret.as_list().expect("a pair")[0], 5.into());
    }

    #[test]
    fn a_killed_sleep_ends_at_once() {
        let (cx, begin) = (context(), Instant::now());
        cx.control.signal(9);
        let outcome = find("test.sleep").expect("a function").call(&cx, vec![600.into()], Map::new());
        assert_eq!(outcome, Err(CallError::Stopped(Stop::Signal(9))));
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_bad_length_is_an_exception() {
        let error = call("test.sleep", vec!["abc".into()]).expect_err("no number");
        assert_eq!(error.to_string(), "ValueError: invalid literal for int() with base 10: 'abc'");
        assert!(call("test.sleep", vec![Value::from(-1)]).is_err());
    }
}
