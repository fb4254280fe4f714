//! Configuration file of the daemon.

use std::path::Path;

use halligan::dataplane::config::Config;
use halligan::platform::configuration::{ConfigError, parse};

/// Checks that a configuration is accepted with all values within their limits, or refused in one line that states the
/// position of the fault.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let path = Path::new("/etc/halligan/halligand.toml");
    match parse::<Config>(path, text) {
        Ok(config) => {
            assert!(parse::<toml::Table>(path, text).is_ok());
            assert!((1..=3600).contains(&config.peers.interval_seconds) && config.peers.urls.len() <= 64);
            assert!(
                config.upstream_identity.as_ref().is_none_or(|identity| identity.lifetime_seconds <= 3600)
            );
            let retention = config.audit.retention();
            assert_eq!(retention.seconds.is_none(), config.audit.retain_days == 0);
            let (_, _, _) =
                (config.staleness(), config.glass.limits(), config.with_credentials(|_| None).key_file());
            true
        }
        Err(ConfigError::Parse { line, what, .. }) => {
            assert!((1..=text.matches('\n').count() + 1).contains(&line), "line {line}");
            assert!(!what.is_empty() && !what.contains(char::is_control), "{what:?}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}
