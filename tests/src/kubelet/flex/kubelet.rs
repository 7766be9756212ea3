//! Set-up and tear-down of a pod's volume (pkg/volume/flexvolume/mounter.go, unmounter.go, plugin.go).

use std::collections::BTreeSet;
use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use nix::sys::signal::Signal;

use super::answer::Answer;
use super::answer::Capabilities;
use super::call::DriverCall;
use super::call::Finished;
use super::call::Plugin;
use super::volume::Volume;
use crate::kubelet::Pod;
use crate::volumes::mounts_on;

const NOT_SUPPORTED: &str = "Not supported";

/// A kubelet with one FlexVolume driver.
pub struct Kubelet {
    root: PathBuf,
    plugin: Plugin,
    /// Whether to handle answers that break the contract as the kubelet does, instead of failing the test.
    tolerant: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    capabilities: Capabilities,
    /// Commands that the kubelet no longer calls.
    unsupported: BTreeSet<String>,
    calls: Vec<String>,
    log: String,
}

/// Why a volume could not be set up or torn down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The driver's message, or what is wrong with its answer.
    pub reason: String,
    /// The event for the pod's owner or, for a tear-down, for the admin.
    pub event: String,
}

/// A set-up in progress.
pub struct SettingUp<'a> {
    kubelet: &'a Kubelet,
    name: String,
    target: PathBuf,
    read_only: bool,
    call: Option<Begun>,
}

/// A tear-down in progress.
pub struct TearingDown<'a> {
    kubelet: &'a Kubelet,
    name: String,
    target: PathBuf,
    call: Option<Begun>,
}

enum Begun {
    Called(DriverCall),
    Unsupported,
}

impl Kubelet {
    /// Starts a kubelet with pods below `root`, which must accept the driver.
    pub fn start(root: &Path, plugin: Plugin) -> Self {
        let kubelet = Self { root: root.to_owned(), plugin, tolerant: false, state: Mutex::default() };
        kubelet.restart();
        kubelet
    }

    /// Starts one that tolerates every answer that does not crash it.
    pub fn start_tolerant(root: &Path, plugin: Plugin) -> Result<Self, Failed> {
        let kubelet = Self { root: root.to_owned(), plugin, tolerant: true, state: Mutex::default() };
        kubelet.probe().map(|()| kubelet)
    }

    /// Forgets everything except what it finds on the machine, and probes the driver.
    pub fn restart(&self) {
        self.probe().unwrap_or_else(|failed| panic!("no volume plugin matched: {}", failed.reason));
    }

    /// Runs at start and after a file event in the driver's directory.
    fn probe(&self) -> Result<(), Failed> {
        self.lock().unsupported.clear();
        let call = self.call("init", ["init"]);
        let answer = self.conclude(call.map(DriverCall::wait))?;
        let capabilities = answer.capabilities.expect("the kubelet crashes: nil pointer dereference of capabilities");
        assert!(self.tolerant || !capabilities.attach, "the driver wants an attach call before each mount");
        self.lock().capabilities = capabilities;
        Ok(())
    }

    /// The driver, for calls that the kubelet would not make.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Where a pod's volume is mounted.
    pub fn target(&self, pod: &Pod, volume: &Volume) -> PathBuf {
        let pods = self.root.join("pods").join(&pod.uid);
        pods.join("volumes").join(self.plugin.escaped_name()).join(&volume.name)
    }

    /// The commands with which the driver was called.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// The kubelet's log about the driver.
    pub fn log(&self) -> String {
        self.lock().log.clone()
    }

    /// Sets a volume up for a pod.
    pub fn set_up(&self, pod: &Pod, volume: &Volume) -> Result<(), Failed> {
        self.begin_set_up(pod, volume).wait()
    }

    /// Sets it up, which must succeed, and returns its target.
    pub fn must_set_up(&self, pod: &Pod, volume: &Volume) -> PathBuf {
        self.set_up(pod, volume).unwrap_or_else(|failed| panic!("{}", failed.event));
        self.target(pod, volume)
    }

