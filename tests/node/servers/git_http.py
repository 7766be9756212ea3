"""Git over HTTP(S): `git http-backend` over a directory of bare repositories, and ways in which servers misbehave.

/NAME.git              the repository
/team/NAME.git         the same, only for `git:secret` (basic) or `secret` (bearer)
/as/ANYTHING/NAME.git  the repository under another name, which no cache has
/slow/NAME.git         at the rate in the file `slow-rate`, in bytes per second
/silent/…              accepts the request and never answers
/down/…                503

The log has a line for each finished request: time, method, path, kind, bytes, seconds, client. The kind `fetch`
transfers a pack, and is preceded by a line `fetch-begins`; `ask` only asks. The suffix `-cut`: the client disconnected.
"""

import base64
import gzip
import os
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PASSWORDS = {"Basic " + base64.b64encode(b"git:secret").decode(), "Bearer secret"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.handle_git(b"")

    def do_POST(self):
        self.handle_git(self.body())

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return body

    def refuse(self, code, text, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def handle_git(self, body):
        started = time.time()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.kind = kind_of(body)
        self.sent = 0
        if self.kind == "fetch":
            self.note("fetch-begins", started)
        try:
            self.route(body)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.kind += "-cut"
            self.close_connection = True
        finally:
            self.note(self.kind, started)

    def note(self, kind, started):
        path = self.path.partition("?")[0]
        seconds = time.time() - started
        self.server.log(f"{started:.3f} {self.command} {path} {kind} {self.sent} {seconds:.3f} {self.client_address[0]}")

    def route(self, body):
        path, _, query = self.path.partition("?")
        rate = None
        if path.startswith("/healthy"):
            return self.refuse(200, "yes\n")
        if path.startswith("/down/"):
            return self.refuse(503, "down for maintenance\n")
        if path.startswith("/silent/"):
            # Until the client gives up.
            while self.rfile.read(1):
                pass
            self.close_connection = True
            return None
        if path.startswith("/slow/"):
            path = path.removeprefix("/slow")
            rate = self.server.slow_rate()
        if path.startswith("/as/"):
            path = "/" + path.split("/", 3)[3]
        if path.startswith("/team/") and self.headers.get("Authorization") not in PASSWORDS:
            self.kind += "-401"
            return self.refuse(401, "who are you?\n", WWW_Authenticate='Basic realm="git"')
        return self.backend(path, query, body, rate)

    def backend(self, path, query, body, rate):
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": self.server.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            # The repositories belong to another user.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_ADDR": self.client_address[0],
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        backend = subprocess.Popen(
            ["git", "http-backend"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        threading.Thread(target=feed, args=(backend.stdin, body), daemon=True).start()
        try:
            self.pass_on(backend.stdout, rate)
        finally:
            backend.stdout.close()
            backend.kill()
            backend.wait()

    def pass_on(self, answer, rate):
        code, headers = 200, []
        while line := answer.readline().strip().decode():
            name, _, value = line.partition(": ")
            if name == "Status":
                code = int(value.split()[0])
            else:
                headers.append((name, value))
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        piece = min(65536, rate // 10) if rate else 65536
        while data := answer.read1(piece):
            self.wfile.write(b"%x\r\n" % len(data) + data + b"\r\n")
            self.sent += len(data)
            if rate:
                time.sleep(len(data) / rate)
        self.wfile.write(b"0\r\n\r\n")


def kind_of(body):
    """A shallow fetch asks for the shallow boundary before it asks for the pack."""
    if not body:
        return "refs"
    return "fetch" if b"want " in body and b"done" in body else "ask"


def feed(pipe, body):
    try:
        pipe.write(body)
        pipe.close()
    except BrokenPipeError:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, root, log, rate_file):
        self.root = root
        self.log_file = log
        self.rate_file = rate_file
        super().__init__(address, Handler)

    def log(self, line):
        print(line, file=self.log_file, flush=True)

    def slow_rate(self):
        with open(self.rate_file) as file:
            return int(file.read())

    def handle_error(self, request, client_address):
        # A client may disconnect at any time.
        pass


class TlsServer(Server):
    def __init__(self, *arguments, certificate, key):
        super().__init__(*arguments)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)

    def finish_request(self, request, client_address):
        # In the request's own thread, so that a client that never sends a ClientHello blocks no other.
        request.settimeout(600)
        super().finish_request(self.context.wrap_socket(request, server_side=True), client_address)


def start(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
