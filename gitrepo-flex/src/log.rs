//! Logs to a file and to syslog, since the kubelet reads standard output and error.
//!
//! Errors of logging are ignored, and logging never blocks a call: the volume matters more. The file is not in the
//! plugin directory, where every change makes the kubelet probe all drivers again.

use std::io;
use std::path::Path;
use std::sync::Arc;

use gitrepo_frontend::audit;
use gitrepo_frontend::log::LogConfig;
use gitrepo_frontend::log::LogFormat;
use tracing::Level;
use tracing::Metadata;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

mod file;
mod syslog;

use file::LogFile;
use syslog::Syslog;

/// The log file.
const FILE: &str = "/var/log/gitrepo-flex.log";

/// Starts logging. The audit log has no level of its own.
pub(crate) fn start(config: &LogConfig) {
    let places = Arc::new(Places { file: LogFile::open(Path::new(FILE)), syslog: Syslog::open() });
    let filter = Targets::new().with_default(Level::from(config.level)).with_target(audit::TARGET, Level::INFO);
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Writer(places)).log_internal_errors(false);
    let lines = match config.format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    // This fails only if logging was started before.
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().ok();
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
