//! Output of the daemons' log: the journal with its fields, or standard error as text.

use std::os::unix::fs::MetadataExt as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging for `program`. `RUST_LOG` sets the filter; by default all messages from level `info` are logged.
pub fn start(program: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let journal = error_is_journal().then(tracing_journald::layer);
    if let Some(Ok(journal)) = journal {
        // Event fields become HALLIGAN_ALARM=, HALLIGAN_ERROR= and so on: `journalctl HALLIGAN_ALARM=fork`.
        let journal = journal.with_field_prefix(Some("HALLIGAN".into()));
        let journal = journal.with_syslog_identifier(program.to_owned());
        tracing_subscriber::registry().with(filter).with(journal).init();
    } else {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
}

/// Returns true if standard error is connected to the journal and not redirected (systemd.exec(5), `$JOURNAL_STREAM`).
fn error_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|error| stream == format!("{}:{}", error.dev(), error.ino()))
}

/// Runs `work` and returns what its thread logs meanwhile from level `info`, one line for each message.
#[cfg(test)]
pub(crate) fn captured(work: impl FnOnce()) -> String {
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&bytes).into_owned()
}
