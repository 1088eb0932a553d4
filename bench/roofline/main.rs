//! What the client costs and how true its figures are, beside what the kernel alone costs and beside other clients.
//!
//! `cargo bench --bench roofline` runs every part in full (about ten minutes; two cores, nothing else running);
//! `-- PART` runs one of them; without `--bench` (as `cargo test` calls it) a smoke size of all. The built-in server
//! runs as a process of its own on core 1, every client on core 0, interleaved, medians of the rounds.

mod bare;
mod floor;
mod load;
mod ours;
mod parts;
mod peers;
mod server;
mod tls;
mod truth;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
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
