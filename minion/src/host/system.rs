//! What kind of machine this is: kernel, init system, and what it runs on.

use std::fs;
use std::path::Path;

use nix::sys::utsname::uname;

/// What `uname` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uname {
    /// The kernel's name: `Linux`.
    pub kernel: String,
    /// Its release.
    pub release: String,
    /// Its build.
    pub version: String,
    /// The hardware: `x86_64`.
    pub machine: String,
}

/// What the system runs on, in Salt's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Virtualization {
    /// `physical`, `container`, or the hypervisor.
    pub kind: &'static str,
    /// What kind of container.
    pub subtype: Option<&'static str>,
}

/// Reads the kernel's name and version; empty where the kernel does not tell.
pub fn kernel() -> Uname {
    let Ok(names) = uname() else {
        return Uname::default();
    };
    Uname {
        kernel: names.sysname().to_string_lossy().into_owned(),
        release: names.release().to_string_lossy().into_owned(),
        version: names.version().to_string_lossy().into_owned(),
        machine: names.machine().to_string_lossy().into_owned(),
    }
}

/// Returns the name of the init system.
pub fn init() -> String {
    let first = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    match first.trim() {
        "" => "unknown".to_owned(),
        _ if is_systemd() => "systemd".to_owned(),
        "init" if Path::new("/sbin/openrc").exists() => "openrc".to_owned(),
        "init" => "sysvinit".to_owned(),
        other => other.to_owned(),
    }
}

/// Returns which boot of the kernel this is, or nothing where that cannot be read.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Tells whether systemd is the init system: the test of sd_booted(3).
pub fn is_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Returns the machine's id, made at its installation.
pub fn machine_id() -> Option<String> {
    let paths = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
    let id = paths.iter().find_map(|path| fs::read_to_string(path).ok())?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Tells what the system runs on.
pub fn virtualization(cpu_flags: &[String]) -> Virtualization {
    let container = |subtype| Virtualization { kind: "container", subtype: Some(subtype) };
    if Path::new("/run/.containerenv").exists() {
        return container("Podman");
    }
    if Path::new("/var/run/secrets/kubernetes.io").exists() {
        return container("Kubernetes");
    }
    if Path::new("/.dockerenv").exists() {
        return container("Docker");
    }
    match fs::read_to_string("/run/systemd/container").unwrap_or_default().trim() {
        "" => {}
        "lxc" | "lxc-libvirt" => return container("LXC"),
        _ => return container("systemd-nspawn"),
    }
    let dmi = ["sys_vendor", "product_name", "bios_vendor"]
        .map(|field| fs::read_to_string(format!("/sys/class/dmi/id/{field}")).unwrap_or_default());
    let xen =
        Path::new("/proc/xen").exists() || fs::read_to_string("/sys/hypervisor/type").is_ok_and(|t| t.trim() == "xen");
    let kind = hypervisor(&dmi.join(" "), xen, cpu_flags.iter().any(|flag| flag == "hypervisor"));
    Virtualization { kind, subtype: None }
}

/// Names the hypervisor by the maker of the machine.
fn hypervisor(dmi: &str, xen: bool, virtual_cpu: bool) -> &'static str {
    const MAKERS: [(&str, &str); 9] = [
        ("VirtualBox", "VirtualBox"),
        ("innotek", "VirtualBox"),
        ("VMware", "VMware"),
        ("Parallels", "Parallels"),
        ("Microsoft Corporation Virtual", "HyperV"),
        ("QEMU", "kvm"),
        ("KVM", "kvm"),
        ("Google", "gce"),
        ("Amazon EC2", "Nitro"),
    ];
    let made = MAKERS.iter().find(|(maker, _)| dmi.contains(maker)).map(|(_, kind)| *kind);
    match made {
        Some(kind) => kind,
        None if xen => "xen",
        // A hypervisor that does not say which, such as a microVM's.
        None if virtual_cpu => "unknown",
        None => "physical",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_it_is() {
        let uname = kernel();
        assert_eq!(uname.kernel, "Linux");
        assert!(!uname.release.is_empty() && !uname.machine.is_empty());
        assert!(!init().is_empty());
    }

    #[test]
    fn hypervisors_are_told_by_their_maker() {
        assert_eq!(hypervisor("innotek GmbH VirtualBox", false, true), "VirtualBox");
        assert_eq!(hypervisor("QEMU Standard PC", false, true), "kvm");
        assert_eq!(hypervisor("", true, true), "xen");
        assert_eq!(hypervisor("", false, true), "unknown");
        assert_eq!(hypervisor("Dell Inc. PowerEdge", false, false), "physical");
    }
}
