//! `ringmark rig`: what this machine can measure, and how well.

use clap::Args;

/// Flags of `ringmark rig`.
#[derive(Args, Debug)]
pub struct RigArgs {
    /// Only look at the machine: leave out the one-second measurement against the built-in server
    #[arg(long)]
    pub no_roofline: bool,
}
