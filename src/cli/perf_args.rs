//! `ringmark perf`: measure a server.

use clap::{Arg, Args};

use crate::spec::Spec;

/// Flags of `ringmark perf`.
#[derive(Args, Debug)]
#[command(mut_args(negative_numbers_are_values))]
#[command(after_help = "What every figure means, with its formula: ringmark report --help")]
pub struct PerfArgs {
    #[command(flatten)]
    pub spec: Spec,
}

/// `--rate -1` is a value, and `--parallel -1` is a wrong value rather than an unknown flag.
fn negative_numbers_are_values(argument: Arg) -> Arg {
    let takes_values = argument.get_action().takes_values();
    argument.allow_negative_numbers(takes_values)
}
