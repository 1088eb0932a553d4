//! The arguments of `ringmark perf`.

use clap::{Arg, Args};

use crate::spec::Spec;

/// Flags of `ringmark perf`.
#[derive(Args, Debug)]
#[command(mut_args(negative_numbers_are_values))]
#[command(after_help = "Definitions and formulas of all figures: ringmark report --help")]
pub struct PerfArgs {
    #[command(flatten)]
    pub spec: Spec,
}

/// Accepts negative numbers as values: `--rate -1` is valid, and `--parallel -1` is reported as an invalid value instead
/// of an unknown flag.
fn negative_numbers_are_values(argument: Arg) -> Arg {
    let takes_values = argument.get_action().takes_values();
    argument.allow_negative_numbers(takes_values)
}
