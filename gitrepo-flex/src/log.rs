//! Logs to a file and to syslog, since the kubelet reads standard output and error.
//!
//! Errors of logging are ignored, and logging never blocks a call: the volume matters more. The file is not in the
//! plugin directory, where every change makes the kubelet probe all drivers again.

use std::io;
use std::path::Path;
use std::sync::Arc;

use gitrepo_frontend::log::LogConfig;
use gitrepo_frontend::log::LogFormat;
use tracing::Level;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

mod file;
mod syslog;

use file::LogFile;
use syslog::Syslog;

/// The log file.
const FILE: &str = "/var/log/gitrepo-flex.log";

/// Starts logging.
pub(crate) fn start(config: &LogConfig) {
    let places = Arc::new(Places { file: LogFile::open(Path::new(FILE)), syslog: Syslog::open() });
    let subscriber = tracing_subscriber::fmt().with_max_level(Level::from(config.level)).with_ansi(false);
    let subscriber = subscriber.with_writer(Writer(places)).log_internal_errors(false);
    // This fails only if logging was started before.
    match config.format {
        LogFormat::Json => subscriber.json().flatten_event(true).with_current_span(false).try_init().ok(),
        LogFormat::Text => subscriber.try_init().ok(),
    };
}

struct Places {
    file: Option<LogFile>,
    syslog: Option<Syslog>,
}

struct Writer(Arc<Places>);

/// The writer of one event, which is one line in one write.
struct Line {
    places: Arc<Places>,
    level: Level,
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { places: Arc::clone(&self.0), level: Level::INFO }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        Line { level: *metadata.level(), ..self.make_writer() }
    }
}

impl io::Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(file) = &self.places.file {
            file.append(line);
        }
        if let Some(syslog) = &self.places.syslog {
            syslog.send(self.level, line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
