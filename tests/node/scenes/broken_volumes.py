"""Impossible volumes: each causes an event that says why, and leaves nothing on the node."""

from dataclasses import dataclass, field
from functools import partial

from harness.node import Node
from harness.objects import csi, pod, secret
from harness.outcome import Failed

PRIVATE_SSH = "git@git.example.com:team/private.git"
PRIVATE_HTTPS = "https://git.example.com/team/private.git"
HTTP = "http://git.example.com/team/private.git"


@dataclass
class Broken:
    """A volume, and the text of its event."""

    name: str
    repository: str
    says: tuple
    revision: str = "main"
    secret: str = None
    attributes: dict = field(default_factory=dict)

    def pod(self):
        return pod(self.name, csi(self.repository, self.revision, secret=self.secret, **self.attributes))


def keys_and_passwords(c):
    known = c.host_key("host")
    key = c.ssh("user")
    ssh = "kubernetes.io/ssh-auth"
    return [
        secret("other-host", ssh, data={"ssh-privatekey": key, "known_hosts": c.host_key("other-host")}),
        secret("no-host", ssh, data={"ssh-privatekey": key}),
        secret("other-key", ssh, data={"ssh-privatekey": c.ssh("other-user"), "known_hosts": known}),
        secret("no-key", data={"known_hosts": known}),
        secret("misspelled", data={"ssh-privtekey": key, "known_hosts": known}),
        secret("password", "kubernetes.io/basic-auth", username="git", password="secret"),
        secret("other-password", "kubernetes.io/basic-auth", username="git", password="wrong"),
    ]


def on_the_node():
    """Those that need the names, the SSH server and the certificates of the node."""
    ssh = partial(Broken, repository=PRIVATE_SSH)
    https = partial(Broken, repository=PRIVATE_HTTPS)
    refused = "Unauthenticated"
    unknown = "host key of git.example.com is unknown"
    return [
        ssh("ssh-other-host", says=(refused, "host key of git.example.com has changed"), secret="other-host"),
        ssh("ssh-no-host", says=(refused, unknown, "known_hosts"), secret="no-host"),
        ssh("ssh-other-key", says=(refused, "refused the credential (ssh-privatekey)"), secret="other-key"),
        ssh("ssh-no-key", says=(refused, "wants a credential (ssh-privatekey)"), secret="no-key"),
        ssh("ssh-misspelled-key", says=("unknown secret key", "ssh-privatekey"), secret="misspelled"),
        ssh("ssh-no-secret", says=(refused, unknown)),
        https("https-other-password", says=(refused, "refused the credential"), secret="other-password"),
        https("https-no-secret", says=(refused, "wants a credential")),
        Broken("http-password", HTTP, says=("PermissionDenied", "plain http"), secret="password"),
        Broken("no-such-name", "https://gone.example.com/small.git", says=("Unavailable", "gone.example.com")),
        Broken("no-route", "https://10.99.0.99/small.git", says=("Unavailable", "10.99.0.99")),
        Broken("other-certificate", "https://other.example.com/small.git", says=(refused, "other.example.com")),
    ]


def anywhere(c):
    small = partial(Broken, repository=c.url("small"))
    wrong = "InvalidArgument"
    return [
        small("no-revision", says=("NotFound", '"v9"', "did you mean"), revision="v9"),
        small("short-commit", says=("NotFound", "abbreviated commit id"), revision="0123abc"),
        small("misspelled-attribute", says=(wrong, "revison", "revision?"), attributes={"revison": "v1"}),
        small("no-subdirectory", says=("NotFound", "nosuch"), attributes={"subdirectory": "nosuch"}),
        small("directory-leaves", says=(wrong, "../x"), attributes={"directory": "../x"}),
        small("depth-no-number", says=(wrong, "depth"), attributes={"depth": "all"}),
        small("not-yet", says=(wrong, "does not work yet"), attributes={"refresh": "1h"}),
        small("secret-missing", says=("not-there", "not found"), secret="not-there"),
        Broken("no-repository", c.url("nosuch"), says=("NotFound", "no such repository")),
        Broken("private", c.url("team/private"), says=("Unauthenticated", "wants a credential")),
        Broken("refused", f"http://{c.host}:81/small.git", says=("Unavailable", f"{c.host}:81")),
        Broken("down", c.url("down/small"), says=("Unavailable", "503")),
        Broken("loopback", "http://127.0.0.1/small.git", says=("PermissionDenied", "loopback")),
        Broken("git-protocol", f"git://{c.host}/small.git", says=("PermissionDenied", "scheme git")),
        Broken("password-in-url", f"http://git:secret@{c.host}/small.git", says=(wrong, "holds a password")),
    ]


def run(c):
    volumes = anywhere(c)
    if isinstance(c, Node):
        volumes += on_the_node()
        c.apply(*keys_and_passwords(c))
    c.apply(*(volume.pod() for volume in volumes))
    wrong = []
    for volume in volumes:
        try:
            c.event(volume.name, *volume.says, seconds=90)
        except Failed as failed:
            wrong.append(str(failed))
    if wrong:
        raise Failed("\n".join(wrong))
    said = "\n".join(c.events())
    for private in ("git:secret", "BEGIN OPENSSH"):
        if private in said:
            raise Failed(f"an event shows a secret: {private}")
    print(f"   {len(volumes)} broken volumes")
