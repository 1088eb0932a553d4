//! The cost and accuracy of the client, compared with the cost of the kernel alone and with other clients.
//!
//! `cargo bench --bench roofline` runs every part in full (about ten minutes; needs two cores and an otherwise idle
//! machine); `-- PART` runs one part. In `cargo test`, all parts run in a small size. The built-in mock server runs as
//! a separate process on core 1, the clients run on core 0, interleaved, and the results are medians over rounds.

mod bare;
mod cost;
mod floor;
mod kolmogorov;
mod load;
mod ours;
mod parts;
mod peers;
mod sending;
mod server;
mod tls;
mod truth;
mod usage;
mod whole;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((client, rest)) = arguments.split_first().filter(|(first, _)| cost::OWN.contains(&first.as_str())) {
        ringmark::host::limits::raise_open_files();
        return cost::run_own(client, rest);
    }
    let full = arguments.iter().any(|argument| argument == "--bench");
    let named: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with("--")).collect();
    ringmark::host::limits::raise_open_files();
    for (name, part) in parts::ALL {
        if named.is_empty() || named.contains(name) {
            println!("\n## {name}");
            part(full);
        }
    }
}
