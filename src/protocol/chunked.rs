//! Incremental decoder of the chunked transfer coding. The decoded data are slices of the input; nothing is copied.

use super::error::WireError;

/// Maximum total size of the extensions and trailers, which are skipped, bytes.
const MAX_SKIPPED_BYTES: u32 = 64 * 1024;

/// The state of the decoder between two bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    SizeStart,
    /// After at least one digit.
    Size,
    /// After the size: whitespace or an extension, up to the end of the line.
    Extension,
    /// After the CR of the size line.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    TrailerStart,
    Trailer,
    TrailerLf,
    /// After the CR of the blank line that ends the body.
    EndLf,
    End,
}

/// A decoder of one body.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    state: State,
    /// The size being parsed, then the remaining data bytes of this chunk.
    remaining: u64,
    /// Bytes skipped in extensions and trailers.
    skipped: u32,
}

/// The result of [`Decoder::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// Body bytes; call again.
    Data(&'a [u8]),
    /// The input is consumed; more is needed.
    More,
    /// The body is complete; the rest of the input does not belong to it.
    End,
}

impl Decoder {
    /// Consumes bytes from the front of `input` up to and including the next piece of data.
    ///
    /// # Errors
    /// The chunked coding is invalid, or its extensions and trailers exceed 64 KiB.
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Decoded<'a>, WireError> {
        loop {
            if self.state == State::Data {
                if input.is_empty() {
                    return Ok(Decoded::More);
                }
                return Ok(Decoded::Data(self.take_data(input)));
            }
            if self.state == State::End {
                return Ok(Decoded::End);
            }
            if self.skip_plain_framing(input) {
                continue;
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(Decoded::More) };
            *input = rest;
            self.step(byte)?;
        }
    }

    /// Fast path for the usual framing: the end of the last chunk's data, or a size line without extension. Returns
    /// false and consumes nothing for other input.
    fn skip_plain_framing(&mut self, input: &mut &[u8]) -> bool {
        match self.state {
            State::DataCr if input.starts_with(b"\r\n") => {
                *input = &input[2..];
                self.state = State::SizeStart;
                true
            }
            State::SizeStart => {
                let digits = input.iter().take(8).take_while(|byte| hex_digit(**byte).is_some()).count();
                let size =
                    input[..digits].iter().fold(0, |size, &byte| size << 4 | u64::from(hex_digit(byte).unwrap_or(0)));
                let plain = size > 0 && input[digits..].starts_with(b"\r\n");
                if plain {
                    *input = &input[digits + 2..];
                    self.remaining = size;
                    self.state = State::Data;
                }
                plain
            }
            _ => false,
        }
    }

    fn take_data<'a>(&mut self, input: &mut &'a [u8]) -> &'a [u8] {
        let taken = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len());
        let (data, rest) = input.split_at(taken);
        *input = rest;
        self.remaining -= taken as u64;
        if self.remaining == 0 {
            self.state = State::DataCr;
        }
        data
    }

    /// Consumes one byte outside of the data.
    fn step(&mut self, byte: u8) -> Result<(), WireError> {
        self.state = match (self.state, byte) {
            (State::SizeStart, _) => {
                self.remaining =
                    u64::from(hex_digit(byte).ok_or(WireError::Chunk("a chunk does not begin with its size"))?);
                State::Size
            }
            (State::Size, b'\r') => State::SizeLf,
            (State::Size, b' ' | b'\t' | b';') => State::Extension,
            (State::Size, _) => {
                self.add_digit(byte)?;
                State::Size
            }
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b'\n') => return Err(WireError::Chunk("a bare line feed in the size line")),
            (State::Extension, _) => self.skip(State::Extension)?,
            (State::SizeLf, b'\n') if self.remaining == 0 => State::TrailerStart,
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeStart,
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::Trailer, b'\n') => {
                return Err(WireError::Chunk("a bare line feed in a trailer"));
            }
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerStart | State::Trailer, _) => self.skip(State::Trailer)?,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::End,
            (State::DataCr | State::DataLf, _) => return Err(WireError::Chunk("a chunk is longer than its size")),
            (State::SizeLf | State::TrailerLf | State::EndLf, _) => {
                return Err(WireError::Chunk("a carriage return without line feed"));
            }
            (State::Data | State::End, _) => self.state,
        };
        Ok(())
    }

    fn add_digit(&mut self, byte: u8) -> Result<(), WireError> {
        let digit = hex_digit(byte).ok_or(WireError::Chunk("a chunk size is not a hexadecimal number"))?;
        if self.remaining >> 60 != 0 {
            return Err(WireError::Chunk("a chunk size does not fit 64 bits"));
        }
        self.remaining = self.remaining << 4 | u64::from(digit);
        Ok(())
    }

    fn skip(&mut self, next: State) -> Result<State, WireError> {
        self.skipped += 1;
        if self.skipped > MAX_SKIPPED_BYTES {
            return Err(WireError::Chunk("extensions and trailers are longer than 64 KiB"));
        }
        Ok(next)
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes the pieces one after the other. Returns the body, whether it ended, and the bytes after its end.
    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool, Vec<u8>), WireError> {
        let mut decoder = Decoder::default();
        let (mut body, mut ended, mut rest) = (Vec::new(), false, Vec::new());
        for piece in pieces {
            let mut input = *piece;
            loop {
                match decoder.decode(&mut input)? {
                    Decoded::Data(data) => body.extend_from_slice(data),
                    Decoded::More => break,
                    Decoded::End => {
                        ended = true;
                        break;
                    }
                }
            }
            rest.extend_from_slice(input);
        }
        Ok((body, ended, rest))
    }

    #[test]
    fn sizes_extensions_and_trailers_are_decoded() {
        let coded = b"5\r\nhello\r\n0000A;name=\"v a l\";x\r\n0123456789\r\n1 \t\r\n!\r\n0;last\r\nTrailer: yes\r\nB: c\r\n\r\nHTTP";
        assert_eq!(decode(&[coded]), Ok((b"hello0123456789!".to_vec(), true, b"HTTP".to_vec())));
    }

    #[test]
    fn invalid_coding_is_rejected() {
        let cases: [&[u8]; 9] = [
            b"\r\n",
            b"g\r\n",
            b"5\nhello",
            b"5\r\nhello!\r\n",
            b"5\r\nhello\n",
            b"10000000000000000\r\n",
            b"5;x\nhello",
            b"0\r\nx: y\n",
            b"0\r\n\rx",
        ];
        for case in cases {
            assert!(decode(&[case]).is_err(), "{}", case.escape_ascii());
        }
        let mut endless = b"1;".to_vec();
        endless.resize(100_000, b'x');
        assert!(decode(&[&endless]).is_err());
    }

    #[test]
    fn largest_size_is_accepted() {
        assert_eq!(decode(&[b"ffffffffffffffff\r\nabc"]), Ok((b"abc".to_vec(), false, Vec::new())));
    }

    proptest! {
        #[test]
        fn round_trip_with_any_chunks_and_any_split(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            upper in any::<bool>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut coded = Vec::new();
            for chunk in &chunks {
                let size = if upper { format!("{:X}", chunk.len()) } else { format!("{:x}", chunk.len()) };
                coded.extend_from_slice(format!("{size}\r\n").as_bytes());
                coded.extend_from_slice(chunk);
                coded.extend_from_slice(b"\r\n");
            }
            coded.extend_from_slice(b"0\r\n\r\n");
            let expected = (chunks.concat(), true, Vec::new());
            let (first, second) = coded.split_at(cut.index(coded.len()));
            prop_assert_eq!(decode(&[first, second]), Ok(expected.clone()));
            let bytes: Vec<&[u8]> = coded.chunks(1).collect();
            prop_assert_eq!(decode(&bytes), Ok(expected));
        }

        #[test]
        fn garbage_decodes_equally_at_every_split(garbage in "[0-9a-f;\r\n x]{0,60}", cut in any::<prop::sample::Index>()) {
            let (first, second) = garbage.as_bytes().split_at(cut.index(garbage.len() + 1).min(garbage.len()));
            prop_assert_eq!(decode(&[garbage.as_bytes()]), decode(&[first, second]));
        }
    }
}
