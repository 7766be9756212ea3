//! The installed driver: an executable in a directory named after its vendor and itself, with its
//! configuration beside it.

use std::ffi::OsStr;
use std::fs;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_flex::configuration::OF_THE_DRIVER as CONFIGURATION;

use crate::arguments::DriverLocation;
use crate::arguments::Making;
use crate::directory;
use crate::directory::LockedDirectory;
use crate::error::InstallError;
use crate::predecessor;
use crate::program::Program;
use crate::settings::Settings;

const EXECUTABLE_MODE: u32 = 0o755;

/// The kubelet runs the driver as root, so no other user needs to read its configuration.
const CONFIGURATION_MODE: u32 = 0o600;

/// The paths of one driver.
#[derive(Debug)]
pub(crate) struct Driver {
    plugin_directory: PathBuf,
    directory: PathBuf,
    name: String,
}

impl Driver {
    /// Returns the paths of the driver `<plugin directory>/<vendor>~<driver>/<driver>`.
    pub(crate) fn of(place: &DriverLocation) -> Self {
        Self {
            plugin_directory: place.plugin_dir.clone(),
            directory: place.plugin_dir.join(format!("{}~{}", place.vendor, place.driver)),
            name: place.driver.to_string(),
        }
    }

    /// Returns the directory of the executable and its configuration.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the name that the kubelet gives to directories of this driver's volumes.
    pub(crate) fn directory_name(&self) -> &OsStr {
        self.directory.file_name().unwrap_or_default()
    }

    /// Returns the path of the installed executable.
    pub(crate) fn executable(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Returns the path of the installed configuration.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.directory.join(CONFIGURATION)
    }

    /// Installs missing or different files, and removes files of unfinished installations and of the bash driver.
    pub(crate) fn install(
        &self,
        mut program: &Program,
        settings: &Settings,
        making: &Making,
    ) -> Result<(), InstallError> {
        self.find_plugin_directory(making.create)?;
        let directory = LockedDirectory::make(&self.directory)?;
        // Write the configuration first: the kubelet calls the executable as soon as it appears.
        let configuration = directory.put(CONFIGURATION, CONFIGURATION_MODE, &mut settings.content.as_slice())?;
        let executable = directory.put(&self.name, EXECUTABLE_MODE, &mut program)?;
        let (driver, version) = (self.executable(), env!("CARGO_PKG_VERSION"));
        if executable {
            tracing::info!(driver = %driver.display(), version, "installed");
        }
        if configuration {
            tracing::info!(configuration = %self.configuration().display(), "configured");
        }
        if !executable && !configuration {
            tracing::info!(driver = %driver.display(), version, "installed already");
        }
        self.clear(&directory)?;
        predecessor::remove(&self.plugin_directory, &self.executable(), making.predecessor_dir.as_deref())
    }

    /// Removes the driver, and its directory if the directory is then empty.
    pub(crate) fn uninstall(&self) -> Result<(), InstallError> {
        let Some(directory) = LockedDirectory::open(&self.directory)? else {
            tracing::info!(directory = %self.directory.display(), "there is no driver to remove");
            return Ok(());
        };
        self.remove_unfinished(&directory)?;
        let removed = directory.remove(&self.name)?;
        directory.remove(CONFIGURATION)?;
        match fs::remove_dir(directory.path()) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                tracing::warn!(directory = %self.directory.display(), "not removed: the directory has other files");
            }
            emptied => emptied.map_err(InstallError::io("remove", directory.path()))?,
        }
        tracing::info!(driver = %self.executable().display(), removed, "uninstalled");
        Ok(())
    }

    /// Fails unless [`Driver::install`] would change nothing.
    pub(crate) fn check(&self, mut program: &Program, settings: &Settings) -> Result<(), InstallError> {
        let configuration = &mut settings.content.as_slice();
        let differences = [
            (self.executable(), directory::difference(&self.executable(), EXECUTABLE_MODE, &mut program)?),
            (self.configuration(), directory::difference(&self.configuration(), CONFIGURATION_MODE, configuration)?),
        ];
        match differences.into_iter().find_map(|(path, difference)| Some((path, difference?))) {
            Some((path, difference)) => Err(InstallError::Unhealthy { path, difference }),
            None => Ok(()),
        }
    }

    fn find_plugin_directory(&self, create: bool) -> Result<(), InstallError> {
        let path = &self.plugin_directory;
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(InstallError::NotADirectory { path: path.clone() }),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(InstallError::io("examine", path)(error)),
            Err(_) if !create => Err(InstallError::NoPluginDirectory { path: path.clone() }),
            Err(_) => {
                let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
                made.map_err(InstallError::io("make the directory", path))
            }
        }
    }

    /// Removes unfinished files of this installer and the bash driver's. Logs and keeps unknown files.
    fn clear(&self, directory: &LockedDirectory) -> Result<(), InstallError> {
        self.remove_unfinished(directory)?;
        for name in directory.names()? {
            if name != self.name && name != CONFIGURATION && !predecessor::is_known(&name) {
                tracing::warn!(path = %self.directory.join(name).display(), "not removed: not the driver's");
            }
        }
        Ok(())
    }

    fn remove_unfinished(&self, directory: &LockedDirectory) -> Result<(), InstallError> {
        let names = [
            directory::unfinished(&self.name),
            directory::unfinished(CONFIGURATION),
            predecessor::unfinished(&self.name),
        ];
        for name in names {
            if directory.remove(&name)? {
                tracing::info!(path = %self.directory.join(name).display(), "removed: left by an installer that died");
            }
        }
        Ok(())
    }
}
