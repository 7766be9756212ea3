"""The node's servers, on its own bridge: DNS, git over HTTP and HTTPS, and the API server's service address."""

import os
import threading

import forward
import git_http
import names

NODE_DIR = os.environ["NODE_DIR"]
NODE_IP = os.environ["NODE_IP"]


def main():
    log = open(f"{os.environ['NODE_LOG']}/git-requests.log", "a")
    rate = f"{NODE_DIR}/run/slow-rate"
    with open(rate, "w") as file:
        file.write("400000")
    shared = (f"{NODE_DIR}/git", log, rate)
    pki = f"{NODE_DIR}/pki"
    git_http.start(git_http.Server((NODE_IP, 80), *shared))
    git_http.start(
        git_http.TlsServer((NODE_IP, 443), *shared, certificate=f"{pki}/git.crt", key=f"{pki}/git.key")
    )
    goal = ("127.0.0.1", int(os.environ["API_PORT"]))
    service = (os.environ["SERVICE_IP"], 443)
    threading.Thread(target=forward.serve, args=(service, goal), daemon=True).start()
    names.serve(NODE_IP)


main()
