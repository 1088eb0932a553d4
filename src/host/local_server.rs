//! Which cores a server on this machine may use: those that the threads of the process that listens on its port may run
//! on. A worker on one of them must not spin, because it would take time from what it measures.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity};

/// The cores of a server.
pub(crate) enum ServerCores {
    /// None of this machine.
    None,
    Some(CpuSet),
    /// Any: the process that listens is not known.
    All,
}

impl ServerCores {
    pub(crate) fn contains(&self, core: usize) -> bool {
        match self {
            ServerCores::None => false,
            ServerCores::Some(cores) => core < CpuSet::MAX_CPU && cores.is_set(core),
            ServerCores::All => true,
        }
    }
}

/// The cores that the server at these addresses may use.
pub(crate) fn cores(addresses: &[SocketAddr]) -> ServerCores {
    let ports: Vec<u16> = addresses.iter().filter(|address| is_local(address.ip())).map(SocketAddr::port).collect();
    if ports.is_empty() {
        return ServerCores::None;
    }
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes: Vec<u64> = tables.iter().flat_map(|table| listening(table, &ports)).collect();
    let mut cores = CpuSet::new();
    let mut unowned = inodes.clone();
    for process in numbers_in("/proc") {
        let owned = sockets_of(process);
        if inodes.iter().any(|inode| owned.contains(inode)) {
            unowned.retain(|inode| !owned.contains(inode));
            add_cores_of(process, &mut cores);
        }
    }
    if inodes.is_empty() || !unowned.is_empty() { ServerCores::All } else { ServerCores::Some(cores) }
}

/// Whether an address is one of this machine: the kernel then uses the same one as the source.
fn is_local(address: IpAddr) -> bool {
    let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    address.is_loopback() || source.is_ok_and(|source| source.ip() == address)
}

/// The inodes of the sockets that listen on these ports, from a table in the format of /proc/net/tcp.
fn listening(table: &str, ports: &[u16]) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        let listens = *fields.get(3)? == LISTEN && ports.contains(&port);
        listens.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().filter_map(inode).collect()
}

/// The inodes of the sockets that a process has open; none if that may not be read.
fn sockets_of(process: i32) -> Vec<u64> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

fn add_cores_of(process: i32, cores: &mut CpuSet) {
    let threads = numbers_in(&format!("/proc/{process}/task"));
    for affinity in threads.filter_map(|thread| sched_getaffinity(Pid::from_raw(thread)).ok()) {
        (0..CpuSet::MAX_CPU).filter(|core| affinity.is_set(*core)).for_each(|core| cores.set(core));
    }
}

/// The entries of a folder whose names are numbers.
fn numbers_in(folder: &str) -> impl Iterator<Item = i32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_cores_of_a_listening_process_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = cores(&[listener.local_addr().unwrap()]);
        let own = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|core| own.is_set(*core)).unwrap();
        assert!(matches!(found, ServerCores::Some(_)) && found.contains(first) && !found.contains(CpuSet::MAX_CPU));
    }

    #[test]
    fn a_server_elsewhere_uses_no_core_and_an_unknown_one_any() {
        let elsewhere = cores(&[SocketAddr::from(([192, 0, 2, 1], 80))]);
        assert!(matches!(elsewhere, ServerCores::None) && !elsewhere.contains(0));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let unknown = cores(&[free]);
        assert!(matches!(unknown, ServerCores::All) && unknown.contains(0));
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
               0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0\n\
               1: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4243 1 0\n\
               2: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4244 1 0\n";
        assert_eq!(listening(table, &[8080]), [4242]);
        assert_eq!(listening("nonsense\n1 2 3\n", &[8080]), Vec::<u64>::new());
    }
}
