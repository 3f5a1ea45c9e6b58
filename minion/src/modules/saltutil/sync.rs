//! The functions that fetch Python modules from a master: this minion has nothing to fetch, and says so as Salt does.

use proto::value::{Map, MapExt, Value};

use crate::modules::{Fallback, Function, Param};

/// Salt's parameters; they change nothing here.
const SYNC: &[Param] = &[
    Param::optional("saltenv", Fallback::None),
    Param::optional("refresh", Fallback::Bool(true)),
    Param::optional("extmod_whitelist", Fallback::None),
    Param::optional("extmod_blacklist", Fallback::None),
];

/// Writes one function of the table: nothing is fetched.
const fn kind(name: &'static str, doc: &'static str) -> Function {
    Function { name, doc, params: SYNC, run: |_, _| Ok(Value::List(Vec::new()).into()) }
}

/// What `sync_all` tells of, as Salt does.
const KINDS: [&str; 18] = [
    "beacons",
    "clouds",
    "engines",
    "executors",
    "grains",
    "log_handlers",
    "matchers",
    "modules",
    "output",
    "proxymodules",
    "renderers",
    "returners",
    "sdb",
    "serializers",
    "states",
    "thorium",
    "utils",
    "wrapper",
];

pub(super) const ALL: Function = Function {
    name: "saltutil.sync_all",
    doc: "Return which files were fetched from the master, by kind: none. This minion runs what is built in, and takes no Python
modules from a master.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_all",
    params: SYNC,
    run: |_, _| {
        let mut nothing = Map::new();
        KINDS.iter().for_each(|kind| nothing.set(kind, Value::List(Vec::new())));
        Ok(Value::from(nothing).into())
    },
};

pub(super) const BEACONS: Function = kind(
    "saltutil.sync_beacons",
    "Return which beacons were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_beacons",
);

pub(super) const CLOUDS: Function = kind(
    "saltutil.sync_clouds",
    "Return which clouds were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_clouds",
);

pub(super) const ENGINES: Function = kind(
    "saltutil.sync_engines",
    "Return which engines were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_engines",
);

pub(super) const EXECUTORS: Function = kind(
    "saltutil.sync_executors",
    "Return which executors were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_executors",
);

pub(super) const GRAINS: Function = kind(
    "saltutil.sync_grains",
    "Return which grains were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_grains",
);

pub(super) const LOG_HANDLERS: Function = kind(
    "saltutil.sync_log_handlers",
    "Return which log handlers were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_log_handlers",
);

pub(super) const MATCHERS: Function = kind(
    "saltutil.sync_matchers",
    "Return which matchers were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_matchers",
);

pub(super) const MODULES: Function = kind(
    "saltutil.sync_modules",
    "Return which modules were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_modules",
);

pub(super) const OUTPUT: Function = kind(
    "saltutil.sync_output",
    "Return which output were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_output",
);

pub(super) const PILLAR: Function = kind(
    "saltutil.sync_pillar",
    "Return which pillar were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_pillar",
);

pub(super) const PROXYMODULES: Function = kind(
    "saltutil.sync_proxymodules",
    "Return which proxymodules were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_proxymodules",
);

pub(super) const RENDERERS: Function = kind(
    "saltutil.sync_renderers",
    "Return which renderers were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_renderers",
);

pub(super) const RETURNERS: Function = kind(
    "saltutil.sync_returners",
    "Return which returners were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_returners",
);

pub(super) const SDB: Function = kind(
    "saltutil.sync_sdb",
    "Return which sdb were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_sdb",
);

pub(super) const SERIALIZERS: Function = kind(
    "saltutil.sync_serializers",
    "Return which serializers were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_serializers",
);

pub(super) const STATES: Function = kind(
    "saltutil.sync_states",
    "Return which states were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_states",
);

pub(super) const THORIUM: Function = kind(
    "saltutil.sync_thorium",
    "Return which thorium were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_thorium",
);

pub(super) const TOPS: Function = kind(
    "saltutil.sync_tops",
    "Return which tops were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_tops",
);

pub(super) const UTILS: Function = kind(
    "saltutil.sync_utils",
    "Return which utils were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_utils",
);

pub(super) const WRAPPER: Function = kind(
    "saltutil.sync_wrapper",
    "Return which wrapper were fetched from the master: none. This minion runs what is built in.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.sync_wrapper",
);
