//! Environment variables of deployments: their names and values, and the signed object by which a node is given them.
//!
//! The control plane refuses a variable that breaks the rules of this module, and a host writes none into the environment of
//! a service.

pub mod key;
pub mod signed;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Maximum number of variables of a deployment.
pub const MAX_VARIABLES: usize = 500;
/// Maximum length of a name, in bytes.
pub const MAX_NAME: usize = 255;
/// Maximum length of a value, in bytes. The kernel passes no string of 128 KiB to a program.
pub const MAX_VALUE: usize = 64 << 10;
/// Maximum length of all names and values of a deployment, in bytes. The kernel passes at least 2 MiB to a program, and a
/// service has variables of its own.
pub const MAX_TOTAL: usize = 256 << 10;

/// Names that no variable of a deployment may have. Most are set by systemd for the service or describe its user; a wrong
/// value would break the service's start, its readiness or its watchdog. The others say where Airflow's configuration is.
const RESERVED: [&str; 27] = [
    "AIRFLOW_CONFIG",
    "AIRFLOW_HOME",
    "BASH_ENV",
    "CACHE_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "ENV",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "HOME",
    "IFS",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LOGNAME",
    "LOGS_DIRECTORY",
    "MAINPID",
    "MANAGERPID",
    "NOTIFY_SOCKET",
    "PATH",
    "PYTHONHOME",
    "RUNTIME_DIRECTORY",
    "SHELL",
    "STATE_DIRECTORY",
    "USER",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "XDG_RUNTIME_DIR",
];

/// Beginnings of names that no variable of a deployment may have: those of the dynamic linker, of systemd and of this
/// system, and Airflow's settings for sign-in, keys and database, which belong to the host.
const RESERVED_PREFIXES: [&str; 13] = [
    "AIRFLOW__API_AUTH__",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__CORE__AUTH_MANAGER",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_",
    "AIRFLOW__CORE__SQL_ALCHEMY_",
    "AIRFLOW__DATABASE__",
    "AIRFLOW__FAB__AUTH_",
    "AIRFLOW__WEBSERVER__SECRET_KEY",
    "HALLIGAN_",
    "LD_",
    "LISTEN_",
    "SYSTEMD_",
];

/// The control plane's answer to a node that says which [versions](crate::protocol::version::HeldVersions) of environments it
/// holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct EnvironmentAnswer {
    /// Environments of which the node holds another version, or none, each as a compact JWS.
    pub environments: Vec<String>,
    /// Deployment after which the answer goes on; absent from the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Reasons to refuse a variable. None of them quotes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VariableFault {
    /// The name is malformed.
    #[error("a name has 1 to {MAX_NAME} letters, digits and underscores, and does not begin with a digit")]
    Name,
    /// The name is reserved.
    #[error("this name is reserved; the host, the service manager or Airflow's sign-in depends on it")]
    Reserved,
    /// The value is too long.
    #[error("a value has at most {MAX_VALUE} bytes")]
    Long,
    /// The value has a character that no environment variable can have.
    #[error("a value holds neither NUL nor a code point that Unicode assigns to no character")]
    Value,
}

/// Checks the name of a variable.
///
/// ```
/// use halligan::protocol::environment::{VariableFault, check_variable_name};
///
/// assert!(check_variable_name("AIRFLOW_CONN_DB").is_ok());
/// assert!(matches!(check_variable_name("1ST"), Err(VariableFault::Name)));
/// ```
pub fn check_variable_name(name: &str) -> Result<(), VariableFault> {
    let well_formed = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit());
    if !well_formed {
        return Err(VariableFault::Name);
    }
    let reserved =
        RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if reserved { Err(VariableFault::Reserved) } else { Ok(()) }
}

/// Checks the value of a variable.
///
/// ```
/// use halligan::protocol::environment::{VariableFault, check_variable_value};
///
/// assert!(check_variable_value("two\nlines").is_ok());
/// assert!(matches!(check_variable_value("a\0b"), Err(VariableFault::Value)));
/// ```
pub fn check_variable_value(value: &str) -> Result<(), VariableFault> {
    if value.len() > MAX_VALUE {
        return Err(VariableFault::Long);
    }
    // systemd drops an assignment with a noncharacter (Unicode section 23.7), and the service would start without it.
    let refused = |char: char| {
        let code = u32::from(char);
        code == 0 || (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
    };
    if value.contains(refused) { Err(VariableFault::Value) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_a_variable_and_not_one_that_the_host_needs() {
        for good in [
            "A",
            "_",
            "a1",
            "AIRFLOW__CORE__PARALLELISM",
            "AIRFLOW_CONN_DB",
            "PYTHONPATH",
            "PATHS",
            "path",
            &"x".repeat(255),
        ] {
            assert_eq!(check_variable_name(good), Ok(()), "{good}");
        }
        for bad in ["", "1A", "A-B", "A B", "A=", "PATH=", "Ä", "A\n", "A\0", "export A", &"x".repeat(256)] {
            assert_eq!(check_variable_name(bad), Err(VariableFault::Name), "{bad:?}");
        }
        for reserved in [
            "PATH",
            "LD_PRELOAD",
            "LD_",
            "HALLIGAN_API_TOKEN",
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "HOME",
            "AIRFLOW_HOME",
            "AIRFLOW__API_AUTH__TRUSTED_JWKS_URL",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
            "AIRFLOW__CORE__FERNET_KEY",
            "AIRFLOW__CORE__FERNET_KEY_CMD",
            "AIRFLOW__CORE__AUTH_MANAGER",
        ] {
            assert_eq!(check_variable_name(reserved), Err(VariableFault::Reserved), "{reserved}");
        }
    }

    #[test]
    fn a_value_is_any_text_that_a_program_can_be_given() {
        for good in ["", " ", "a\nb\tc\r", "\"'\\$`", "\u{1}\u{7f}\u{85}", "ä€😀", &"x".repeat(MAX_VALUE)]
        {
            assert_eq!(check_variable_value(good), Ok(()), "{good:?}");
        }
        for bad in ["\0", "a\0b", "\u{fdd0}", "\u{fffe}", "\u{10ffff}"] {
            assert_eq!(check_variable_value(bad), Err(VariableFault::Value), "{bad:?}");
        }
        assert_eq!(check_variable_value(&"x".repeat(MAX_VALUE + 1)), Err(VariableFault::Long));
    }
}
