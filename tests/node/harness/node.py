"""The node of a cluster, for scenes that need its root: mounts, processes, the git server's log."""

import glob
import json
import os
import signal
import subprocess
import sys

from .cluster import Cluster
from .outcome import Failed, check, equal

KUBELET_DIR = os.environ.get("KUBELET_DIR", "/var/lib/kubelet")
STORE = os.environ.get("STORE", "/var/lib/gitrepo")
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VOLUMES = ("kubernetes.io~csi", "piersharding~gitrepo")


class Node(Cluster):
    """A cluster of one node, which is this machine."""

    def __init__(self, git):
        super().__init__(git)
        self.directory = os.environ["NODE_DIR"]
        self.log = os.environ["NODE_LOG"]

    # Processes

    def pid(self, name):
        """The process of the node's program, such as kubelet."""
        with open(f"{self.directory}/run/{name}.pid") as file:
            return int(file.read())

    def kill(self, pid):
        os.kill(pid, signal.SIGKILL)
        self.until(f"the end of process {pid}", lambda: not os.path.exists(f"/proc/{pid}"), seconds=20)

    def up(self):
        """Restarts programs that do not run."""
        done = subprocess.run(["bash", f"{HERE}/up.sh"], capture_output=True, text=True, timeout=300)
        check(done.returncode == 0, f"up.sh: {done.stderr}")

    def driver_pid(self):
        """The process of the driver's container, on the node."""
        pod = self.in_namespace(self.drivers).get("pod", self.driver_pod())
        container = pod["status"]["containerStatuses"][0]["containerID"].split("//")[1]
        for line in self.ctr("task", "ls").splitlines()[1:]:
            name, pid, _ = line.split()
            if name == container:
                return int(pid)
        raise Failed(f"containerd has no task {container}")

    def ctr(self, *words):
        return subprocess.run(["ctr", *words], check=True, capture_output=True, text=True, timeout=60).stdout

    # Mounts and the store

    def mounts(self):
        """Mount points of this machine, with their options."""
        with open("/proc/self/mountinfo") as file:
            return [(line.split()[4], line.split()[5]) for line in file]

    def volume_mounts(self, uid=""):
        """The mounts of the drivers' volumes, of one pod or of all."""
        start = f"{KUBELET_DIR}/pods/{uid}"
        return [path for path, _ in self.mounts() if path.startswith(start) and any(name in path for name in VOLUMES)]

    def uid(self, pod):
        return self.get("pod", pod)["metadata"]["uid"]

    def volumes_on_record(self):
        """The output of `gitrepo-cli ls` in the driver's container."""
        return json.loads(self.driver_cli("ls", "--json"))

    def driver_cli(self, *words):
        """Runs gitrepo-cli in the driver's container."""
        driver = self.in_namespace(self.drivers)
        command = ["/bin/gitrepo-cli", *words, "--config", "/etc/gitrepo/config.json"]
        return driver.execute(self.driver_pod(), *command, container="driver")

    def left(self):
        """Leftovers of volumes, when no pods with volumes exist: mounts, directories and records."""
        found = [f"mount {path}" for path in self.volume_mounts()]
        found += [f"mount {path}" for path, _ in self.mounts() if path.startswith(f"{STORE}/")]
        for name in VOLUMES:
            found += [f"directory {path}" for path in glob.glob(f"{KUBELET_DIR}/pods/*/volumes/{name}/*")]
        found += [f"record {record}" for record in os.listdir(f"{STORE}/volumes")]
        return found

    def clean(self):
        self.until_equal(self.left, [], "left on the node", seconds=60)

    def until_equal(self, look, wanted, what, seconds=60):
        last = None

        def same():
            nonlocal last
            last = look()
            return last == wanted

        try:
            self.until(what, same, seconds)
        except Failed:
            equal(last, wanted, f"{what} after {seconds} s")

    # The git server

    def request_log(self):
        with open(f"{self.log}/git-requests.log") as file:
            return file.read()

    def slow_rate(self, rate):
        with open(f"{self.directory}/run/slow-rate", "w") as file:
            file.write(str(rate))

    def ssh(self, name):
        with open(f"{self.directory}/ssh/{name}") as file:
            return file.read()

    def host_key(self, name, host="git.example.com"):
        """A line for known_hosts."""
        return f"{host} {' '.join(self.ssh(f'{name}.pub').split()[:2])}\n"

    def advance(self, name):
        """One more commit on main of the repository."""
        sys.path.insert(0, f"{HERE}/servers")
        import repositories

        repositories.advance(f"{self.directory}/git", name)
