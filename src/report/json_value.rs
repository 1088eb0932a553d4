//! Numbers as JSON values.

use serde_json::Value as Json;

/// A number, or null: JSON has no NaN.
pub(crate) fn finite(value: Option<f64>) -> Json {
    value.and_then(serde_json::Number::from_f64).map_or(Json::Null, Json::Number)
}
