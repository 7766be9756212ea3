//! A machine with a kubelet and the driver. Everything that they share is on a new file system of the test.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use nix::mount::MntFlags;
use nix::sys::signal::Signal;
use serde_json::Value;
use serde_json::json;

use super::super::configuration;
use super::driver::Driver;
use super::kubelet::Kubelet;
use crate::loopfs::LoopFs;
use crate::volumes;

/// The driver's name.
pub const DRIVER: &str = "csi.gitrepo.internal";

/// One machine, visible to this thread and those it starts. It vanishes with them, however they end.
pub struct Node {
    kubelet: Kubelet,
    driver: Mutex<Option<Driver>>,
    home: PathBuf,
    _file_system: LoopFs,
}

impl Node {
    /// A machine with a file system of `bytes` and a running, registered driver that allows servers on the loopback;
    /// `None` without root.
    pub fn new(bytes: u64) -> Option<Self> {
        Self::configured(bytes, &json!({}))
    }

    /// The same with more configuration.
    pub fn configured(bytes: u64, fields: &Value) -> Option<Self> {
        let file_system = LoopFs::if_possible(bytes)?;
        let home = file_system.path().canonicalize().unwrap();
        let kubelet = Kubelet::new(&home.join("kubelet"), DRIVER);
        let node = Self { kubelet, driver: Mutex::default(), home, _file_system: file_system };
        node.configure(fields);
        node.start_driver();
        Some(node)
    }

    /// The kubelet.
    pub fn kubelet(&self) -> &Kubelet {
        &self.kubelet
    }

    /// The root of the file system.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.home.join("store")
    }

    /// Changes the driver's configuration from its next start on: these fields, and those for servers on the loopback.
    pub fn configure(&self, fields: &Value) {
        configuration::write(&self.home.join("config.json"), fields);
    }

    /// The driver's flags.
    pub fn flags(&self) -> Vec<OsString> {
        let home = self.home.display();
        let flags = [
            format!("--endpoint=unix://{home}/kubelet/plugins/{DRIVER}/csi.sock"),
            "--node-id=node-1".to_owned(),
            format!("--store={home}/store"),
            format!("--config={home}/config.json"),
            format!("--kubelet-dir={home}/kubelet"),
            format!("--kubelet-registration-dir={home}/kubelet/plugins_registry"),
            "--http=127.0.0.1:0".to_owned(),
            "--log-level=debug".to_owned(),
            "--finish-within=30".to_owned(),
        ];
        flags.map(OsString::from).into()
    }

    /// Starts the driver and waits until it is registered.
    pub fn start_driver(&self) {
        let log = self.log_file();
        *self.lock() = Some(Driver::start(&self.flags(), &log));
        self.kubelet.register();
    }

    /// The driver's process id.
    pub fn driver_id(&self) -> u32 {
        self.lock().as_ref().expect("the driver runs").process.id()
    }

    /// Sends the driver a signal.
    pub fn signal_driver(&self, signal: Signal) {
        self.lock().as_ref().expect("the driver runs").process.signal(signal);
    }

    /// Kills the driver with SIGKILL.
    pub fn kill_driver(&self) {
        self.signal_driver(Signal::SIGKILL);
        self.wait_for_driver();
    }

    /// Asks the driver to stop, and waits for its exit.
    pub fn stop_driver(&self) -> ExitStatus {
        self.signal_driver(Signal::SIGTERM);
        self.wait_for_driver()
    }

    /// Waits for the driver's exit.
    pub fn wait_for_driver(&self) -> ExitStatus {
        let driver = self.lock().take();
        driver.expect("the driver runs").process.wait().status
    }

    /// The driver's log file.
    pub fn log_file(&self) -> PathBuf {
        self.home.join("driver.log")
    }

    /// The driver's log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Gets a page of the driver's HTTP server: its status and text.
    pub fn get(&self, page: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http_address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?} is no answer"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("{head:?} has no status")), body.to_owned())
    }

    /// One value of the driver's metrics, by its exact name and labels; 0 if missing.
    pub fn metric(&self, name: &str) -> f64 {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200, "{text}");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value}")))
    }

    /// The address of the HTTP server that the driver logged last.
    fn http_address(&self) -> String {
        let log = self.log();
        let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut addresses = lines.filter_map(|line| Some(line.get("http")?.as_str()?.to_owned()));
        addresses.next().unwrap_or_else(|| panic!("no address in {log}"))
    }

    /// Mounts on `target`.
    pub fn mounts_on(&self, target: &Path) -> usize {
        volumes::mounts_on(target)
    }

    /// The mounts in the kubelet's directory and in the store.
    pub fn mounts(&self) -> Vec<PathBuf> {
        volumes::mounts_below(&self.home)
    }

    /// Loses the driver and all mounts, as in a reboot; the store's records become those of another boot. Starts
    /// neither the kubelet nor the driver.
    pub fn go_down(&self) {
        self.kill_driver();
        for mount in self.mounts().into_iter().rev() {
            nix::mount::umount2(&mount, MntFlags::MNT_DETACH).unwrap();
        }
        volumes::forget_boot(&self.store());
    }

    /// Fails if anything is left of published volumes, work in flight or crashes.
    pub fn assert_nothing_published(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind: {left:#?}\n{}", self.log());
    }

    /// What is left of published volumes, work in flight or crashes.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut left = self.mounts();
        let pods = volumes::entries(&self.kubelet.root().join("pods"));
        left.extend(pods.iter().flat_map(|pod| volumes::entries(&pod.join("volumes/kubernetes.io~csi"))));
        left.extend(volumes::leftovers(&self.store(), Path::new("/nowhere")));
        left
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Driver>> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
