//! The addresses of a server whose name has several: which of them answer, and which ones the load uses.
//!
//! All are connected to at the same time, before the clock starts, so that one that does not answer delays nothing (as
//! in RFC 8305). The connections are closed without a request.

#![expect(clippy::disallowed_methods, reason = "the wait for answers is not measured")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::finding::Finding;
use crate::net::blocking::timeout;
use crate::net::socket::{Connecting, connect_tcp, take_error};
use crate::plan::{Target, Transport};

/// The longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(3);
/// After the first answer, the others are waited for this long: the first address that answers in the order of the
/// resolver is used, not the one that answered first, so that repeated calls measure the same server.
const AFTER_FIRST_ANSWER: Duration = Duration::from_millis(500);

/// What came back from an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Connected,
    Refused,
    /// Nothing, in the time that it had.
    None,
}

/// Chooses the addresses that the load uses, of those that the target's name has: the first that answers, or with
/// `rotate` all that do. If none answers, all are kept, because the server may still be starting. Returns the findings.
pub fn choose(target: &mut Target, rotate: bool, sources: &[IpAddr], connect_timeout: Duration) -> Vec<Finding> {
    let (host, _) = target.peer();
    let host = host.to_string();
    let Transport::Tcp(addresses) = &mut target.transport else { return Vec::new() };
    if addresses.len() < 2 {
        return Vec::new();
    }
    let answers = probe(addresses, sources, connect_timeout.min(LIMIT));
    let with = |wanted: Answer| -> Vec<SocketAddr> {
        let pairs = addresses.iter().zip(&answers);
        pairs.filter(|(_, answer)| **answer == wanted).map(|(address, _)| *address).collect()
    };
    let (answered, refused, silent) = (with(Answer::Connected), with(Answer::Refused), with(Answer::None));
    let Some(first) = answered.first().copied() else { return Vec::new() };
    // A server that listens on only one of the addresses of localhost is the normal case.
    let is_plain =
        answered.len() == 1 && silent.is_empty() && addresses.iter().all(|address| address.ip().is_loopback());
    let used = if rotate { answered.clone() } else { vec![first] };
    let is_reported = !is_plain && (!rotate || answered.len() < addresses.len());
    addresses.clone_from(&used);
    let texts = |addresses: Vec<SocketAddr>| addresses.iter().map(ToString::to_string).collect();
    is_reported
        .then(|| Finding::SeveralAddresses {
            host,
            used: texts(used.clone()),
            spare: texts(answered.into_iter().filter(|address| !used.contains(address)).collect()),
            silent: texts(refused.into_iter().chain(silent).collect()),
            rotated: rotate,
        })
        .into_iter()
        .collect()
}

/// Connects to all addresses at the same time and returns what came back from each, after `limit` at the latest.
pub fn probe(addresses: &[SocketAddr], sources: &[IpAddr], limit: Duration) -> Vec<Answer> {
    let mut answers = vec![Answer::None; addresses.len()];
    let mut pending: Vec<(usize, Connecting)> = Vec::new();
    for (place, address) in addresses.iter().enumerate() {
        let source = sources.iter().find(|source| source.is_ipv4() == address.is_ipv4());
        match connect_tcp(*address, source.copied()) {
            Ok(connecting) if connecting.pending => pending.push((place, connecting)),
            Ok(_) => answers[place] = Answer::Connected,
            Err(_) => answers[place] = Answer::Refused,
        }
    }
    let mut end = Instant::now() + limit;
    loop {
        if answers.contains(&Answer::Connected) {
            // The times of later rounds are later, so this counts from the first answer.
            end = end.min(Instant::now() + AFTER_FIRST_ANSWER);
        }
        let left = end.saturating_duration_since(Instant::now());
        if pending.is_empty() || left.is_zero() {
            return answers;
        }
        let mut watched: Vec<PollFd<'_>> =
            pending.iter().map(|(_, connecting)| PollFd::new(&connecting.fd, PollFlags::OUT)).collect();
        // An interrupted wait finds nothing ready.
        let _ = poll(&mut watched, Some(&timeout(left.as_nanos() as u64)));
        let is_ready: Vec<bool> = watched.iter().map(|watched| !watched.revents().is_empty()).collect();
        let mut ready = is_ready.into_iter();
        pending.retain(|(place, connecting)| {
            let is_ready = ready.next().unwrap_or(false);
            if is_ready {
                let connected = take_error(&connecting.fd).is_ok();
                answers[*place] = if connected { Answer::Connected } else { Answer::Refused };
            }
            !is_ready
        });
    }
}
