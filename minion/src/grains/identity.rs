//! Who this minion is: `id`, `master`, `server_id`, `machine_id`, `haliteversion`.

use proto::value::{Map, MapExt};
use ring::digest::{SHA256, digest};

use super::GrainsContext;
use crate::host::system;

pub(super) fn grains(cx: &GrainsContext<'_>) -> Map {
    let mut grains = proto::map! {
        "haliteversion" => env!("CARGO_PKG_VERSION"),
        "id" => cx.id,
        "master" => cx.master.clone(),
        "server_id" => server_id(cx.id),
    };
    if let Some(id) = system::machine_id() {
        grains.set("machine_id", id);
    }
    grains
}

/// Returns a number below 2³¹ that depends on the id alone: the last bits of its SHA-256. Salt's releases do not agree on theirs.
fn server_id(id: &str) -> u32 {
    let hash = digest(&SHA256, id.as_bytes());
    let last = hash.as_ref().last_chunk::<4>().copied().unwrap_or_default();
    u32::from_be_bytes(last) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_id_depends_on_the_id_alone() {
        // By Python: int(sha256(b"m1").hexdigest(), 16) % 2**31.
        assert_eq!(server_id("m1"), 890_885_657);
        assert_ne!(server_id("m1"), server_id("m2"));
    }
}
