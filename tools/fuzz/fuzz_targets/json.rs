//! Strings are unescaped as by serde_json, and searching documents does not panic.
#![no_main]

use ringmark::protocol::json::{self, Step};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let expected: Option<String> = serde_json::from_slice(&[b"\"", data, b"\""].concat()).ok();
    assert_eq!(json::unescape(data).map(|text| text.into_owned()), expected);
    assert_eq!(json::is_string_body(data), expected.is_some());
    let path = [Step::Key("choices"), Step::First, Step::Key("delta"), Step::Key("content")];
    let found = json::find_string(data, &path).map(|place| data[place].to_vec());
    if json::with_value(data, |value| _ = json::encode(value)).is_ok() {
        assert!(found.is_none_or(|body| json::is_string_body(&body)));
    }
});
