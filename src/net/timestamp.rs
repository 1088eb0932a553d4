//! The kernel's receive timestamp in the control data of a received message.

/// Space for one `SCM_TIMESTAMPING` control message: header (16) and three timespecs (48).
pub(crate) const CONTROL_LEN: usize = 64;

const HEADER_LEN: usize = size_of::<libc::cmsghdr>();
const SCM_TIMESTAMPING: i32 = libc::SCM_TIMESTAMPING;

/// The software receive timestamp, nanoseconds of `CLOCK_REALTIME`, from raw control data; `None` when there is none.
///
/// `control` holds a `cmsghdr` (length, level, type) followed by `struct scm_timestamping`: three timespecs, of which
/// the first is the software timestamp.
#[inline]
pub(crate) fn receive_timestamp_ns(control: &[u8]) -> Option<u64> {
    if control.len() < HEADER_LEN + 16 {
        return None;
    }
    let level = i32::from_ne_bytes(control[8..12].try_into().ok()?);
    let kind = i32::from_ne_bytes(control[12..16].try_into().ok()?);
    if level != libc::SOL_SOCKET || kind != SCM_TIMESTAMPING {
        return None;
    }
    let seconds = u64::from_ne_bytes(control[16..24].try_into().ok()?);
    let nanoseconds = u64::from_ne_bytes(control[24..32].try_into().ok()?);
    (seconds != 0).then_some(seconds * crate::time::S + nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(level: i32, kind: i32, seconds: u64, nanoseconds: u64) -> Vec<u8> {
        let mut bytes = (CONTROL_LEN as u64).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(seconds.to_ne_bytes());
        bytes.extend(nanoseconds.to_ne_bytes());
        bytes.resize(CONTROL_LEN, 0);
        bytes
    }

    #[test]
    fn only_the_software_timestamp_is_read() {
        let timestamp = control(libc::SOL_SOCKET, SCM_TIMESTAMPING, 7, 9);
        assert_eq!(receive_timestamp_ns(&timestamp), Some(7_000_000_009));
        assert_eq!(receive_timestamp_ns(&timestamp[..20]), None);
        assert_eq!(receive_timestamp_ns(&[]), None);
        assert_eq!(receive_timestamp_ns(&control(libc::SOL_IP, SCM_TIMESTAMPING, 7, 9)), None);
        assert_eq!(receive_timestamp_ns(&control(libc::SOL_SOCKET, SCM_TIMESTAMPING, 0, 0)), None);
    }
}
