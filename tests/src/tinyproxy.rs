//! tinyproxy, a proxy as companies run it, in a private network.

use std::net::TcpStream;

use crate::foreground::Place;
use crate::foreground::Server;

/// Its port, in a network where every port is free.
const PORT: u16 = 8888;

/// A running tinyproxy.
pub struct Tinyproxy {
    // In this order: the server ends before its directory does.
    _server: Server,
    place: Place,
}

impl Tinyproxy {
    /// Starts it in the thread's network, see [`crate::namespace::private_network`]; it may want a user and a password.
    /// [`require::tool`][crate::require::tool]`("tinyproxy")` says whether it can.
    pub fn start(login: Option<(&str, &str)>) -> Self {
        let place = Place::new();
        let login = login.map(|(user, password)| format!("BasicAuth {user} {password}\n")).unwrap_or_default();
        let log = place.write("requests", "");
        let configuration = format!(
            "Port {PORT}\nListen 127.0.0.1\nTimeout 600\nLogFile \"{log}\"\nLogLevel Connect\nMaxClients 50\n{login}"
        );
        let configuration = place.write("configuration", &configuration);
        let mut server = place.start("tinyproxy", &["-d", "-c", &configuration]);
        server.wait(&place, || TcpStream::connect(("127.0.0.1", PORT)).is_ok());
        Self { _server: server, place }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{PORT}")
    }

    /// What it was asked for, such as `CONNECT 127.0.0.1:443 HTTP/1.1`, refused requests included.
    pub fn requests(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.place.path("requests")).unwrap();
        let lines = log.lines().filter(|line| line.contains("Request (file descriptor"));
        lines.filter_map(|line| line.split_once("): ").map(|(_, request)| request.to_owned())).collect()
    }
}
