//! `ringmark mock`: run the built-in server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;

/// Flags of `ringmark mock`.
#[derive(Args, Debug)]
pub struct MockArgs {
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Port to listen on; 0: any free one
    #[arg(long, value_name = "PORT", default_value = "8000")]
    port: u16,
    /// How it behaves: the parameters of a mock: URL, for example ttft=50ms itl=10ms tokens=100
    #[arg(value_name = "KEY=VALUE")]
    parameters: Vec<String>,
}

impl MockArgs {
    /// Where to listen.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// The parameters as the query of a `mock:` URL.
    pub fn query(&self) -> String {
        self.parameters.join("&")
    }
}