    /// The same without waiting: `SetUpAt` up to the driver's call.
    pub fn begin_set_up(&self, pod: &Pod, volume: &Volume) -> SettingUp<'_> {
        let target = self.target(pod, volume);
        let call = (mounts_on(&target) == 0).then(|| {
            DirBuilder::new().recursive(true).mode(0o750).create(&target).unwrap();
            self.call("mount", ["mount", target.to_str().unwrap(), &volume.json(pod)])
                .map_or(Begun::Unsupported, Begun::Called)
        });
        SettingUp { kubelet: self, name: volume.name.clone(), target, read_only: volume.is_read_only(), call }
    }

    /// Tears a pod's volume down.
    pub fn tear_down(&self, pod: &Pod, volume: &Volume) -> Result<(), Failed> {
        self.begin_tear_down(pod, volume).wait()
    }

    /// Tears it down, which must succeed.
    pub fn must_tear_down(&self, pod: &Pod, volume: &Volume) {
        self.tear_down(pod, volume).unwrap_or_else(|failed| panic!("{}", failed.event));
        let target = self.target(pod, volume);
        assert!(!exists(&target), "{} is still there", target.display());
    }

    /// The same without waiting: `TearDownAt` up to the driver's call.
    pub fn begin_tear_down(&self, pod: &Pod, volume: &Volume) -> TearingDown<'_> {
        let target = self.target(pod, volume);
        let call = exists(&target).then(|| {
            self.call("unmount", ["unmount", target.to_str().unwrap()]).map_or(Begun::Unsupported, Begun::Called)
        });
        TearingDown { kubelet: self, name: volume.name.clone(), target, call }
    }

    /// Calls the driver, unless it has answered that it does not support this.
    fn call<const N: usize>(&self, command: &str, arguments: [&str; N]) -> Option<DriverCall> {
        let mut state = self.lock();
        if state.unsupported.contains(command) {
            return None;
        }
        state.calls.push(command.to_owned());
        drop(state);
        Some(self.plugin.spawn(arguments))
    }

    /// How the kubelet handles a driver's exit (`DriverCall.Run`, `handleCmdResponse`).
    fn conclude(&self, finished: Option<Finished>) -> Result<Answer, Failed> {
        let Some(finished) = finished else { return Err(Failed::because(NOT_SUPPORTED)) };
        if !self.tolerant {
            finished.answer();
            self.plugin.assert_untouched();
        }
        let output = String::from_utf8_lossy(&finished.output);
        let answer = self.read_answer(&finished.command, &finished.output);
        if answer.as_ref().is_err_and(|failed| failed.reason == NOT_SUPPORTED) {
            self.lock().unsupported.insert(finished.command.clone());
        }
        match answer {
            answer if finished.status.success() => answer,
            Ok(_) => Err(Failed::because(&finished.status.to_string())),
            Err(failed) if failed.reason == NOT_SUPPORTED => Err(failed),
            Err(failed) => {
                // Includes secrets: this is why a driver must always exit with 0.
                let (arguments, status) = (&finished.arguments, finished.status);
                self.note(&format!("driver call failed: args: {arguments}, error: {status}, output: {output:?}"));
                Err(failed)
            }
        }
    }

    fn read_answer(&self, command: &str, output: &[u8]) -> Result<Answer, Failed> {
        match Answer::decode(output) {
            Ok(answer) if answer.status == "Success" => Ok(answer),
            Ok(answer) if answer.status == NOT_SUPPORTED => Err(Failed::because(NOT_SUPPORTED)),
            Ok(Answer { status, message, .. }) => Err(Failed {
                event: format!("{command} command failed, status: {status}, reason: {message}"),
                reason: message,
            }),
            Err(error) => {
                let output = String::from_utf8_lossy(output);
                self.note(&format!(
                    "Failed to unmarshal output for command: {command}, output: {output:?}, error: {error}"
                ));
                Err(Failed::because(&error))
            }
        }
    }

    fn note(&self, line: &str) {
        let mut state = self.lock();
        state.log.push_str(line);
        state.log.push('\n');
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DriverCall {
    /// Kills the driver with SIGKILL and waits for its exit.
    pub fn kill(self) -> Finished {
        self.signal(Signal::SIGKILL);
        self.wait()
    }
}

impl SettingUp<'_> {
    /// The driver's process id. There is none if the kubelet found a mount.
    pub fn id(&self) -> u32 {
        self.driver().id()
    }

    /// Sends the driver a signal.
    pub fn signal(&self, signal: Signal) {
        self.driver().signal(signal);
    }

    fn driver(&self) -> &DriverCall {
        match &self.call {
            Some(Begun::Called(call)) => call,
            _ => panic!("the driver has not been called for {}", self.name),
        }
    }

    /// Waits for the driver's answer and completes `SetUpAt`.
    pub fn wait(mut self) -> Result<(), Failed> {
        let finished = match self.call.take() {
            None => return Ok(()),
            Some(Begun::Called(call)) => Some(call.wait()),
            Some(Begun::Unsupported) => None,
        };
        let answer = self.kubelet.conclude(finished);
        self.conclude(answer)
    }

    /// Kills the driver, and acts as the kubelet does when its driver dies.
    pub fn kill(mut self) -> Failed {
        let Some(Begun::Called(call)) = self.call.take() else { panic!("there is no driver to kill") };
        let finished = call.kill();
        assert!(finished.output.is_empty(), "the driver has answered: {:?}", String::from_utf8_lossy(&finished.output));
        self.conclude(Err(Failed::because("unexpected end of JSON input"))).unwrap_err()
    }

    fn conclude(&self, answer: Result<Answer, Failed>) -> Result<(), Failed> {
        match answer {
            Ok(_) => {
                let walks = !self.read_only && self.kubelet.lock().capabilities.fs_group;
                assert!(self.kubelet.tolerant || !walks, "the kubelet changes the owner of all files of {}", self.name);
                Ok(())
            }
            Err(failed) => {
                // `os.Remove`, whose error the kubelet ignores.
                drop(std::fs::remove_dir(&self.target));
                Err(failed.of("MountVolume.SetUp", &self.name))
            }
        }
    }
}

