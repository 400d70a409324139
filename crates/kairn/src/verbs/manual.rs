//! Completions and manual pages, made from the command line's own definition.

use crate::cli::Cli;
use crate::output;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use kairn_host::Error as HostError;
use kairn_host::files;
use kairn_report::Report;
use std::path::Path;
use std::process::ExitCode;

/// Writes the completions of a shell to stdout.
///
/// # Errors
/// stdout cannot be written.
pub fn completions(shell: Shell) -> Result<ExitCode, Report> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kairn", &mut text);
    output::line(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes `kairn.1` and one page for each verb, named as man(1) finds them: `kairn-boot-entry-list.1`.
///
/// # Errors
/// The directory cannot be made or a page not written.
pub fn pages(directory: &Path) -> Result<ExitCode, Report> {
    std::fs::create_dir_all(directory).map_err(HostError::path("create", directory))?;
    for (name, text) in rendered()? {
        files::write_whole(&directory.join(name), &text, 0o644)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Renders all pages with their file names.
fn rendered() -> Result<Vec<(String, Vec<u8>)>, Report> {
    fn collect(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
        let page = clap_mangen::Man::new(command.clone());
        let mut text = Vec::new();
        page.render(&mut text)?;
        pages.push((page.get_filename(), text));
        let shown = |verb: &&Command| !verb.is_hide_set() && verb.get_name() != "help";
        command.get_subcommands().filter(shown).try_for_each(|verb| collect(verb, pages))
    }
    let mut command = Cli::command();
    command.build();
    let mut pages = Vec::new();
    collect(&command, &mut pages).map_err(HostError::path("render", "a manual page"))?;
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_verb_has_a_page_that_names_it() {
        let pages = rendered().unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["kairn.1", "kairn-install.1", "kairn-boot-entry-select.1", "kairn-lab-up.1"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(!names.contains(&"kairn-first-boot.1"), "units run it, not people");
        let install = pages.iter().find(|(name, _)| name == "kairn-install.1").unwrap();
        let text = String::from_utf8(install.1.clone()).unwrap();
        assert!(text.contains("\\-\\-unattended") && text.contains("kairn\\-install"), "{text}");
    }

    #[test]
    fn every_shell_has_completions_of_every_verb() {
        for shell in Shell::value_variants() {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "kairn", &mut text);
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("rollback") && text.contains("boot-entry"), "{shell}");
        }
    }
}
