//! Chat templates: the Jinja templates of models, which turn messages into one prompt.

use std::error::Error as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, context};
use serde_json::{Map, Value, json};

use super::template_watch::Running;
use crate::files::read_value_text;

const NAME: &str = "chat";
/// The date that templates get, fixed so that token counts do not depend on the day of the run.
const DAY: &str = "26 Jul 2025";

/// Instructions that a template may execute for one prompt; a long conversation needs some ten thousands.
const MAX_INSTRUCTIONS: u64 = 5_000_000;
/// Longest prompt that a template may write, bytes.
const MAX_PROMPT_BYTES: usize = 64 << 20;

/// A compiled chat template with the model's special tokens.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token`, `eos_token` and the like, by name.
    special: Map<String, Value>,
    /// Where the template is from; empty if it was not read from a folder.
    folder: PathBuf,
}

impl ChatTemplate {
    /// Opens the template in a tokenizer's folder: `chat_template.jinja`, `chat_template.json`, or in
    /// `tokenizer_config.json`. `None` if there is none.
    pub fn beside(folder: &Path) -> Result<Option<ChatTemplate>, String> {
        let config = read_json(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
        let source = match read_text(&folder.join("chat_template.jinja"))? {
            Some(text) => Some(text),
            None => match read_json(&folder.join("chat_template.json"))? {
                Some(file) => template_of(&file),
                None => template_of(&config),
            },
        };
        let Some(source) = source else { return Ok(None) };
        let template = ChatTemplate::compile(&source, special_tokens(&config))?;
        Ok(Some(ChatTemplate { folder: folder.to_path_buf(), ..template }))
    }

    /// Compiles a template.
    pub fn compile(source: &str, special: Map<String, Value>) -> Result<ChatTemplate, String> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(MAX_INSTRUCTIONS));
        // The settings of transformers.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| error.to_string())?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |text: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, text))
        });
        environment.add_function("strftime_now", |_format: String| DAY.to_string());
        environment
            .add_template_owned(NAME, source.to_string())
            .map_err(|error| format!("has a chat template that cannot be read: {error}"))?;
        Ok(ChatTemplate { environment, special, folder: PathBuf::new() })
    }

    /// The prompt for these messages, followed by the generation prompt.
    pub fn render(&self, messages: &[Value]) -> Result<String, String> {
        let first = match self.render_once(messages) {
            Ok(prompt) => return Ok(prompt),
            Err(error) => error,
        };
        let error = format!("the chat template rejects the messages: {first}");
        // Templates of text models accept only text; images are counted elsewhere. A template without end has none with
        // texts either.
        let texts: Vec<Value> = messages.iter().map(text_only).collect();
        if is_out_of_fuel(&first) || texts == messages {
            return Err(error);
        }
        self.render_once(&texts).map_err(|_| error)
    }

    fn render_once(&self, messages: &[Value]) -> Result<String, Error> {
        let template = self.environment.get_template(NAME)?;
        let messages = minijinja::Value::from(Serde(messages));
        let special = minijinja::Value::from(Serde(&self.special));
        let mut prompt = LimitedText::default();
        let _running = Running::begin(&self.folder);
        let context = context! { messages, add_generation_prompt => true, tools => (), ..special };
        let rendered = template.render_captured_to(context, &mut prompt);
        if prompt.is_full {
            let what = format!("it writes more than {} MiB", MAX_PROMPT_BYTES >> 20);
            return Err(Error::new(ErrorKind::InvalidOperation, what));
        }
        rendered?;
        String::from_utf8(prompt.text)
            .map_err(|_| Error::new(ErrorKind::BadSerialization, "it writes text that is not UTF-8"))
    }
}

/// Whether the instructions ran out, here or in what the template includes or calls.
fn is_out_of_fuel(error: &Error) -> bool {
    let cause = || error.source().and_then(|cause| cause.downcast_ref::<Error>());
    error.kind() == ErrorKind::OutOfFuel || cause().is_some_and(is_out_of_fuel)
}

/// The text that a template writes, up to [`MAX_PROMPT_BYTES`].
#[derive(Default)]
struct LimitedText {
    text: Vec<u8>,
    is_full: bool,
}

