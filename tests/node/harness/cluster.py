"""A cluster for scenes: kubectl, in a namespace of the scene."""

import json
import os
import subprocess
import time
import urllib.parse

from . import objects
from .outcome import Failed, Skipped, check

PAUSE = 0.2


class Cluster:
    """`git` is the URL of the git server from the drivers' side."""

    def __init__(self, git, namespace="default"):
        self.git = git
        self.host = urllib.parse.urlsplit(git).hostname
        self.namespace = namespace
        self.drivers = os.environ.get("DRIVER_NAMESPACE", "kube-system")

    def url(self, name):
        return f"{self.git}/{name}.git"

    def in_namespace(self, namespace):
        other = object.__new__(type(self))
        other.__dict__ = self.__dict__ | {"namespace": namespace}
        return other

    # kubectl

    def kubectl(self, *words, given=None, expect=0, seconds=120):
        """Runs kubectl and returns its output. `expect=None` accepts every exit status."""
        command = ["kubectl", *(["-n", self.namespace] if self.namespace else []), *words]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds)
        if expect is not None and done.returncode != expect:
            raise Failed(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def get(self, kind, name=None, *words):
        """An object; without a name a list of them; None if missing."""
        printed = self.kubectl("get", kind, *([name] if name else []), *words, "--ignore-not-found", "-o", "json")
        if not printed.strip():
            return None if name else []
        found = json.loads(printed)
        return found if name else found["items"]

    def apply_text(self, text):
        """Applies a manifest that may name namespaces itself, and defaults to `default`."""
        self.in_namespace(None).kubectl("apply", "-f", "-", given=text)

    def delete_text(self, text, seconds=90):
        words = ["delete", "--ignore-not-found", f"--timeout={seconds}s", "-f", "-"]
        self.in_namespace(None).kubectl(*words, given=text, expect=None, seconds=seconds + 20)

    def apply(self, *wanted):
        self.kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(wanted)}))

    def delete(self, kind, *names, seconds=60, **flags):
        more = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        self.kubectl(
            "delete", kind, *names, "--ignore-not-found", f"--timeout={seconds}s", *more, seconds=seconds + 20
        )

    def execute(self, pod, *words, container="c", expect=0):
        return self.kubectl("exec", pod, "-c", container, "--", *words, expect=expect)

    def shell(self, pod, script, container="c"):
        """The output of a shell in the container, errors included; ignores its exit status."""
        return self.execute(pod, "sh", "-c", f"{{ {script}; }} 2>&1", container=container, expect=None)

    # Waiting for visible conditions, never for time alone.

    def until(self, what, look, seconds=60):
        """The first true result of `look`, within this many seconds."""
        end = time.monotonic() + seconds
        while True:
            answer = look()
            if answer:
                return answer
            if time.monotonic() > end:
                raise Failed(f"not within {seconds} s: {what}")
            time.sleep(PAUSE)

    def ready(self, *pods, seconds=90):
        names = [f"pod/{pod}" for pod in pods]
        try:
            self.kubectl(
                "wait", "--for=condition=Ready", *names, f"--timeout={seconds}s", seconds=seconds + 20
            )
        except Failed as failed:
            told = "; ".join(f"{pod}: {self.events(pod)[-1:]}" for pod in pods)
            raise Failed(f"{failed}. Events: {told}") from None

    def start(self, *pods, seconds=90):
        """Applies pods and waits until they are ready."""
        self.apply(*pods)
        self.ready(*(pod["metadata"]["name"] for pod in pods), seconds=seconds)

    def ended(self, pod, seconds=90):
        """The output of a pod that runs to its end."""

        def look():
            phase = (self.get("pod", pod) or {}).get("status", {}).get("phase")
            check(phase != "Failed", f"{pod} failed: {self.kubectl('logs', pod, expect=None)}")
            return phase == "Succeeded"

        self.until(f"{pod} runs to its end; its events: {self.events(pod)[-1:]}", look, seconds)
        return self.kubectl("logs", pod)

    def events(self, name=None):
        """The messages of events, as texts `Reason: message`, for one object or for the namespace."""
        selector = [f"--field-selector=involvedObject.name={name}"] if name else []
        return [f"{event['reason']}: {event['message']}" for event in self.get("events", None, *selector)]

    def event(self, pod, *parts, seconds=60):
        """An event of the pod that contains all of these texts."""

        def look():
            return next((event for event in self.events(pod) if all(part in event for part in parts)), None)

        try:
            return self.until("", look, seconds)
        except Failed:
            raise Failed(f"{pod} has no event with {parts} within {seconds} s, but {self.events(pod)}") from None

    # The git server

    def request_log(self):
        return self.in_namespace("gitrepo-e2e").kubectl("logs", "git-server")

    def requests(self, path):
        """The git server's log lines so far for a path, split into words."""
        lines = [line.split() for line in self.request_log().splitlines()]
        return [line for line in lines if len(line) > 3 and line[2].startswith(path)]

    def fetches(self, path):
        """How many fetches of the repository have begun."""
        return sum(line[3] == "fetch-begins" for line in self.requests(path))

    def fetches_ended(self, path):
        """How many fetches have ended, complete or not."""
        return sum(line[3] in ("fetch", "fetch-cut") for line in self.requests(path))

    # Namespaces

    def make_namespace(self):
        self.kubectl("create", "namespace", self.namespace)
        self.until(
            f"the service account of {self.namespace}", lambda: self.get("serviceaccount", "default"), seconds=60
        )

    def remove_namespace(self):
        """Deletes the pods first, so that a stuck one is named."""
        self.kubectl("delete", "deployments", "--all", "--wait=false")
        self.delete("pods", "--all", seconds=200)
        self.kubectl("delete", "namespace", self.namespace, "--timeout=120s", seconds=150)

    # The drivers

    def need_flexvolume(self):
        """Skips the scene if the FlexVolume driver is not installed."""
        if not self.in_namespace(self.drivers).get("daemonset", "gitrepo-flex-ds"):
            raise Skipped("the FlexVolume driver is not installed")

    def driver_pod(self):
        """The name of a running pod of the CSI driver."""
        pods = self.in_namespace(self.drivers).get(
            "pods", None, "-l", "app.kubernetes.io/name=gitrepo-csi,app.kubernetes.io/component=node"
        )
        running = [
            pod
            for pod in pods
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]
        check(running, f"no driver is running among {[pod['metadata']['name'] for pod in pods]}")
        return max(running, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"]

    def wait_for_driver(self, seconds=180):
        driver = self.in_namespace(self.drivers)
        driver.kubectl("rollout", "status", "daemonset/gitrepo-csi-node", f"--timeout={seconds}s", seconds=seconds + 20)


__all__ = ["Cluster", "objects"]
