//! Frames with a proof that their sender has the job token.
//!
//! Both sides draw a number when they connect. The key of the connection is the HMAC-SHA256 (RFC 2104) of these numbers
//! under the token; the tag of a frame is the HMAC of its direction, its number and its payload under that key. A frame
//! cannot be forged, repeated, moved or sent back without the token.

use std::io::{self, Read, Write};

use ring::hmac::{self, HMAC_SHA256, Key};

use super::messages::MAX_MESSAGE;

/// Bytes of the number that a side draws.
pub(super) const NONCE: usize = 32;
/// Bytes of a tag.
const TAG: usize = 32;

/// The two directions of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ToFirst = 1,
    FromFirst = 2,
}

/// One direction of a connection.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    key: Key,
    direction: Direction,
    /// Frames so far.
    count: u64,
}

/// The key of a connection, from the numbers of both sides.
pub(super) fn connection_key(token: &[u8], other: &[u8; NONCE], first: &[u8; NONCE]) -> Key {
    let context = [b"ringmark rendezvous 1".as_slice(), other, first].concat();
    Key::new(HMAC_SHA256, hmac::sign(&Key::new(HMAC_SHA256, token), &context).as_ref())
}

impl Frames {
    pub(super) fn new(key: Key, direction: Direction) -> Frames {
        Frames { key, direction, count: 0 }
    }

    /// Writes a frame: its length, the payload, the tag.
    pub(super) fn write(&mut self, to: &mut impl Write, payload: &[u8]) -> io::Result<()> {
        let tag = hmac::sign(&self.key, &self.signed(payload));
        self.count += 1;
        to.write_all(&[&(payload.len() as u32).to_be_bytes(), payload, tag.as_ref()].concat())
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// Also if it is too long, or its sender does not have the token.
    pub(super) fn read(&mut self, from: &mut impl Read) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_MESSAGE {
            return Err(io::Error::other("a message is too long"));
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload)?;
        let mut tag = [0; TAG];
        from.read_exact(&mut tag)?;
        // In constant time.
        hmac::verify(&self.key, &self.signed(&payload), &tag)
            .map_err(|_| io::Error::other("a message was not signed with the token of this job"))?;
        self.count += 1;
        Ok(payload)
    }

    fn signed(&self, payload: &[u8]) -> Vec<u8> {
        [&[self.direction as u8][..], &self.count.to_be_bytes(), payload].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(token: &[u8], direction: Direction) -> Frames {
        Frames::new(connection_key(token, &[1; NONCE], &[2; NONCE]), direction)
    }

    fn written(payloads: &[&[u8]]) -> Vec<u8> {
        let (mut bytes, mut to) = (Vec::new(), frames(b"token", Direction::ToFirst));
        payloads.iter().for_each(|payload| to.write(&mut bytes, payload).unwrap());
        bytes
    }

    fn read(bytes: &[u8], from: &mut Frames) -> Result<Vec<Vec<u8>>, String> {
        let mut bytes = bytes;
        let mut all = Vec::new();
        while !bytes.is_empty() {
            all.push(from.read(&mut bytes).map_err(|error| error.to_string())?);
        }
        Ok(all)
    }

    #[test]
    fn frames_arrive_as_they_were_written() {
        let mut from = frames(b"token", Direction::ToFirst);
        assert_eq!(
            read(&written(&[b"a", b"", b"bc"]), &mut from).unwrap(),
            [b"a".to_vec(), Vec::new(), b"bc".to_vec()]
        );
    }

    #[test]
    fn any_change_is_noticed() {
        let bytes = written(&[b"first", b"second"]);
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(read(&changed, &mut frames(b"token", Direction::ToFirst)).is_err(), "byte {place}");
        }
        let one = bytes.len() - (4 + 6 + TAG);
        let swapped = [&bytes[one..], &bytes[..one]].concat();
        let repeated = [&bytes[..one], &bytes[..one]].concat();
        for wrong in [&swapped, &repeated] {
            assert!(read(wrong, &mut frames(b"token", Direction::ToFirst)).unwrap_err().contains("not signed"));
        }
        assert!(read(&bytes, &mut frames(b"other", Direction::ToFirst)).is_err());
        assert!(read(&bytes, &mut frames(b"token", Direction::FromFirst)).is_err());
    }

    #[test]
    fn long_frames_are_not_read() {
        let long = (MAX_MESSAGE as u32 + 1).to_be_bytes();
        let error = frames(b"token", Direction::ToFirst).read(&mut &long[..]).unwrap_err();
        assert!(error.to_string().contains("too long"));
    }
}
