//! Salt's filters that are no function of their input: they read the master's host, ask the network, or are random. Each
//! fails where it is used, and says why.

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Environment, Error, Value};

use super::super::session::failure;

/// They read the files, programs or users of the master's host.
const HOST: &[&str] = &["file_hashsum", "get_uid", "is_bin_file", "is_empty", "is_text_file", "list_files", "which"];
/// They ask somebody else.
const NETWORK: &[&str] = &["dns_check", "http_query"];
/// They give another result each time.
const RANDOM: &[&str] =
    &["gen_mac", "rand_str", "random", "random_hash", "random_sample", "random_shuffle", "random_str"];
/// Nobody has written them.
const UNWRITTEN: &[&str] = &["json_query", "mysql_to_dict", "xml"];

/// Gives the environment the refusals.
pub(super) fn install(env: &mut Environment<'_>) {
    let groups = [
        (HOST, "it would read the master's host"),
        (NETWORK, "it would ask the network"),
        (RANDOM, "a template gives the same text each time; bring the value in the pillar or the event"),
        (UNWRITTEN, "it is not supported"),
    ];
    for (names, reason) in groups {
        for &name in names {
            let refuse = move |_: Rest<ValueOrKwargs>| -> Result<Value, Error> {
                Err(failure(format!("the filter '{name}' is not available: {reason}")))
            };
            env.add_filter(name, refuse);
        }
    }
}
