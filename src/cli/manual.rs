//! Manual pages and shell completions, both generated from the commands so that they always match.

use std::path::{Path, PathBuf};

use clap::{Command, ValueEnum};
use clap_complete::Shell;

use super::failure::Failure;

/// Shells for which there are completions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum For {
    Bash,
    Zsh,
    Fish,
}

/// Prints the completions of `command` for a shell.
pub(super) fn completions(shell: For, mut command: Command) {
    let shell = match shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "halligan", &mut text);
    // A closed reader is not an error.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), &text);
}

/// Writes a manual page for `command` and each of its subcommands into a directory, which is created if it is missing.
pub(super) fn pages(command: Command, directory: &Path) -> Result<(), Failure> {
    let failed = |path: PathBuf| move |source| Failure::File { path, source };
    std::fs::create_dir_all(directory).map_err(failed(directory.into()))?;
    clap_mangen::generate_to(command, directory).map_err(failed(directory.into()))
}
