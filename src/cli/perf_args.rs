//! The arguments of `ringmark perf`.

use std::path::PathBuf;

use clap::{Arg, Args};

use crate::spec::Spec;

const HEADING: &str = "Configuration";

/// Flags of `ringmark perf`.
#[derive(Args, Debug)]
#[command(mut_args(negative_numbers_are_values))]
#[command(after_help = "Definitions and formulas of all figures: ringmark report --help")]
pub struct PerfArgs {
    #[command(flatten)]
    pub spec: Spec,
    /// Read flags from a TOML file: the keys are the names of the flags, and each table of the list 'scenario', with a name,
    /// has those of one call. Flags on the command line and in the environment (RINGMARK_FLAG_MAX_TOKENS=100) come before the file
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub config: Option<PathBuf>,
    /// Run only these scenarios of --config [default: all, in the order of the file]
    #[arg(long, value_name = "NAME", num_args = 1.., requires = "config", help_heading = HEADING)]
    pub scenario: Vec<String>,
    /// Print the flags of the call as a file for --config, and do nothing else. Secrets are printed as env:NAME or file:PATH,
    /// which the flags for secrets accept
    #[arg(long, help_heading = HEADING)]
    pub print_config: bool,
}

/// Accepts negative numbers as values: `--rate -1` is valid, and `--parallel -1` is reported as an invalid value instead
/// of an unknown flag.
fn negative_numbers_are_values(argument: Arg) -> Arg {
    let takes_values = argument.get_action().takes_values();
    argument.allow_negative_numbers(takes_values)
}
