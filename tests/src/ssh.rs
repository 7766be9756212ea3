//! Git over SSH: a real sshd, for the user who runs the tests.
//!
//! It runs as under inetd: the harness listens, and starts an `sshd -i` for each connection. So no other program can
//! take the port, there is nothing to wait for, and nothing stays behind when the tests are killed.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::listener::Listener;
use crate::repository::Repository;
use crate::require;

mod key;

pub use key::Algorithm;
pub use key::ClientKey;
pub use key::Format;

const HOST_KEYS: [Algorithm; 3] = [Algorithm::Ed25519, Algorithm::Ecdsa, Algorithm::Rsa];

/// An SSH server on a loopback port, with its own host keys: Ed25519, ECDSA and RSA.
pub struct SshServer {
    listener: Listener,
    place: TempDir,
}

/// A server before it starts.
#[derive(Default)]
pub struct SshServerBuilder {
    authorized: Vec<String>,
    settings: Vec<String>,
    refuses_protocol: bool,
    address: Option<SocketAddr>,
}

impl SshServerBuilder {
    /// Lets the owner of `key` in.
    #[must_use]
    pub fn authorize(mut self, key: &ClientKey) -> Self {
        self.authorized.push(key.public.clone());
        self
    }

    /// Runs a shell command instead of the client's, which is in `$SSH_ORIGINAL_COMMAND`.
    #[must_use]
    pub fn force_command(self, command: &str) -> Self {
        self.setting(&format!("ForceCommand {command}"))
    }

    /// Adds a line of sshd_config(5).
    #[must_use]
    pub fn setting(mut self, line: &str) -> Self {
        self.settings.push(line.to_owned());
        self
    }

    /// Takes no variable of the client, and so speaks version 0 of git's protocol.
    #[must_use]
    pub fn refuse_protocol(mut self) -> Self {
        self.refuses_protocol = true;
        self
    }

    /// Listens on this address of the loopback instead of 127.0.0.1, and on this port or, for 0, on a free one.
    #[must_use]
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Starts it. [`require::tool`]`("sshd")` says whether it can.
    pub fn start(self) -> SshServer {
        let place = TempDir::with_prefix("gitrepo-sshd-").unwrap();
        let mut config = configuration(place.path());
        if !self.refuses_protocol {
            config.push_str("AcceptEnv GIT_PROTOCOL\n");
        }
        for algorithm in HOST_KEYS {
            let file = host_key(place.path(), algorithm);
            key::keygen(&file, algorithm, Format::OpenSsh, "");
            config.push_str(&format!("HostKey {}\n", file.display()));
        }
        self.settings.iter().for_each(|line| config.push_str(&format!("{line}\n")));
        std::fs::write(place.path().join("sshd_config"), config).unwrap();
        std::fs::write(place.path().join("authorized_keys"), self.authorized.concat()).unwrap();
        std::fs::write(place.path().join("log"), "").unwrap();
        make_privilege_separation_directory();

        let sshd = require::find("sshd").expect("sshd is installed");
        let serving = place.path().to_owned();
        let address = self.address.unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
        let listener = Listener::start_at(address, move |stream| serve(stream, &sshd, &serving).expect("run sshd"));
        SshServer { listener, place }
    }
}

impl SshServer {
    /// A server that lets nobody in, to be configured.
    pub fn builder() -> SshServerBuilder {
        SshServerBuilder::default()
    }

    /// Lets the owner of `key` in.
    pub fn start(key: &ClientKey) -> Self {
        Self::builder().authorize(key).start()
    }

    /// The URL of `repository` by its path: `ssh://user@127.0.0.1:port/…/name.git`.
    pub fn url(&self, repository: &Repository) -> String {
        format!("ssh://{}@{}{}", user(), self.listener.address(), repository.path().display())
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Connections accepted.
    pub fn connections(&self) -> u64 {
        self.listener.accepted()
    }

    /// Waits until everything that clients did before they hung up has been served.
    pub fn settle(&self) {
        self.listener.settle()
    }

    /// Commands started, which requires authentication. Complete once the clients have ended.
    pub fn sessions(&self) -> usize {
        self.log().matches("Starting session: ").count()
    }

    /// The log of sshd so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.place.path().join("log")).unwrap()
    }

    /// The `known_hosts` lines for this server.
    pub fn known_hosts(&self) -> String {
        let address = self.listener.address();
        match address.port() {
            22 => self.known_hosts_at(&address.ip().to_string()),
            port => self.known_hosts_at(&format!("[{}]:{port}", address.ip())),
        }
    }

    /// Its keys under the name of `host`, as `known_hosts` writes it (`[127.0.0.1]:2222`): a lie about another server.
    pub fn known_hosts_at(&self, host: &str) -> String {
        HOST_KEYS.iter().map(|&algorithm| format!("{host} {}\n", self.public_host_key(algorithm))).collect()
    }

    /// Type and base64 of a host key.
    pub fn public_host_key(&self, algorithm: Algorithm) -> String {
        let line = std::fs::read_to_string(host_key(self.place.path(), algorithm).with_extension("pub")).unwrap();
        line.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// `ssh` for `GIT_SSH_COMMAND`: uses `key`, trusts only this server's host keys, and reads no other configuration.
    /// For keys without passphrase.
    pub fn client_command(&self, key: &ClientKey) -> String {
        let (identity, known_hosts) = (self.place.path().join("client"), self.place.path().join("known_hosts"));
        write_private(&identity, &key.private);
        std::fs::write(&known_hosts, self.known_hosts()).unwrap();
        format!(
            "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -i {} -o UserKnownHostsFile={}",
            identity.display(),
            known_hosts.display()
        )
    }
}

/// The name of the user who runs the tests: an unprivileged sshd can serve no other.
pub fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().expect("the user has a name").name
}

fn serve(stream: TcpStream, sshd: &Path, place: &Path) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let log = File::options().append(true).open(place.join("log"))?;
    let (input, output) = (OwnedFd::from(stream.try_clone()?), OwnedFd::from(stream));
    let mut command = Command::new(sshd);
    command.args(["-i", "-e", "-f"]).arg(place.join("sshd_config"));
    // It ends with its connection: when the client hangs up or the listener shuts the socket down.
    command.stdin(input).stdout(output).stderr(log).status().map(drop)
}

fn configuration(place: &Path) -> String {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    format!(
        "AuthorizedKeysFile {}\n\
         SetEnv PATH={path} GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null LC_ALL=C\n\
         StrictModes no\n\
         UsePAM no\n\
         PidFile none\n\
         PermitRootLogin yes\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         PrintMotd no\n\
         UseDNS no\n\
         LogLevel VERBOSE\n",
        place.join("authorized_keys").display()
    )
}

fn host_key(place: &Path, algorithm: Algorithm) -> PathBuf {
    place.join(format!("host_{algorithm:?}").to_ascii_lowercase())
}

/// Root's sshd refuses to start without it; elsewhere the system creates it at boot.
fn make_privilege_separation_directory() {
    if nix::unistd::geteuid().is_root() {
        std::fs::create_dir_all("/run/sshd").unwrap();
    }
}

fn write_private(file: &Path, content: &str) {
    std::fs::write(file, content).unwrap();
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
}
