//! Grains: what is known about this host, under Salt's names, so that its targets and templates fit.
//!
//! One file per topic, each with one function; [`all`] lists them. `saltversion` and the grains about Python are absent: this
//! is no Salt; `haliteversion` says what it is. Grains that would need a name server (`fqdns`, `fqdn_ip4`) are absent too.
//!
//! ```yaml
//! # Minion configuration; the file CONFDIR/grains has the same form without the first line.
//! grains:
//!   role: web
//!   site: {dc: ams1}
//! ```

use proto::value::{Map, MapExt, Value};

mod cpu;
mod disk;
mod identity;
mod init;
mod kernel;
mod memory;
mod network;
mod os;
mod process;
mod virtualization;

/// What grains are made from, beside the host itself.
pub struct GrainsContext<'a> {
    /// This minion's id.
    pub id: &'a str,
    /// The master, as configured: a name, or a list of them.
    pub master: &'a Value,
    /// The minion's configuration; its `grains` map wins over everything read from the host.
    pub config: &'a Map,
    /// What the file `CONFDIR/grains` holds, if there is one.
    pub file: Option<&'a Map>,
}

/// Reads one topic.
type Topic = fn(&GrainsContext<'_>) -> Map;

/// Every topic's function, by file.
fn all() -> &'static [Topic] {
    &[
        cpu::grains,
        disk::grains,
        identity::grains,
        init::grains,
        kernel::grains,
        memory::grains,
        network::grains,
        os::grains,
        process::grains,
        virtualization::grains,
    ]
}

/// Reads all grains, sorted by name: from the host, then the grains file, then the configuration, each over the one before.
/// Nothing can change `id`. Reads many files; call it off the async threads.
pub fn collect(cx: &GrainsContext<'_>) -> Map {
    let mut grains = Map::new();
    for topic in all() {
        grains.extend(topic(cx));
    }
    grains.extend(cx.file.cloned().unwrap_or_default());
    grains.extend(cx.config.at("grains").and_then(Value::as_map).cloned().unwrap_or_default());
    grains.set("id", cx.id);
    grains.sort_by(|one, _, other, _| one.to_key().cmp(&other.to_key()));
    grains
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::map;

    fn collected(config: &Map, file: Option<&Map>) -> Map {
        collect(&GrainsContext { id: "web1", master: &Value::from("salt"), config, file })
    }

    #[test]
    fn the_names_that_salt_has_are_there() {
        let grains = collected(&Map::new(), None);
        let names = "cpu_flags cpu_model cpuarch cwd disks dns domain fqdn gid groupname haliteversion host \
            hwaddr_interfaces id init ip4_interfaces ip6_interfaces ip_interfaces ipv4 ipv6 kernel kernelparams kernelrelease \
            kernelversion localhost lsb_distrib_id master mem_total nodename num_cpus os os_family osarch \
            osfinger osfullname osmajorrelease osrelease osrelease_info path pid server_id shell ssds swap_total systempath \
            uid username virtual";
        let missing: Vec<&str> = names.split_whitespace().filter(|name| grains.at(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(grains.at("saltversion").is_none());
        let sorted: Vec<String> = grains.keys().map(Value::to_key).collect();
        assert!(sorted.is_sorted());
    }

    #[test]
    fn configured_grains_win_but_the_id_stays() {
        let config = map! { "grains" => map! { "role" => "config", "id" => "other" } };
        let file = map! { "role" => "file", "os" => "Mine" };
        let grains = collected(&config, Some(&file));
        assert_eq!(
            (grains.text("role"), grains.text("os"), grains.text("id")),
            (Some("config"), Some("Mine"), Some("web1"))
        );
    }
}
