//! Keys of gpg that sign commits and tags, each in a home of its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tempfile::TempDir;

use crate::git;
use crate::repository::Repository;

/// A key of `gpg`. Its agent ends with it.
pub struct OpenPgpKey {
    home: TempDir,
    fingerprint: String,
}

impl OpenPgpKey {
    /// A new key for signing, of an algorithm that gpg knows, such as `ed25519` or `rsa2048`, with a user ID.
    pub fn new(algorithm: &str, user: &str) -> Self {
        Self::made(algorithm, user, "never", None)
    }

    /// The same, made at a time in seconds since 1970, for this long, such as `1y`.
    pub fn expiring(user: &str, time: u64, lifetime: &str) -> Self {
        Self::made("ed25519", user, lifetime, Some(time))
    }

    fn made(algorithm: &str, user: &str, lifetime: &str, time: Option<u64>) -> Self {
        let mut key = Self { home: TempDir::new().unwrap(), fingerprint: String::new() };
        key.set_clock(time);
        git::output(&mut key.gpg(["--quick-generate-key", user, algorithm, "sign,cert", lifetime]));
        key.fingerprint = key.fingerprints().remove(0);
        key
    }

    /// `gpg` with this home, which asks for nothing.
    pub fn gpg<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.env_clear().envs(git::environment()).env("GNUPGHOME", self.home.path());
        gpg.args(["--batch", "--quiet", "--no-tty", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""]);
        gpg.args(arguments);
        gpg
    }

    /// What gpg takes for the time from now on, in seconds since 1970; the clock's without one.
    pub fn set_clock(&self, time: Option<u64>) {
        let setting = time.map(|time| format!("faked-system-time {time}\n")).unwrap_or_default();
        fs::write(self.home.path().join("gpg.conf"), setting).unwrap();
    }

    /// The fingerprints of the key and of its subkeys, in this order.
    pub fn fingerprints(&self) -> Vec<String> {
        let listed = git::text(git::output(&mut self.gpg(["--with-colons", "--list-keys"])));
        let lines = listed.lines().filter_map(|line| line.strip_prefix("fpr:"));
        lines.map(|line| line.trim_matches(':').to_owned()).collect()
    }

    /// Its fingerprint.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Adds a subkey for signing, with which it signs from now on. Returns its fingerprint.
    pub fn add_subkey(&self, algorithm: &str) -> String {
        git::output(&mut self.gpg(["--quick-add-key", &self.fingerprint, algorithm, "sign", "never"]));
        self.fingerprints().pop().unwrap()
    }

    /// Revokes the key, with the certificate that gpg makes for every new key.
    pub fn revoke(&self) {
        let place = self.home.path().join("openpgp-revocs.d").join(format!("{}.rev", self.fingerprint));
        // A colon keeps people from importing it by mistake.
        let certificate = fs::read_to_string(place).unwrap().replace(":-----BEGIN", "-----BEGIN");
        git::output_with_input(&mut self.gpg(["--import"]), certificate.as_bytes());
    }

    /// Lets the key expire at another time from when it was made, such as `2y`, `seconds=1` or `never`.
    pub fn set_expiry(&self, lifetime: &str) {
        git::output(&mut self.gpg(["--quick-set-expire", &self.fingerprint, lifetime]));
    }

    /// Its public key, armored.
    pub fn public(&self) -> String {
        git::text(git::output(&mut self.gpg(["--armor", "--export", &self.fingerprint]))) + "\n"
    }

    /// The same as packets.
    pub fn public_packets(&self) -> Vec<u8> {
        git::output(&mut self.gpg(["--export", &self.fingerprint]))
    }

    /// Signs bytes with options of gpg, and returns the armored signature.
    pub fn sign(&self, payload: &[u8], options: &[&str]) -> String {
        let arguments = ["--armor", "--detach-sign", "--local-user", &self.fingerprint];
        let mut gpg = self.gpg(options.iter().copied().chain(arguments));
        git::text(git::output_with_input(&mut gpg, payload)) + "\n"
    }

    /// `git` in the repository, which signs with this key, and takes it for trusted.
    fn git(&self, repository: &Repository, arguments: &[&str]) -> Command {
        let signing = format!("user.signingkey={}", self.fingerprint);
        let settings = ["-c", "gpg.format=openpgp", "-c", &signing];
        let mut command = repository.git(settings.iter().chain(arguments).copied());
        command.env("GNUPGHOME", self.home.path());
        command
    }

    /// Signs the commit that a branch stands at: makes another one with the same tree, and moves the branch there.
    pub fn sign_branch(&self, repository: &Repository, branch: &str) -> String {
        let tree = format!("refs/heads/{branch}^{{tree}}");
        let commit = git::line(&mut self.git(repository, &["commit-tree", "-S", "-m", "signed", &tree]));
        repository.set_branch(branch, &commit);
        commit
    }

    /// Makes a signed tag.
    pub fn sign_tag(&self, repository: &Repository, name: &str, target: &str) -> String {
        git::output(&mut self.git(repository, &["tag", "--force", "-s", "-m", "signed", name, target]));
        repository.resolve(&format!("refs/tags/{name}"))
    }

    /// Whether git, with this key in its keyring, says that a commit has a good signature.
    pub fn verifies(&self, repository: &Repository, commit: &str) -> bool {
        let mut command = self.git(repository, &["verify-commit", commit]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for OpenPgpKey {
    fn drop(&mut self) {
        let mut end = Command::new("gpgconf");
        end.arg("--homedir").arg(self.home.path()).args(["--kill", "all"]);
        // A panic here would hide that of the test. An agent without its home ends by itself.
        drop(end.stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

/// Writes a file of armored keys.
pub fn write_keys(path: &Path, keys: &[&OpenPgpKey]) {
    let blocks: String = keys.iter().map(|key| format!("# {}\n{}", key.fingerprint(), key.public())).collect();
    fs::write(path, blocks).unwrap();
}

/// Makes one block of armored signatures.
pub fn joined(signatures: &[String]) -> String {
    let packets = signatures.iter().flat_map(|signature| {
        let body: Vec<&str> = signature.lines().skip_while(|line| !line.is_empty()).collect();
        let body: String = body.into_iter().take_while(|line| !line.starts_with(['=', '-'])).collect();
        BASE64_STANDARD.decode(body).unwrap()
    });
    let packets: Vec<u8> = packets.collect();
    let body = BASE64_STANDARD.encode(packets);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PGP SIGNATURE-----\n\n{}\n-----END PGP SIGNATURE-----\n", lines.join("\n"))
}
