//! Every recording with its verdict, in the order in which they are run.

use Verdict::{Differs, Same};
use reasons::*;

/// How ours compares with what was recorded.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    /// It prints other words or ends with another code, for a reason that `docs/differences.md` gives in these words.
    Differs(&'static str),
    /// It prints the same and ends with the same code.
    Same,
}

/// Returns the cases of a group.
pub(super) fn of(group: &str) -> impl Iterator<Item = (&'static str, Verdict)> {
    let prefix = format!("{group}/");
    CASES.iter().filter_map(move |(name, verdict)| Some((name.strip_prefix(&prefix)?, *verdict)))
}

/// The reasons, in the words of `docs/differences.md`.
mod reasons {
    pub(super) const ARGUMENT_ORDER: &str = "Fields of an event may come in another order";
    pub(super) const BATCH_OF_STATIC: &str = "Salt turns `--static` into a batch";
    pub(super) const BEACON_KINDS: &str = "Salt's other kinds of beacons";
    pub(super) const CLEAR_PILLAR: &str = "Pillar is shown as it is";
    pub(super) const FUNCTIONS: &str = "has its own list of functions";
    pub(super) const GRAINS: &str = "has its own list of grains";
    pub(super) const HIDDEN: &str = "`--hide-timeout` hides";
    pub(super) const KEY_PAIR: &str = "The master's own key pair is called `halite_master`";
    pub(super) const LOG_OF_FAILURE: &str = "A command that fails is told once, by its return";
    pub(super) const NAMED: &str = "A minion that cannot answer is named at once";
    pub(super) const NOT_THE_SAME_PAST: &str = "after batches, which are not in 0.1, other jobs are listed";
    pub(super) const NOT_YET: &str = "Requests for them get a clear refusal";
    pub(super) const NO_RUNS: &str = "Runs of runners are no jobs";
    pub(super) const NO_EVENT_OF_ITS_OWN: &str =
        "The functions of the runner `reactor` print their answer and fire no events";
    pub(super) const PYTHON: &str = "Modules in Python are neither synced nor run";
    pub(super) const QUIET: &str = "`--out quiet` prints nothing";
    pub(super) const RUNNING: &str = "`jobs.active` asks nobody";
    pub(super) const RUN_ASYNC: &str = "`salt-run --async` is refused";
    pub(super) const SENSE: &str = "A target that makes no sense is refused";
    pub(super) const UNKNOWN_RUNNER: &str = "An unknown runner is an error";
    pub(super) const VERSIONS: &str = "`manage.versions` compares Halite's versions";
    pub(super) const USAGE: &str = "What is said of a wrong command line";
}

