//! Why a figure of the client is not compared with one of the server, as typed values.

/// Why a time of the client and a time of the server are not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotJudged {
    /// The server's metric is its inference time divided by its tokens, the prefill included.
    PrefillIncluded,
    /// The server has counters only: its value is a mean over all tokens.
    MeanOverTokens,
    /// The run was killed, so the server's metrics were not read at its end.
    Killed,
    /// Answers that were not streamed have no first token here.
    NotStreamed,
    /// The server measures each of the choices of a request.
    EachChoice { choices: u64 },
    /// One side has no observation.
    NothingObserved,
    /// The numbers of observations differ, so they are not of the same things.
    DifferentCounts {
        client: u64,
        server: u64,
        /// The server's number includes the requests of the witness.
        with_witness: bool,
        /// The observations are gaps between events rather than requests.
        gaps: bool,
    },
}

/// A remark on a number that client and server both count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountNote {
    /// The responses had no token counts.
    NoTokenCounts,
    /// So many requests did not succeed; the server may count them.
    NotSucceeded { requests: u64 },
    /// Prompt tokens from the prefix cache are not counted.
    WithoutCached,
    /// The server counts each of the choices of a request.
    EachChoice { choices: u64 },
}
