//! Packets of a clock exchange. An answer is as long as its request, so that nobody can be flooded with answers, and both
//! have a tag that only processes with the token of the job can make.
//!
//! ```text
//! magic 8 | number drawn by the shard 16 | shard 4 | number of the exchange 4 | received 8 | sent 8 | tag 32
//! ```
//!
//! The times are nanoseconds of the clock of shard 0, and 0 in a request. The tag is the HMAC-SHA256 (RFC 2104) of the
//! direction and of everything before it, under a key that is made of the token.

use ring::hmac::{self, HMAC_SHA256, Key};

use crate::time::Tick;

/// Bytes of a packet.
pub(super) const LENGTH: usize = 80;
/// Bytes before the tag.
const SIGNED: usize = 48;
const MAGIC: &[u8; 8] = b"rmrkclk1";
const REQUEST: u8 = 1;
const ANSWER: u8 = 2;
/// The number of the last packet of a shard, which begins no exchange.
pub(super) const LAST: u32 = u32::MAX;

/// A packet.
pub(super) type Packet = [u8; LENGTH];

/// What a request is about. Its answer repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Drawn by the shard, the same for all of its exchanges of a run.
    pub nonce: [u8; 16],
    pub shard: u32,
    pub number: u32,
}

/// The key of the packets of a job.
pub(super) fn key(token: &[u8]) -> Key {
    Key::new(HMAC_SHA256, hmac::sign(&Key::new(HMAC_SHA256, token), b"ringmark clock 1").as_ref())
}

/// The packet of a request.
pub(super) fn write_request(key: &Key, request: Request) -> Packet {
    write(key, REQUEST, request, [Tick(0), Tick(0)])
}

/// The packet that answers a request which was received at, and is answered at, these times.
pub(super) fn write_answer(key: &Key, request: Request, received: Tick, sent: Tick) -> Packet {
    write(key, ANSWER, request, [received, sent])
}

/// The request in these bytes; `None` if it is none of this job.
pub(super) fn read_request(key: &Key, bytes: &[u8]) -> Option<Request> {
    read(key, REQUEST, bytes).map(|(request, _)| request)
}

/// The times at which shard 0 received the request `to` and sent this answer; `None` if these bytes are no answer to it.
pub(super) fn read_answer(key: &Key, bytes: &[u8], to: Request) -> Option<(Tick, Tick)> {
    let (request, [received, sent]) = read(key, ANSWER, bytes)?;
    (request == to).then_some((received, sent))
}

fn write(key: &Key, direction: u8, request: Request, times: [Tick; 2]) -> Packet {
    let mut packet = [0; LENGTH];
    packet[..8].copy_from_slice(MAGIC);
    packet[8..24].copy_from_slice(&request.nonce);
    packet[24..28].copy_from_slice(&request.shard.to_be_bytes());
    packet[28..32].copy_from_slice(&request.number.to_be_bytes());
    packet[32..40].copy_from_slice(&times[0].0.to_be_bytes());
    packet[40..48].copy_from_slice(&times[1].0.to_be_bytes());
    let tag = hmac::sign(key, &signed(direction, &packet[..SIGNED]));
    packet[SIGNED..].copy_from_slice(tag.as_ref());
    packet
}

fn read(key: &Key, direction: u8, bytes: &[u8]) -> Option<(Request, [Tick; 2])> {
    if bytes.len() != LENGTH || !bytes.starts_with(MAGIC) {
        return None;
    }
    let (body, tag) = bytes.split_at(SIGNED);
    // In constant time.
    hmac::verify(key, &signed(direction, body), tag).ok()?;
    let number = |from: usize| Some(u32::from_be_bytes(body.get(from..from + 4)?.try_into().ok()?));
    let tick = |from: usize| Some(Tick(u64::from_be_bytes(body.get(from..from + 8)?.try_into().ok()?)));
    let request = Request { nonce: body[8..24].try_into().ok()?, shard: number(24)?, number: number(28)? };
    Some((request, [tick(32)?, tick(40)?]))
}

fn signed(direction: u8, body: &[u8]) -> Vec<u8> {
    [&[direction][..], body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unchanged_packets_of_the_job_are_read() {
        let (own, other) = (key(b"token"), key(b"other"));
        let request = Request { nonce: [7; 16], shard: 3, number: 9 };
        let packet = write_request(&own, request);
        assert_eq!(read_request(&own, &packet), Some(request));
        assert_eq!(read_request(&other, &packet), None);
        let answer = write_answer(&own, request, Tick(5), Tick(6));
        assert_eq!(read_answer(&own, &answer, request), Some((Tick(5), Tick(6))));
        assert_eq!(read_answer(&own, &answer, Request { number: 8, ..request }), None);
        assert_eq!((read_answer(&own, &packet, request), read_request(&own, &answer)), (None, None));
        assert_eq!((packet.len(), answer.len()), (LENGTH, LENGTH));
        for place in 0..LENGTH {
            let mut changed = answer;
            changed[place] ^= 1;
            assert_eq!(read_answer(&own, &changed, request), None, "byte {place}");
        }
        assert_eq!(read_request(&own, &packet[..LENGTH - 1]), None);
        assert_eq!(read_request(&own, &[&packet[..], &[0]].concat()), None);
    }
}
