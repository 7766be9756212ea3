//! Web servers as administrators put them in front of git: nginx with fcgiwrap, lighttpd with CGI, and dulwich, which is
//! all of it in Python.
//!
//! nginx and lighttpd listen on a Unix socket, so that the harness has the port and counts the connections.

use std::io;
use std::net::Shutdown;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::foreground::Place;
use crate::foreground::Server;
use crate::git;
use crate::listener::Listener;
use crate::repository::Repository;
use crate::require;

/// The user name that a server knows. Clients that have a token only send it along with that.
const USER: &str = "x-access-token";

/// A web server on a port of the loopback, for every repository of the machine.
pub struct WebServer {
    listener: Listener,
    // In this order: the servers end before their directory does.
    _servers: Vec<Server>,
    _place: Place,
}

impl WebServer {
    /// nginx, which hands requests to fcgiwrap, and wants this password. `None` if one of them is not installed.
    pub fn nginx(password: &str) -> Option<Self> {
        (require::tool("nginx") && require::tool("fcgiwrap")).then(|| Self::start_nginx(password))
    }

    /// lighttpd, which runs `git http-backend` itself, and wants this password. `None` if it is not installed.
    pub fn lighttpd(password: &str) -> Option<Self> {
        require::tool("lighttpd").then(|| Self::start_lighttpd(password))
    }

    /// dulwich, which lets everybody in. `None` if Debian's Python does not have it.
    pub fn dulwich() -> Option<Self> {
        let mut import = Command::new(PYTHON);
        let is_there = import.args(["-c", "import dulwich"]).output().is_ok_and(|output| output.status.success());
        require::feature(is_there, "python3-dulwich").then(Self::start_dulwich)
    }

    /// The URL of `repository`, by its path.
    pub fn url(&self, repository: &Repository) -> String {
        format!("http://127.0.0.1:{}{}", self.listener.port(), repository.path().display())
    }

    /// Connections accepted.
    pub fn connections(&self) -> u64 {
        self.listener.accepted()
    }

    /// Waits until everything that clients did before they hung up has been served.
    pub fn settle(&self) {
        self.listener.settle()
    }

    fn start_nginx(password: &str) -> Self {
        let place = place();
        let users = place.write("users", &format!("{USER}:{{PLAIN}}{password}\n"));
        let parameters: String = environment().map(|(name, value)| parameter(&name, &value)).collect();
        let configuration = format!(
            "daemon off; master_process off; pid {pid}; error_log {log}; {user}\n\
             events {{}}\n\
             http {{\n\
             access_log off; client_max_body_size 0; client_body_temp_path {temporary}; fastcgi_temp_path {temporary};\n\
             proxy_temp_path {temporary}; uwsgi_temp_path {temporary}; scgi_temp_path {temporary};\n\
             server {{\n\
             listen unix:{socket};\n\
             auth_basic git; auth_basic_user_file {users};\n\
             location / {{\n\
             fastcgi_pass unix:{backend}; fastcgi_buffering off;\n\
             fastcgi_param SCRIPT_FILENAME {program}; fastcgi_param PATH_INFO $uri;\n\
             fastcgi_param REQUEST_METHOD $request_method; fastcgi_param QUERY_STRING $query_string;\n\
             fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;\n\
             fastcgi_param GIT_PROTOCOL $http_git_protocol; fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;\n\
             fastcgi_param REMOTE_USER $remote_user; fastcgi_param REMOTE_ADDR $remote_addr;\n\
             {parameters}\
             }} }} }}\n",
            pid = place.path("pid"),
            log = place.path("log"),
            user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" },
            temporary = place.path("temporary"),
            socket = place.path("socket"),
            backend = place.path("backend"),
            program = backend().display(),
        );
        let configuration = place.write("configuration", &configuration);
        let mut wrap = place.start("fcgiwrap", &["-s", &format!("unix:{}", place.path("backend"))]);
        wrap.wait(&place, || UnixStream::connect(place.path("backend")).is_ok());
        let nginx = place.start("nginx", &["-e", &place.path("log"), "-c", &configuration]);
        Self::behind_socket(place, nginx, vec![wrap])
    }

