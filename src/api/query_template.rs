//! `--query-template`: request bodies from a template of the user.

use serde_json::{Map, Value};

use super::placeholder;
use super::prompt::Prompt;

/// A template, and the flags that take precedence over it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryTemplate {
    fields: Map<String, Value>,
    /// A flag given on the command line takes precedence over the template.
    given: GivenFlags,
}

/// Which of the flags that have a default were given on the command line. Other flags are sent only if they are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GivenFlags {
    pub model: bool,
    pub stream: bool,
    pub max_tokens: bool,
    pub temperature: bool,
}

impl QueryTemplate {
    /// Parses a template. The error continues "--query-template".
    pub(crate) fn scan(text: &str, given: GivenFlags) -> Result<QueryTemplate, String> {
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Ok(QueryTemplate { fields, given }),
            Ok(_) => {
                Err("must be a JSON object, for example '{\"model\": \"%m\", \"messages\": [{\"role\": \"user\", \
                          \"content\": \"%p\"}]}'"
                    .to_string())
            }
            Err(error) => {
                let hint =
                    if text.contains("%p") || text.contains("%m") { "; %m and %p must be within quotes" } else { "" };
                Err(format!("is not valid JSON ({error}){hint}"))
            }
        }
    }

    /// The fields of the body for one prompt.
    pub(crate) fn fill(&self, model: &str, prompt: &Prompt) -> Map<String, Value> {
        let fill = |value: &Value| placeholder::fill(value, model, prompt);
        self.fields.iter().map(|(name, value)| (name.clone(), fill(value))).collect()
    }

    /// The fields to add to a whole body from the data set: those without the placeholder of the prompt.
    pub(crate) fn fill_beside_body(&self, model: &str) -> Map<String, Value> {
        let nothing = Prompt::Text(String::new());
        let fields = self.fields.iter().filter(|(_, value)| !placeholder::names_prompt(value));
        fields.map(|(name, value)| (name.clone(), placeholder::fill(value, model, &nothing))).collect()
    }

    /// Whether the template contains the placeholder of the prompt.
    pub(crate) fn names_prompt(&self) -> bool {
        self.fields.values().any(placeholder::names_prompt)
    }

    /// Whether the flag for this field of the body was given on the command line.
    pub(crate) fn is_given(&self, field: &str) -> bool {
        match field {
            "model" => self.given.model,
            "stream" => self.given.stream,
            "max_tokens" | "max_completion_tokens" | "max_output_tokens" => self.given.max_tokens,
            "temperature" => self.given.temperature,
            _ => true,
        }
    }

    /// The value of `stream` in the template, unless the flag was given.
    pub fn stream(&self) -> Option<bool> {
        self.fields.get("stream").and_then(Value::as_bool).filter(|_| !self.given.stream)
    }

    /// The model named by the template itself, unless the flag was given.
    pub fn model(&self) -> Option<&str> {
        let named = self.fields.get("model").and_then(Value::as_str);
        named.filter(|name| !self.given.model && !name.contains(placeholder::MODEL) && !name.is_empty())
    }

    /// A field of the template, with its placeholders.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let scan = |text| QueryTemplate::scan(text, GivenFlags::default()).unwrap_err();
        assert!(scan("[1]").contains("must be a JSON object"));
        assert!(scan("{\"prompt\": %p}").contains("within quotes"));
        assert!(scan("{").contains("line 1"));
    }

    #[test]
    fn what_it_sets_itself_is_known() {
        let text = r#"{"model":"lora","stream":false,"messages":[{"role":"user","content":"%p"}],"x":"%m"}"#;
        let template = QueryTemplate::scan(text, GivenFlags::default()).unwrap();
        assert_eq!((template.model(), template.stream(), template.names_prompt()), (Some("lora"), Some(false), true));
        let beside = template.fill_beside_body("q");
        assert!(!beside.contains_key("messages") && beside["x"] == "q");
        let given =
            QueryTemplate::scan(text, GivenFlags { model: true, stream: true, ..GivenFlags::default() }).unwrap();
        assert_eq!((given.model(), given.stream()), (None, None));
    }
}
