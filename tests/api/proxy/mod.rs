//! `--proxy`: tunnels, absolute requests, refusals, and what the environment may and may not do.

mod load;
mod relay;
