//! The plan of a shard: one of several processes that send a load together.

use std::path::PathBuf;
use std::time::Duration;

use crate::record::share::Share;

/// A shard, and how it agrees with the others on the start of each run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPlan {
    pub share: Share,
    pub rendezvous: RendezvousPlan,
    /// The address of this shard on the network between the shards; `None` if it was not given.
    pub address: Option<ShardAddress>,
    /// How long to wait for the other shards at each meeting.
    pub timeout: Duration,
}

/// An address of a shard for the other shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardAddress {
    pub host: String,
    /// `None`: that of the rendezvous, or any.
    pub port: Option<u16>,
}

/// Where shards meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RendezvousPlan {
    /// The process manager of MPI or Slurm, over the descriptor in `PMI_FD`.
    Pmi,
    /// A directory that all shards share.
    Directory(PathBuf),
    /// A TCP port of shard 0.
    Tcp { host: String, port: u16 },
    /// Nowhere: all start at this time, nanoseconds since the Unix epoch.
    At { unix_ns: i64 },
}
