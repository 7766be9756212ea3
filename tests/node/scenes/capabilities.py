"""The CSI driver holds only the capabilities that its manifest lists, although a privileged container gets all."""

from harness.outcome import check, equal

NEEDS_NODE = True
# In the order of linux/capability.h, up to the last that the manifests name.
NAMES = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
]  # fmt: skip


def names(bits):
    return {NAMES[number] if number < len(NAMES) else str(number) for number in range(64) if bits >> number & 1}


def run(c):
    system = c.in_namespace("kube-system")
    driver = system.get("daemonset", "gitrepo-csi-node")["spec"]["template"]["spec"]["containers"][0]
    listed = set(driver["securityContext"]["capabilities"]["add"])
    check("SYS_ADMIN" in listed, f"the manifest lists {listed}")
    with open(f"/proc/{c.driver_pid()}/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    for kind in ("CapEff", "CapPrm", "CapBnd"):
        held = names(int(status[kind], 16))
        equal(held - listed, set(), f"{kind} {status[kind]}: capabilities that the manifest does not list")
        check("SYS_ADMIN" in held, f"{kind} {status[kind]}: the driver cannot mount")
    equal(int(status["CapAmb"], 16), 0, "ambient capabilities, which programs that it starts would inherit")
