//! `ringmark rig`: what this machine can measure, and how well.

use clap::Args;

use super::{Early, status};
use crate::rig::facts::Facts;

/// Flags of `ringmark rig`.
#[derive(Args, Debug)]
pub struct RigArgs {
    /// Only look at the machine: leave out the one-second measurement against the built-in server
    #[arg(long)]
    pub no_roofline: bool,
}

/// Prints what is known of this machine.
pub fn show(args: &RigArgs) -> Result<u8, Early> {
    let _ = args.no_roofline;
    println!("{}", Facts::look().to_json());
    Ok(status::DONE)
}
