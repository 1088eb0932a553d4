//! Python's pickle (protocol 2) for plain data, and base64: how evalscope's database encodes requests and responses.

use serde_json::Value;

/// The value as a pickle: None, bool, int, float, str, list and dict.
pub fn dumps(value: &Value) -> Vec<u8> {
    let mut out = vec![0x80, 2];
    put(value, &mut out);
    out.push(b'.');
    out
}

fn put(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(b'N'),
        Value::Bool(true) => out.push(0x88),
        Value::Bool(false) => out.push(0x89),
        Value::Number(number) => put_number(number, out),
        Value::String(text) => put_text(text, out),
        Value::Array(items) => {
            out.extend_from_slice(b"](");
            items.iter().for_each(|item| put(item, out));
            out.push(b'e');
        }
        Value::Object(map) => {
            out.extend_from_slice(b"}(");
            for (key, item) in map {
                put_text(key, out);
                put(item, out);
            }
            out.push(b'u');
        }
    }
}

fn put_number(number: &serde_json::Number, out: &mut Vec<u8>) {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match (whole, whole.and_then(|whole| i32::try_from(whole).ok())) {
        (_, Some(small)) => {
            out.push(b'J');
            out.extend_from_slice(&small.to_le_bytes());
        }
        (Some(large), None) => {
            // LONG1: a length, then the little-endian two's complement.
            out.extend_from_slice(&[0x8a, 16]);
            out.extend_from_slice(&large.to_le_bytes());
        }
        (None, None) => {
            out.push(b'G');
            out.extend_from_slice(&number.as_f64().unwrap_or(f64::NAN).to_be_bytes());
        }
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'X');
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, &byte| group << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let value = group >> (18 - 6 * digit) & 63;
            out.push(if digit <= chunk.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standard_one() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        assert!(cases.iter().all(|(plain, coded)| base64(plain.as_bytes()) == *coded));
    }

    #[test]
    fn pickles_have_the_documented_bytes() {
        let value = serde_json::json!({"a": [1, true, null]});
        assert_eq!(dumps(&value), b"\x80\x02}(X\x01\0\0\0a](J\x01\0\0\0\x88Neu.");
    }
}