impl Write for LimitedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_full |= self.text.len() + bytes.len() > MAX_PROMPT_BYTES;
        if self.is_full {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The message with the texts of its parts as one text.
fn text_only(message: &Value) -> Value {
    let mut message = message.clone();
    if let Some(Value::Array(parts)) = message.get("content") {
        let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
        message["content"] = json!(texts.join("\n"));
    }
    message
}

/// The text of a file; `None` if there is no such file.
fn read_text(path: &Path) -> Result<Option<String>, String> {
    match read_value_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(format!("has a {} that cannot be read: {error}", name(path))),
    }
}

fn read_json(path: &Path) -> Result<Option<Value>, String> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| format!("has a {} that is not valid JSON: {error}", name(path)))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The field `chat_template`: a text, or a list of named templates, of which `default` is used.
fn template_of(config: &Value) -> Option<String> {
    match config.get("chat_template")? {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default").or(named.first())?;
            Some(default["template"].as_str()?.to_string())
        }
        _ => None,
    }
}

/// Special tokens by name. Each is a string, or an object with the string in `content`.
fn special_tokens(config: &Value) -> Map<String, Value> {
    let Value::Object(fields) = config else { return Map::new() };
    let token = |value: &Value| Some(json!(value.as_str().or_else(|| value.get("content")?.as_str())?));
    let named = fields.iter().filter(|(name, _)| name.ends_with("_token"));
    named.filter_map(|(name, value)| Some((name.clone(), token(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, messages: Value) -> Result<String, String> {
        let special = special_tokens(&json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "unk_token": null}));
        ChatTemplate::compile(source, special).unwrap().render(messages.as_array().unwrap())
    }

    #[test]
    fn templates_are_rendered_as_transformers_does() {
        let source = "{{ bos_token }}{%- for m in messages %}\n    {% if m['role'] == 'user' %}\n[{{ m['content'].strip() }}]\n    {% endif %}\n{%- endfor %}{% if add_generation_prompt %}A:{% endif %}{{ eos_token if tools else '' }}";
        assert_eq!(render(source, json!([{"role": "user", "content": " hi "}])).unwrap(), "<s>[hi]\nA:");
    }

    #[test]
    fn templates_that_do_not_end_are_errors() {
        let loops = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
        assert!(render(loops, json!([])).unwrap_err().contains("fuel"));
        let recursive = "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}";
        assert!(render(recursive, json!([])).is_err());
        let doubled = "{% set ns = namespace(s='ab') %}{% for a in range(24) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}\
                       {% for a in range(9) %}{{ ns.s }}{% endfor %}";
        let error = render(doubled, json!([])).unwrap_err();
        assert!(error.contains("more than 64 MiB"), "{error}");
        let long = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content | trim }}{% endif %}{% endfor %}";
        let messages: Vec<Value> = (0..20_000).map(|_| json!({"role": "user", "content": "a"})).collect();
        assert_eq!(render(long, json!(messages)).unwrap().len(), 20_000);
    }

    #[test]
    fn a_template_without_end_is_rendered_once() {
        let parts = json!([{"role": "user", "content": [{"type": "text", "text": "a"}]}]);
        let ends = "{% if messages[0].content is string %}text{% else %}\
                    {% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}{% endif %}";
        assert!(render(ends, parts).unwrap_err().contains("fuel"), "not rendered again with texts");
    }

    #[test]
    fn files_that_are_too_long_or_not_text_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let open = || ChatTemplate::beside(folder.path()).map(|template| template.is_some());
        assert_eq!(open(), Ok(false));
        let template = folder.path().join("chat_template.jinja");
        std::os::unix::fs::symlink("/dev/zero", &template).unwrap();
        let error = open().unwrap_err();
        assert!(error.contains("chat_template.jinja that cannot be read: it is longer than 64 MiB"), "{error}");
        std::fs::remove_file(&template).unwrap();
        std::fs::write(folder.path().join("tokenizer_config.json"), b"{\"chat_template\": \"\xff\"}").unwrap();
        assert!(open().unwrap_err().contains("tokenizer_config.json that cannot be read"), "{:?}", open());
    }

    #[test]
    fn refusals_are_told_and_parts_become_text() {
        let refuse = "{{ raise_exception('roles must alternate') }}";
        assert!(render(refuse, json!([])).unwrap_err().contains("roles must alternate"));
        let source = "{{ messages[0].content + '!' }}{{ strftime_now('%Y') }}";
        let parts = json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]);
        assert_eq!(render(source, parts).unwrap(), format!("a!{DAY}"));
        assert!(ChatTemplate::compile("{% if %}", Map::new()).unwrap_err().contains("cannot be read"));
    }
}
