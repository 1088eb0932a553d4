//! `ringmark mock`: runs the built-in mock server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use clap::Args;

use super::exit::{EarlyExit, status};
use super::interrupt;
use super::terminal::print;
use crate::host::limits::raise_open_files;
use crate::mock::run::{keys_help, serve_until};
use crate::mock::{Config, Stats};
use crate::spec::values;
use crate::time::format_ns;

/// Flags of `ringmark mock`.
#[derive(Args, Debug)]
#[command(after_help = format!("Parameters:\n{}", keys_help()))]
pub struct MockArgs {
    /// IP address to listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// TCP port to listen on; 0 selects a free port
    #[arg(long, value_name = "PORT", default_value = "8000")]
    port: u16,
    /// CPU cores for the server threads, for example 1 or 2-5; one thread is pinned to each [default: one thread, not
    /// pinned]
    #[arg(long, value_name = "LIST", value_parser = values::cores)]
    cores: Option<values::Cores>,
    /// Parameters, as in a mock: URL, for example ttft=50ms itl=10ms tokens=100
    #[arg(value_name = "KEY=VALUE")]
    parameters: Vec<String>,
}

impl MockArgs {
    /// The address to listen on.
    pub(crate) fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// The parameters as the query of a `mock:` URL.
    pub fn query(&self) -> String {
        self.parameters.join("&")
    }
}

/// The counters of the mock, on one line.
fn summary(stats: &Stats) -> String {
    format!(
        "{} requests, {} output events, at most {} in flight on {} connections; write delay p50 {}, p99 {}",
        stats.requests,
        stats.events,
        stats.peak_in_flight,
        stats.connections,
        format_ns(stats.lateness_p50_ns),
        format_ns(stats.lateness_p99_ns)
    )
}

/// Serves until a signal ends it, then prints the counters.
pub fn serve(args: &MockArgs) -> Result<u8, EarlyExit> {
    let config = Config::from_query(&args.query()).map_err(|error| EarlyExit::error(&error))?;
    let stop = Arc::new(AtomicU8::new(interrupt::GO_ON));
    raise_open_files();
    let cores = args.cores.as_ref().map_or(&[][..], |cores| &cores.0);
    let unable = |error: std::io::Error| EarlyExit::error(&format!("cannot serve on {}: {error}", args.listen()));
    interrupt::watch(stop.clone(), || {}, || {}).map_err(unable)?;
    let mut announced = Ok(());
    let ready = |address: SocketAddr| {
        announced = print(&format!("listening on http://{address}/v1/chat/completions\n"));
        if announced.is_err() {
            stop.store(interrupt::STOP_NOW, Ordering::SeqCst);
        }
    };
    let stats = serve_until(&config, cores, args.listen(), &stop, ready).map_err(unable)?;
    announced?;
    print(&format!("{}\n", summary(&stats)))?;
    Ok(status::DONE)
}