/// The cases.
pub(super) const CASES: &[(&str, Verdict)] = &[
    ("beacons/list", Same),
    ("beacons/list-nopillar", Same),
    ("beacons/list-available", Differs(BEACON_KINDS)),
    ("beacons/add-exists", Same),
    ("beacons/add-bad", Same),
    ("beacons/delete", Same),
    ("beacons/add", Same),
    ("beacons/modify", Same),
    ("beacons/disable-one", Same),
    ("beacons/enable-one", Same),
    ("beacons/disable-all", Same),
    ("beacons/enable-all", Same),
    ("beacons/save", Same),
    ("beacons/reset", Same),
    ("beacons/list-after-reset", Same),
    ("event-api/call-fire", Same),
    ("event-api/call-fire-master", Same),
    ("event-api/call-send", Same),
    ("event-api/call-send-env", Same),
    ("event-api/call-send-kw", Same),
    ("event-api/module-fires", Differs(PYTHON)),
    ("event-api/reauth", Differs(PYTHON)),
    ("event-api/runner-event-send", Same),
    ("event-api/salt-call-local", Same),
    ("event-api/salt-call-remote", Same),
    ("event-api/salt-fire", Same),
    ("event-api/salt-fire2", Same),
    ("event-api/salt-send", Same),
    ("event-api/state-event-quiet", Same),
    ("event-api/state-event-tagmatch", Differs(ARGUMENT_ORDER)),
    ("event-api/sync-modules", Differs(PYTHON)),
    ("events/key-list-pending", Same),
    ("events/key-list-json", Same),
    ("events/key-finger", Differs(KEY_PAIR)),
    ("events/key-accept", Same),
    ("events/key-reject", Same),
    ("events/key-list-after-reject", Same),
    ("events/key-accept-all", Same),
    ("events/key-accept-m2-missing", Same),
    ("events/key-accept-rejected", Same),
    ("events/key-delete", Same),
    ("events/key-list-after-delete", Same),
    ("events/test-ping", Same),
    ("events/arg-repr", Differs(BATCH_OF_STATIC)),
    ("events/args", Same),
    ("events/failing-badargs", Same),
    ("events/failing-badtype", Same),
    ("events/failing-cmd", Same),
    ("events/failing-cmd-retcode", Differs(BATCH_OF_STATIC)),
    ("events/failing-exception", Same),
    ("events/failing-nofunc", Same),
    ("events/kwargs", Same),
    ("events/missing-glob", Same),
    ("events/missing-list", Differs(NAMED)),
    ("events/multi-fun", Same),
    ("events/runner-event", Same),
    ("events/runner-manage-status", Same),
    ("events/runner-presence", Same),
    ("events/test-ping-json", Same),
    ("events/test-ping-json-static", Same),
    ("events/wheel-via-run", Same),
    ("reactor/seed-reactor-list", Differs(NO_EVENT_OF_ITS_OWN)),
    ("reactor/seed-fire", Same),
    ("reactor/list", Differs(NO_EVENT_OF_ITS_OWN)),
    ("reactor/add", Differs(NO_EVENT_OF_ITS_OWN)),
    ("reactor/delete", Differs(NO_EVENT_OF_ITS_OWN)),
    ("reactor/is_leader", Differs(NO_EVENT_OF_ITS_OWN)),
    ("targeting-jobs/async", Same),
    ("targeting-jobs/jobs-active", Differs(RUNNING)),
    ("targeting-jobs/jobs-lookup", Same),
    ("targeting-jobs/batch-1", Differs(NOT_YET)),
    ("targeting-jobs/batch-async", Differs(NOT_YET)),
    ("targeting-jobs/batch-fail", Differs(NOT_YET)),
    ("targeting-jobs/batch-failhard", Differs(NOT_YET)),
    ("targeting-jobs/batch-pct", Differs(NOT_YET)),
    ("targeting-jobs/batch-wait", Differs(NOT_YET)),
    ("targeting-jobs/call-noretcode", Differs(LOG_OF_FAILURE)),
    ("targeting-jobs/call-retcode", Differs(LOG_OF_FAILURE)),
    ("targeting-jobs/find-job", Same),
    ("targeting-jobs/grains-keys", Differs(GRAINS)),
    ("targeting-jobs/hide-timeout", Differs(HIDDEN)),
    ("targeting-jobs/jobs-exit", Same),
    ("targeting-jobs/jobs-last", Differs(NO_RUNS)),
    ("targeting-jobs/jobs-list", Same),
    ("targeting-jobs/jobs-list-filter", Differs(NOT_THE_SAME_PAST)),
    ("targeting-jobs/jobs-list-job", Same),
    ("targeting-jobs/jobs-lookup-json", Same),
    ("targeting-jobs/jobs-nojid", Same),
    ("targeting-jobs/jobs-print", Same),
    ("targeting-jobs/kill-all", Same),
    ("targeting-jobs/manage-up", Same),
    ("targeting-jobs/manage-versions", Differs(VERSIONS)),
    ("targeting-jobs/metadata", Same),
    ("targeting-jobs/mine", Same),
    ("targeting-jobs/mixed-exit", Same),
    ("targeting-jobs/out-bogus", Same),
    ("targeting-jobs/out-file", Same),
    ("targeting-jobs/out-json", Same),
    ("targeting-jobs/out-json-indent", Same),
    ("targeting-jobs/out-json-static", Same),
    ("targeting-jobs/out-nested", Same),
    ("targeting-jobs/out-newline", Same),
    ("targeting-jobs/out-pprint", Same),
    ("targeting-jobs/out-quiet", Differs(QUIET)),
    ("targeting-jobs/out-raw", Same),
    ("targeting-jobs/out-table", Same),
    ("targeting-jobs/out-txt", Same),
    ("targeting-jobs/out-yaml", Same),
    ("targeting-jobs/pillar-get", Differs(CLEAR_PILLAR)),
    ("targeting-jobs/pillar-items", Differs(CLEAR_PILLAR)),
    ("targeting-jobs/publish", Same),
    ("targeting-jobs/retcode-all", Same),
    ("targeting-jobs/return-many", Same),
    ("targeting-jobs/run-all", Same),
    ("targeting-jobs/run-async", Differs(RUN_ASYNC)),
    ("targeting-jobs/run-badrunner", Differs(UNKNOWN_RUNNER)),
    ("targeting-jobs/run-exc", Differs(UNKNOWN_RUNNER)),
    ("targeting-jobs/show-jid", Same),
    ("targeting-jobs/summary", Same),
    ("targeting-jobs/summary-missing", Differs(NAMED)),
    ("targeting-jobs/sys-argspec", Same),
    ("targeting-jobs/sys-list", Differs(FUNCTIONS)),
    ("targeting-jobs/tgt-compound", Same),
    ("targeting-jobs/tgt-compound2", Same),
    ("targeting-jobs/tgt-delim", Differs(USAGE)),
    ("targeting-jobs/tgt-glob", Same),
    ("targeting-jobs/tgt-glob-q", Same),
    ("targeting-jobs/tgt-grain", Same),
    ("targeting-jobs/tgt-grain-glob", Same),
    ("targeting-jobs/tgt-grain-nested", Same),
    ("targeting-jobs/tgt-grain-pcre", Same),
    ("targeting-jobs/tgt-ipcidr", Same),
    ("targeting-jobs/tgt-ipcidr-net", Same),
    ("targeting-jobs/tgt-list", Same),
    ("targeting-jobs/tgt-nodegroup", Same),
    ("targeting-jobs/tgt-nodegroup-missing", Differs(SENSE)),
    ("targeting-jobs/tgt-nodegroup-nested", Same),
    ("targeting-jobs/tgt-pcre", Same),
    ("targeting-jobs/tgt-pillar", Same),
    ("targeting-jobs/tgt-pillar-pcre", Same),
    ("targeting-jobs/timeout-short", Same),
    ("targeting-jobs/verbose", Same),
    ("targeting-jobs/dead-minion", Differs(NAMED)),
    ("targeting-jobs/dead-minion-t2", Differs(NAMED)),
];