impl TearingDown<'_> {
    /// Waits for the driver's answer and completes `TearDownAt`.
    pub fn wait(mut self) -> Result<(), Failed> {
        let finished = match self.call.take() {
            None => return Ok(()),
            Some(Begun::Called(call)) => Some(call.wait()),
            Some(Begun::Unsupported) => None,
        };
        let unmounted = match self.kubelet.conclude(finished) {
            Ok(_) => Ok(()),
            Err(failed) if failed.reason == NOT_SUPPORTED => unmount(&self.target),
            Err(failed) => Err(failed),
        };
        let removed = unmounted.and_then(|()| match std::fs::remove_dir(&self.target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failed::because(&error.to_string())),
            _ => Ok(()),
        });
        removed.map_err(|failed| failed.of("UnmountVolume.TearDown", &self.name))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.event)
    }
}

impl Failed {
    fn because(reason: &str) -> Self {
        Self { reason: reason.to_owned(), event: reason.to_owned() }
    }

    fn of(self, operation: &str, volume: &str) -> Self {
        Self { event: format!("{operation} failed for volume {volume:?} : {}", self.event), ..self }
    }
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// How the kubelet itself unmounts for a driver without `unmount`.
fn unmount(target: &Path) -> Result<(), Failed> {
    if mounts_on(target) == 0 {
        return Ok(());
    }
    nix::mount::umount(target).map_err(|error| Failed::because(&error.to_string()))
}
