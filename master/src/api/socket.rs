//! The file `sock_dir/api.sock`.

use std::path::Path;

use tokio::net::UnixListener;

use crate::unix::{BindError, Socket};

/// The socket's name in `sock_dir`.
pub const SOCKET_NAME: &str = "api.sock";

/// Owner and group may ask; nobody else reaches the master at all.
const SOCKET_MODE: u32 = 0o660;

/// Opens the API's socket in `sock_dir`, which is made if it is not there.
pub fn bind(sock_dir: &Path) -> Result<UnixListener, BindError> {
    Socket { what: "API socket", option: "sock_dir", dir: sock_dir, name: SOCKET_NAME, mode: SOCKET_MODE }.bind()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group() {
        let dir = tempfile::tempdir().unwrap();
        let sock_dir = dir.path().join("run");
        let _listener = bind(&sock_dir).unwrap();
        let mode = fs::metadata(sock_dir.join(SOCKET_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    #[tokio::test]
    async fn a_path_that_does_not_fit_is_a_clear_error() {
        let error = bind(Path::new(&format!("/tmp/{}", "x".repeat(100)))).unwrap_err().to_string();
        assert!(error.contains("the API socket path"), "{error}");
        assert!(error.contains("has 114 bytes and the system allows 107: set a shorter sock_dir"), "{error}");
    }
}
