//! Names that other tools give to our keys: git and its hosting services, `gitRepo`, git-sync, other CSI drivers, Flux
//! and Argo CD. They are too different to be typos, so a suggestion needs this table.

/// Longest name that is looked up, in bytes.
const LONGEST: usize = 64;

/// Prefixes that say no more than that it is about git.
const PREFIXES: [&str; 3] = ["gitsync", "git", "repository"];

/// Ours, and theirs in lower case, without anything but letters and digits.
type Table = &'static [(&'static str, &'static [&'static str])];

const ATTRIBUTES: Table = &[
    (
        "repository",
        &["url", "repo", "git", "uri", "remote", "origin", "repourl", "remoteurl", "cloneurl", "source", "address"],
    ),
    (
        "revision",
        &[
            "branch",
            "branchname",
            "ref",
            "reference",
            "refname",
            "tag",
            "tagname",
            "semver",
            "rev",
            "commit",
            "commitid",
            "commitsha",
            "sha",
            "hash",
            "checkout",
            "version",
            "targetrevision",
            "committish",
            "treeish",
        ],
    ),
    (
        "subdirectory",
        &[
            "path",
            "subpath",
            "subdir",
            "subfolder",
            "sourcepath",
            "sourcedir",
            "sparse",
            "sparsecheckout",
            "sparsecheckoutfile",
            "sparsepath",
        ],
    ),
    (
        "directory",
        &[
            "dir",
            "folder",
            "dest",
            "destination",
            "target",
            "targetdir",
            "targetdirectory",
            "targetpath",
            "root",
            "link",
            "clonedir",
        ],
    ),
    ("depth", &["clonedepth", "fetchdepth", "historydepth", "shallow"]),
    ("gitDir", &["dotgit", "keepgit"]),
    ("symlinks", &["links"]),
    ("submodules", &["submodule", "recursesubmodules", "recursive"]),
    ("lfs", &["gitlfs", "largefiles"]),
    (
        "refresh",
        &["interval", "period", "wait", "poll", "pollinterval", "pullinterval", "syncinterval", "refreshinterval"],
    ),
    ("pullPolicy", &["imagepullpolicy", "updatepolicy"]),
    ("writable", &["rw", "readwrite", "write", "writeable"]),
    ("uid", &["owner", "userid", "runasuser", "fsuser"]),
];

const SECRET_KEYS: Table = &[
    (
        "ssh-privatekey",
        &[
            "identity",
            "identityfile",
            "identitypub",
            "ssh",
            "sshkey",
            "sshkeyfile",
            "sshprivatekey",
            "sshpublickey",
            "sshprivatekeyfile",
            "privatekey",
            "deploykey",
            "key",
            "idrsa",
            "idecdsa",
            "ided25519",
        ],
    ),
    ("ssh-passphrase", &["passphrase", "keypassphrase", "sshkeypassphrase", "sshpassword"]),
    ("known_hosts", &["knownhosts", "sshknownhosts", "sshknownhostsfile", "hostkey", "hostkeys"]),
    ("username", &["user", "login", "usr"]),
    ("password", &["pass", "passwd", "pwd", "passwordfile"]),
    (
        "token",
        &[
            "bearertoken",
            "accesstoken",
            "authtoken",
            "oauthtoken",
            "pat",
            "apitoken",
            "personalaccesstoken",
            "githubtoken",
        ],
    ),
    ("ca.crt", &["ca", "cafile", "cert", "cacert", "cabundle", "cacertificate", "sslcainfo", "certificate"]),
    ("tls.crt", &["certfile", "clientcert", "clientcertificate", "sslcert", "tlscert", "tlsclientcertdata"]),
    ("tls.key", &["keyfile", "clientkey", "sslkey", "tlsclientcertkey"]),
];

/// The key of a volume that another tool calls `name`.
pub(crate) fn attribute(name: &str) -> Option<&'static str> {
    ours(name, ATTRIBUTES)
}

/// The key of a secret that another tool calls `name`, or that has this name here.
pub(crate) fn secret_key(name: &str) -> Option<&'static str> {
    ours(name, SECRET_KEYS)
}

fn ours(name: &str, table: Table) -> Option<&'static str> {
    if name.len() > LONGEST {
        return None;
    }
    let plain = plain(name);
    let find = |wanted: &str| {
        let is_wanted = |ours: &str, theirs: &[&str]| theirs.contains(&wanted) || self::plain(ours) == wanted;
        table.iter().find(|(ours, theirs)| is_wanted(ours, theirs)).map(|(ours, _)| *ours)
    };
    find(&plain).or_else(|| PREFIXES.iter().find_map(|prefix| find(plain.strip_prefix(prefix)?)))
}

/// `sub_path`, `sub-path`, `SUBPATH` and `subPath` are one name.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_tools_are_known_in_every_spelling() {
        for (theirs, ours) in [
            ("branch", "revision"),
            ("ref", "revision"),
            ("targetRevision", "revision"),
            ("gitBranch", "revision"),
            ("GITSYNC_REF", "revision"),
            ("GITSYNC_REPO", "repository"),
            ("url", "repository"),
            ("repoURL", "repository"),
            ("subPath", "subdirectory"),
            ("sub-path", "subdirectory"),
            ("path", "subdirectory"),
            ("dest", "directory"),
            ("dir", "directory"),
            ("clone_depth", "depth"),
            ("recurse-submodules", "submodules"),
        ] {
            assert_eq!(attribute(theirs), Some(ours), "{theirs}");
        }
        for (theirs, ours) in [
            ("identity", "ssh-privatekey"),
            ("identity.pub", "ssh-privatekey"),
            ("identityFile", "ssh-privatekey"),
            ("ssh-publickey", "ssh-privatekey"),
            ("sshPrivateKey", "ssh-privatekey"),
            ("GITSYNC_USERNAME", "username"),
            ("user", "username"),
            ("pass", "password"),
            ("caFile", "ca.crt"),
            ("cacert", "ca.crt"),
            ("cert", "ca.crt"),
            ("tlsClientCertData", "tls.crt"),
            ("keyFile", "tls.key"),
        ] {
            assert_eq!(secret_key(theirs), Some(ours), "{theirs}");
        }
        for strange in ["colour", "", "...", "gitsync", "grün", &"x".repeat(5000)] {
            assert_eq!((attribute(strange), secret_key(strange)), (None, None), "{strange}");
        }
    }

    #[test]
    fn no_name_has_two_meanings() {
        for table in [ATTRIBUTES, SECRET_KEYS] {
            let mut names: Vec<_> = table.iter().flat_map(|(_, theirs)| theirs.iter()).collect();
            assert!(names.iter().all(|name| plain(name) == **name));
            names.sort_unstable();
            assert!(names.windows(2).all(|two| two[0] != two[1]), "{names:?}");
        }
    }
}