    fn start_lighttpd(password: &str) -> Self {
        let place = place();
        let users = place.write("users", &format!("{USER}:{password}\n"));
        let environment: String = environment().map(|(name, value)| format!("\"{name}\" => \"{value}\",\n")).collect();
        let configuration = format!(
            "server.modules = (\"mod_alias\", \"mod_auth\", \"mod_authn_file\", \"mod_cgi\", \"mod_setenv\")\n\
             server.document-root = \"{root}\"\n\
             server.bind = \"{socket}\"\n\
             server.errorlog = \"{log}\"\n\
             server.upload-dirs = (\"{temporary}\")\n\
             alias.url = (\"/\" => \"{program}/\")\n\
             cgi.assign = (\"\" => \"\")\n\
             setenv.add-environment = ({environment})\n\
             auth.backend = \"plain\"\n\
             auth.backend.plain.userfile = \"{users}\"\n\
             auth.require = (\"\" => (\"method\" => \"basic\", \"realm\" => \"git\", \"require\" => \"valid-user\"))\n",
            root = place.path(""),
            socket = place.path("socket"),
            log = place.path("log"),
            temporary = place.path("temporary"),
            program = backend().display(),
        );
        let configuration = place.write("configuration", &configuration);
        let lighttpd = place.start("lighttpd", &["-D", "-f", &configuration]);
        Self::behind_socket(place, lighttpd, Vec::new())
    }

    fn start_dulwich() -> Self {
        let place = place();
        let script = place.write("serve.py", DULWICH);
        let (server, line) = place.start_and_read(PYTHON, &[&script]);
        let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("dulwich: {}", place.log()));
        let listener = Listener::start(move |stream| {
            // The client may hang up at any time.
            TcpStream::connect(("127.0.0.1", port)).and_then(|there| relay(stream, there)).unwrap_or_default();
        });
        Self { listener, _servers: vec![server], _place: place }
    }

    /// With the servers that it needs.
    fn behind_socket(place: Place, mut server: Server, needed: Vec<Server>) -> Self {
        let socket = place.path("socket");
        server.wait(&place, || UnixStream::connect(&socket).is_ok());
        let listener = Listener::start(move |stream| {
            UnixStream::connect(&socket).and_then(|there| relay(stream, there)).unwrap_or_default();
        });
        let servers = [server].into_iter().chain(needed).collect();
        Self { listener, _servers: servers, _place: place }
    }
}

const PYTHON: &str = "/usr/bin/python3";

/// dulwich's server for all repositories below /, at a port of its choice, which it prints.
const DULWICH: &str = r#"
import os
from wsgiref.simple_server import make_server
from dulwich.errors import NotGitRepository
from dulwich.repo import Repo
from dulwich.server import Backend
from dulwich.web import GunzipFilter, HTTPGitApplication, LimitedInputFilter, WSGIRequestHandlerLogger, WSGIServerLogger

class Everything(Backend):
    def open_repository(self, path):
        if not os.path.isdir(path):
            raise NotGitRepository(path)
        return Repo(path)

application = GunzipFilter(LimitedInputFilter(HTTPGitApplication(Everything())))
server = make_server("127.0.0.1", 0, application, WSGIServerLogger, WSGIRequestHandlerLogger)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// With a directory for temporary files.
fn place() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("temporary")).unwrap();
    place
}

/// The environment of `git http-backend`.
fn environment() -> impl Iterator<Item = (String, String)> {
    let own = [("GIT_PROJECT_ROOT", "/".to_owned()), ("GIT_HTTP_EXPORT_ALL", "1".to_owned())];
    git::environment().into_iter().chain(own).map(|(name, value)| (name.to_owned(), value))
}

fn parameter(name: &str, value: &str) -> String {
    format!("fastcgi_param {name} \"{value}\";\n")
}

fn backend() -> PathBuf {
    let directory = git::line(Command::new("git").arg("--exec-path"));
    Path::new(&directory).join("git-http-backend")
}

/// A stream with two ends that close one by one.
trait Duplex: io::Read + io::Write + Send + Sized {
    fn twin(&self) -> io::Result<Self>;
    fn end(&self, how: Shutdown);
}

impl Duplex for TcpStream {
    fn twin(&self) -> io::Result<Self> {
        self.set_nodelay(true)?;
        self.try_clone()
    }

    fn end(&self, how: Shutdown) {
        // The other side may have ended it.
        self.shutdown(how).unwrap_or_default();
    }
}

impl Duplex for UnixStream {
    fn twin(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn end(&self, how: Shutdown) {
        self.shutdown(how).unwrap_or_default();
    }
}

/// Carries bytes both ways until both ends have closed.
fn relay(mut client: TcpStream, mut server: impl Duplex) -> io::Result<()> {
    let (mut from_client, mut to_server) = (client.twin()?, server.twin()?);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            drop(io::copy(&mut from_client, &mut to_server));
            to_server.end(Shutdown::Write);
        });
        let copied = io::copy(&mut server, &mut client);
        // The server has hung up: so does the client's end.
        client.end(Shutdown::Both);
        copied.map(drop)
    })
}
