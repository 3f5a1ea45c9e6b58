//! `sys`: what this minion can run.

use proto::target::glob::Glob;
use proto::value::{Map, MapExt, Value};

use super::args::plain_text;
use super::{Args, CallError, Function, ModuleContext, Outcome, Param, Takes, all};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "sys.argspec",
        doc: "Return the parameters of functions: names, defaults, and whether they take more.

CLI Example:

.. code-block:: bash

    salt '*' sys.argspec test.sleep
    salt '*' sys.argspec test",
        params: &[Param::rest()],
        run: |_, args| Ok(by_name(&args, argspec)),
    },
    Function {
        name: "sys.doc",
        doc: "Return the documentation of functions. Takes modules, functions and globs; all of them if none is given.

CLI Example:

.. code-block:: bash

    salt '*' sys.doc
    salt '*' sys.doc cmd.run
    salt '*' sys.doc 'cmd.run*'",
        params: &[Param::rest()],
        run: |_, args| Ok(by_name(&args, |function| doc(function).into())),
    },
    Function {
        name: "sys.list_functions",
        doc: "Return the names of the functions of modules. Takes modules and globs; all of them if none is given.

CLI Example:

.. code-block:: bash

    salt '*' sys.list_functions
    salt '*' sys.list_functions test
    salt '*' sys.list_functions 'sys.list_*'",
        params: &[Param::rest()],
        run: list_functions,
    },
    Function {
        name: "sys.list_modules",
        doc: "Return the names of the modules. Takes globs; all of them if none is given.

CLI Example:

.. code-block:: bash

    salt '*' sys.list_modules
    salt '*' sys.list_modules 's*'",
        params: &[Param::rest()],
        run: list_modules,
    },
];

/// Returns the functions that the arguments name, alphabetically.
fn chosen(args: &Args) -> Vec<&'static Function> {
    let patterns: Vec<String> = args.rest().iter().map(plain_text).collect();
    let globs: Vec<Glob> = patterns.iter().map(|pattern| Glob::new(pattern)).collect();
    let named = |function: &Function| {
        let exactly = patterns.iter().any(|pattern| pattern.trim_end_matches('.') == function.module());
        patterns.is_empty() || exactly || globs.iter().any(|glob| glob.matches(function.name))
    };
    let mut functions: Vec<&Function> = all().iter().copied().flatten().filter(|function| named(function)).collect();
    functions.sort_by_key(|function| function.name);
    functions
}

fn by_name(args: &Args, show: impl Fn(&Function) -> Value) -> Outcome {
    let mut shown = Map::new();
    for function in chosen(args) {
        shown.set(function.name, show(function));
    }
    // Not `Outcome::from`: a function may be called `success`.
    Outcome { ret: shown.into(), retcode: 0, out: None }
}

/// Returns the documentation without the marks of reStructuredText, as Salt shows it.
fn doc(function: &Function) -> String {
    function.doc_text().replace("    .. code-block:: bash\n\n", "")
}

fn argspec(function: &Function) -> Value {
    let (mut names, mut defaults) = (Vec::new(), Vec::new());
    for param in function.params {
        match param.takes {
            Takes::Optional(fallback) => {
                names.push(Value::from(param.name));
                defaults.push(Value::from(fallback));
            }
            Takes::Required => names.push(param.name.into()),
            Takes::Keywords | Takes::Rest => {}
        }
    }
    let takes = |what| function.params.iter().any(|param| param.takes == what).then_some(true);
    let defaults = if defaults.is_empty() { Value::Null } else { defaults.into() };
    let (varargs, kwargs) = (takes(Takes::Rest), takes(Takes::Keywords));
    proto::map! { "args" => names, "defaults" => defaults, "varargs" => varargs, "kwargs" => kwargs }.into()
}

fn list_functions(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let names: Vec<&str> = chosen(&args).iter().map(|function| function.name).collect();
    Ok(Value::from(names).into())
}

fn list_modules(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let globs: Vec<Glob> = args.rest().iter().map(|pattern| Glob::new(&plain_text(pattern))).collect();
    let names = all().iter().filter_map(|table| table.first()).map(Function::module);
    let named = |name: &&str| globs.is_empty() || globs.iter().any(|glob| glob.matches(name));
    Ok(Value::from(names.filter(named).collect::<Vec<_>>()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::find;
    use std::sync::Arc;

    fn call(fun: &str, args: &[&str]) -> Value {
        let cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()));
        let args = args.iter().map(|arg| Value::from(*arg)).collect();
        find(fun).expect("a function").call(&cx, args, Map::new()).expect("runs").ret
    }

    #[test]
    fn parameters_have_the_recorded_shape() {
        let expected = proto::map! {
            "args" => vec!["length"], "defaults" => Value::Null, "varargs" => Value::Null, "kwargs" => Value::Null,
        };
        assert_eq!(call("sys.argspec", &["test.sleep"]), proto::map! { "test.sleep" => expected }.into());
        let arg = call("sys.argspec", &["test.arg"]);
        assert_eq!(arg.get("test.arg").and_then(|spec| spec.get("varargs")), Some(&true.into()));
    }

    #[test]
    fn functions_are_chosen_by_module_and_glob() {
        assert_eq!(call("sys.list_functions", &["sys.list_*"]), vec!["sys.list_functions", "sys.list_modules"].into());
        let test = call("sys.list_functions", &["test"]);
        assert_eq!(test.as_list().and_then(<[Value]>::first), Some(&"test.arg".into()));
        assert_eq!(call("sys.list_functions", &["nothing"]), Value::List(vec![]));
        assert_eq!(call("sys.list_modules", &["s*l*"]), vec!["saltutil", "slack"].into());
    }

    #[test]
    fn documentation_has_an_example_and_no_marks() {
        let doc = call("sys.doc", &["test.ping"]);
        let text = doc.get("test.ping").and_then(Value::as_str).expect("a text");
        assert!(text.contains("CLI Example:\n\n        salt '*' test.ping"), "{text}");
        assert_eq!(call("sys.doc", &["no.such"]), Map::new().into());
    }
}
