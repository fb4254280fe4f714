//! Manual pages and shell completions, both generated from the commands so that they always match.

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use super::failure::Failure;

/// Shells for which there are completions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum For {
    Bash,
    Zsh,
    Fish,
}

/// Prints the completions for a shell.
pub(super) fn completions(shell: For) {
    let shell = match shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut super::Arguments::command(), "halligan", &mut text);
    // A closed reader is not an error.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), &text);
}

/// Writes a manual page for every command into a directory.
pub(super) fn pages(directory: &Path) -> Result<(), Failure> {
    let failed = |path: PathBuf| move |source| Failure::File { path, source };
    std::fs::create_dir_all(directory).map_err(failed(directory.into()))?;
    clap_mangen::generate_to(super::Arguments::command(), directory).map_err(failed(directory.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_command_has_a_page_and_hidden_ones_have_none() {
        let directory = tempfile::tempdir().unwrap();
        pages(directory.path()).unwrap();
        let page = |name: &str| std::fs::read_to_string(directory.path().join(name));
        for name in ["halligan.1", "halligan-token-create.1", "halligan-audit-verify.1", "halligan-status.1"]
        {
            assert!(page(name).unwrap().contains(".SH SYNOPSIS"), "{name}");
        }
        assert!(page("halligan-manual.1").is_err());
    }
}
