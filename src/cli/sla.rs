//! The flags of the search for a load; see [`crate::plan::sla`].

use clap::Args;

use super::values;
use crate::plan::sla::{Sla, Variable};

const SEARCH: &str = "Search for a load";

/// Flags of `ringmark perf` that ask for a search.
#[derive(Args, Debug)]
pub struct SlaArgs {
    /// Search for the highest load that keeps --sla-params, or for the best one; exit status 1 when none does
    #[arg(long, help_heading = SEARCH)]
    sla_auto_tune: bool,
    /// What is varied: parallel (closed loop), or rate (open loop: requests leave on schedule whatever comes back)
    /// [default: parallel]
    #[arg(long, value_name = "WHAT", value_parser = values::variable(), help_heading = SEARCH)]
    sla_variable: Option<Variable>,
    /// What has to hold: '[{"p99_ttft": "<=2", "p99_tpot": "<=50ms"}]' or 'p99_ttft<=2 p99_tpot<=50ms', times in seconds
    /// unless they say ms. Several groups ('a<=1 | b<=2') are searched one by one. '{"tps": "max"}' (or min) looks for
    /// the best load
    #[arg(long, value_name = "CRITERIA", num_args = 1.., help_heading = SEARCH)]
    sla_params: Vec<String>,
    /// Runs at each load; their figures are averaged [default: 3]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = SEARCH)]
    sla_num_runs: Option<u32>,
    /// Highest load that is tried [default: 65536]
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = SEARCH)]
    sla_upper_bound: Option<f64>,
    /// Lowest load that is tried [default: 1 for parallel, 0.1 for rate]
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = SEARCH)]
    sla_lower_bound: Option<f64>,
    /// rate: never more than so many requests in flight, which makes it a closed loop again [default: no cap]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = SEARCH)]
    sla_fixed_parallel: Option<u32>,
    /// Requests of each run for each unit of the load, unless --number or --duration says it [default: 2 for parallel,
    /// 10 for rate]
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = SEARCH)]
    sla_number_multiplier: Option<f64>,
    /// The search ends when the loads that hold and fail are closer than this share [default: 0 (exact) for parallel,
    /// 0.02 for rate]
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = SEARCH)]
    sla_precision: Option<f64>,
}

impl From<SlaArgs> for Sla {
    fn from(args: SlaArgs) -> Sla {
        Sla {
            sla_auto_tune: args.sla_auto_tune,
            sla_variable: args.sla_variable,
            sla_params: args.sla_params,
            sla_num_runs: args.sla_num_runs,
            sla_upper_bound: args.sla_upper_bound,
            sla_lower_bound: args.sla_lower_bound,
            sla_fixed_parallel: args.sla_fixed_parallel,
            sla_number_multiplier: args.sla_number_multiplier,
            sla_precision: args.sla_precision,
        }
    }
}
