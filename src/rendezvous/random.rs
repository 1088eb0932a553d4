//! Numbers that nobody else draws.

use std::io;

use ring::rand::{SecureRandom, SystemRandom};

/// 16 random bytes as hexadecimal digits.
pub(super) fn random_hex() -> io::Result<String> {
    Ok(hex(&random_bytes::<16>()?))
}

/// Random bytes of the kernel.
pub(super) fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the kernel gives no random numbers"))?;
    Ok(bytes)
}

/// `bytes` as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
