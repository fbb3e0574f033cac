//! Examples at the end of each subcommand's help: written once, for the command above it.

use clap::Command;

/// The same command line, where each subcommand without examples of its own shows those of the command above that are about it.
pub(in crate::cli) fn hand_down(command: Command) -> Command {
    let path = command.get_name().to_owned();
    below(command, &path, "")
}

fn below(command: Command, path: &str, above: &str) -> Command {
    let own = command.get_after_help().map(ToString::to_string);
    let (command, examples) = match own {
        Some(own) => (command, own),
        None => {
            let examples = about(path, above);
            (command.after_help(examples.clone()), examples)
        }
    };
    command.mut_subcommands(|subcommand| {
        let path = format!("{path} {}", subcommand.get_name());
        below(subcommand, &path, &examples)
    })
}

fn about(path: &str, examples: &str) -> String {
    let is_about = |line: &&str| line.split_once(path).is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with([' ', ')']));
    let lines: Vec<&str> = examples.lines().filter(is_about).collect();
    format!("Examples:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Arguments;

    /// The command's own examples, and those of all below it.
    fn judge(command: &Command, path: &str) {
        if command.get_name() == "help" {
            return;
        }
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.lines().any(|line| line.contains(path)), "{path} has no example: {help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 98, "{path}: {line:?} does not fit into a line");
        }
        for subcommand in command.get_subcommands() {
            judge(subcommand, &format!("{path} {}", subcommand.get_name()));
        }
    }

    #[test]
    fn every_command_ends_its_help_with_an_example_of_itself() {
        judge(&hand_down(Arguments::command()), "tollgate");
    }

    #[test]
    fn a_subcommand_shows_what_is_about_it() {
        let above = "Examples:\n  t keys list\n  K=$(t keys create)   once\n  t keys create-all\n  t keys create --user a";
        assert_eq!(about("t keys create", above), "Examples:\n  K=$(t keys create)   once\n  t keys create --user a");
    }

    #[test]
    fn where_the_api_is_stands_under_a_heading_of_its_own() {
        for words in [&["keys", "--help"][..], &["users", "invite", "--help"], &["clients", "create", "-h"]] {
            let line = std::iter::once(&"tollgate").chain(words);
            let help = hand_down(Arguments::command()).try_get_matches_from(line).unwrap_err().to_string();
            let (options, connection) = help.split_once("\nConnection:\n").unwrap_or_else(|| panic!("{words:?}: {help}"));
            for flag in ["--config", "--socket", "--url", "--api-key"] {
                assert!(connection.contains(flag) && !options.contains(flag), "{words:?} {flag}: {help}");
            }
            assert!(connection.contains("TOLLGATE_URL") && connection.contains("TOLLGATE_KEY"), "{help}");
        }
    }
}
