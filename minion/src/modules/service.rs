//! `service`: the services of this host, over systemd, OpenRC or sysv scripts, whichever runs.

use std::time::Duration;

use proto::target::glob::Glob;
use proto::value::{Map, MapExt, Value};

use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};

mod manager;

use manager::{Action, AtBoot, Manager};

/// How long a service may take to start or stop.
const ACTION_LIMIT: Duration = Duration::from_secs(300);
/// How long a question may take.
const QUERY_LIMIT: Duration = Duration::from_secs(30);

/// Writes one function of the table.
const fn function(
    name: &'static str,
    doc: &'static str,
    params: &'static [Param],
    run: fn(&ModuleContext, Args) -> Result<Outcome, CallError>,
) -> Function {
    Function { name, doc, params, run }
}

const NAME: &[Param] = &[Param::required("name")];
const NAME_AND_MORE: &[Param] = &[Param::required("name"), Param::keywords()];

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        "service.available",
        "Tell whether a service is there.

CLI Example:

.. code-block:: bash

    salt '*' service.available sshd",
        NAME,
        |cx, args| ask(cx, &args, |_, name, names| Ok(names.contains(name))),
    ),
    function(
        "service.disable",
        "Let a service not start at boot.

CLI Example:

.. code-block:: bash

    salt '*' service.disable <service name>",
        NAME_AND_MORE,
        |cx, args| act(cx, &args, Action::Disable),
    ),
    function(
        "service.disabled",
        "Tell whether a service does not start at boot.

CLI Example:

.. code-block:: bash

    salt '*' service.disabled <service name>",
        NAME_AND_MORE,
        |cx, args| ask(cx, &args, |manager, name, _| manager.enabled(cx, name).map(|enabled| !enabled)),
    ),
    function(
        "service.enable",
        "Let a service start at boot.

CLI Example:

.. code-block:: bash

    salt '*' service.enable <service name>",
        NAME_AND_MORE,
        |cx, args| act(cx, &args, Action::Enable),
    ),
    function(
        "service.enabled",
        "Tell whether a service starts at boot.

CLI Example:

.. code-block:: bash

    salt '*' service.enabled <service name>",
        NAME_AND_MORE,
        |cx, args| ask(cx, &args, |manager, name, _| manager.enabled(cx, name)),
    ),
    function(
        "service.get_all",
        "Return the names of all services.

CLI Example:

.. code-block:: bash

    salt '*' service.get_all",
        &[],
        |cx, _| Ok(Value::from(Manager::of_this_host()?.all(cx)?).into()),
    ),
    function(
        "service.get_disabled",
        "Return the names of the services that do not start at boot.

CLI Example:

.. code-block:: bash

    salt '*' service.get_disabled",
        &[],
        |cx, _| Ok(Value::from(Manager::of_this_host()?.at_boot(cx, AtBoot::Stays)?).into()),
    ),
    function(
        "service.get_enabled",
        "Return the names of the services that start at boot.

CLI Example:

.. code-block:: bash

    salt '*' service.get_enabled",
        &[],
        |cx, _| Ok(Value::from(Manager::of_this_host()?.at_boot(cx, AtBoot::Starts)?).into()),
    ),
    function(
        "service.missing",
        "Tell whether a service is not there.

CLI Example:

.. code-block:: bash

    salt '*' service.missing sshd",
        NAME,
        |cx, args| ask(cx, &args, |_, name, names| Ok(!names.contains(name))),
    ),
    function(
        "service.reload",
        "Let a service read its configuration again.

CLI Example:

.. code-block:: bash

    salt '*' service.reload <service name>",
        NAME_AND_MORE,
        |cx, args| act(cx, &args, Action::Reload),
    ),
    function(
        "service.restart",
        "Stop a service and start it again.

CLI Example:

.. code-block:: bash

    salt '*' service.restart <service name>",
        NAME_AND_MORE,
        |cx, args| act(cx, &args, Action::Restart),
    ),
    function(
        "service.start",
        "Start a service.

CLI Example:

.. code-block:: bash

    salt '*' service.start <service name>",
        NAME_AND_MORE,
        |cx, args| act(cx, &args, Action::Start),
    ),
    function(
        "service.status",
        "Tell whether a service runs; of a glob, a map that tells it of each service.

CLI Example:

.. code-block:: bash

    salt '*' service.status <service name>
    salt '*' service.status 'ssh*'",
        &[Param::required("name"), Param::optional("sig", Fallback::None), Param::keywords()],
        status,
    ),
    function(
        "service.stop",
        "Stop a service.

CLI Example:

.. code-block:: bash

    salt '*' service.stop <service name>",
        NAME_AND_MORE,
        |cx, args| act(cx, &args, Action::Stop),
    ),
];

/// Reads the service's name: nothing that is a path, or that a program could take for an option.
fn name(args: &Args) -> Result<String, CallError> {
    let name = args.text("name").unwrap_or_default();
    let is_good = |letter: char| letter.is_alphanumeric() || "@_.:-\\+".contains(letter);
    match !name.is_empty() && !name.starts_with(['-', '.']) && name.chars().all(is_good) {
        true => Ok(name),
        false => Err(CallError::Invocation(format!("'{}' is no name of a service", name.escape_debug()))),
    }
}

fn act(cx: &ModuleContext, args: &Args, action: Action) -> Result<Outcome, CallError> {
    Manager::of_this_host()?.act(cx, &name(args)?, action)?;
    Ok(Value::Bool(true).into())
}

fn ask(
    cx: &ModuleContext,
    args: &Args,
    answer: impl Fn(&Manager, &String, &[String]) -> Result<bool, CallError>,
) -> Result<Outcome, CallError> {
    let (manager, name) = (Manager::of_this_host()?, name(args)?);
    let short = name.strip_suffix(".service").map_or_else(|| name.clone(), str::to_owned);
    Ok(Value::Bool(answer(&manager, &short, &manager.all(cx)?)?).into())
}

fn status(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (manager, pattern) = (Manager::of_this_host()?, args.text("name").unwrap_or_default());
    if args.flag("sig") {
        return Err(CallError::Invocation("the option 'sig' is not supported by this minion: see ps.pgrep".to_owned()));
    }
    if !pattern.contains(['*', '?', '[']) {
        return Ok(Value::Bool(manager.running(cx, &name(&args)?)?).into());
    }
    let (glob, mut map) = (Glob::new(&pattern), Map::new());
    for name in manager.all(cx)?.iter().filter(|name| glob.matches(name)) {
        map.set(name, manager.running(cx, name)?);
    }
    // Not `Outcome::from`: a service may be called `result`.
    Ok(Outcome { ret: map.into(), retcode: 0, out: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::find;
    use std::sync::Arc;

    #[test]
    fn a_name_is_no_path_and_no_option() {
        let cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()));
        for bad in ["", "-f", "../x", "a b", "a;b", "/etc/init.d/x"] {
            let refused = find("service.start").expect("a function").call(&cx, vec![bad.into()], Map::new());
            assert!(refused.is_err(), "{bad}");
        }
        let args = |text: &str| {
            Args::bind(find("service.start").expect("a function"), &cx, vec![text.into()], Map::new()).expect("fits")
        };
        assert_eq!(name(&args("getty@tty1.service")), Ok("getty@tty1.service".to_owned()));
        assert!(matches!(name(&args("-f")), Err(CallError::Invocation(_))));
    }
}
