//! Datasets and APIs as classes in Python files. The files in `plugins/` are the examples of evalscope's documents, as they
//! are printed there.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::call::{Call, perf};
use super::custom::server;

const CHAT: &str = "mock:/v1/chat/completions?ttft=0ms&itl=0ms&tokens=3";
const LINES: &str = "short\na longer line\n\nthe longest line of all\n";

/// A file of evalscope's documents.
fn documented(name: &str) -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/api/plugins").join(name);
    file.display().to_string()
}

fn run(arguments: &[&str], files: &[(&str, &str)]) -> Call {
    perf(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>(), files)
}

/// A run with the class of `file` as its dataset.
fn dataset(file: &str, more: &[&str], files: &[(&str, &str)]) -> Call {
    run(&[&["--url", CHAT, "--dataset", file, "--model", "m", "-n", "4", "--no-test-connection"], more].concat(), files)
}

/// The texts of the prompts, sorted.
fn prompts(call: &Call) -> Vec<String> {
    let text = |body: &Value| match &body["messages"][0]["content"] {
        Value::String(text) => text.clone(),
        _ => body["prompt"].to_string(),
    };
    let mut texts: Vec<String> = call.bodies().iter().map(text).collect();
    texts.sort();
    texts
}

/// The only line of an error.
fn error(call: &Call) -> String {
    let errors: Vec<&str> = call.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(call.status == 2 && errors.len() == 1, "{}: {}", call.status, call.stderr);
    errors[0].to_string()
}

#[test]
fn documented_datasets_run_as_printed() {
    for name in ["dataset_2024.py", "dataset_1_14.py"] {
        let lengths = ["--dataset-path", "lines.txt", "--max-prompt-length", "20"];
        let call = dataset(&documented(name), &lengths, &[("lines.txt", LINES)]);
        call.check(4.0);
        // The classes exclude the limits, which are 0 and 20.
        assert_eq!(prompts(&call), ["a longer line", "short"], "{name}");
    }
}

#[test]
fn the_newest_documented_api_runs_as_printed() {
    let call = run(&["--url", CHAT, "--api", &documented("api_1_14.py"), "--model", "m", "-n", "3"], &[]);
    call.check(3.0);
    assert_eq!(call.requests("token_source"), ["program"; 3]);
    assert_eq!(call.requests("output_tokens"), ["3"; 3]);
    let body = &call.bodies()[0];
    assert_eq!((&body["model"], &body["max_tokens"]), (&json!("m"), &json!(2048)));
    assert!(body["messages"].is_array() && body["stream_options"]["include_usage"] == json!(true), "{body}");
}

#[test]
fn without_a_chat_endpoint_the_api_gets_texts() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"text\": \"a\"}";
    let (url, requests) = server(answer);
    let url = format!("{url}/generate");
    let call =
        run(&["--url", &url, "--api", &documented("api_1_14.py"), "--model", "m", "-n", "1", "--no-stream"], &[]);
    call.check(1.0);
    let (_, body) = requests.recv().unwrap();
    assert!(body["input_text"].is_string(), "{body}");
    // The class returns 0 for counts that it cannot find.
    assert_eq!(call.requests("output_tokens"), [""]);
}

#[test]
fn the_api_of_2024_is_a_skeleton_whose_methods_have_to_be_written() {
    let call = run(&["--url", CHAT, "--api", &documented("api_2024.py"), "--model", "m", "-n", "1"], &[]);
    let text = error(&call);
    assert!(text.contains("CustomPlugin only raises NotImplementedError") && text.contains("line 20"), "{text}");
    let skeleton = std::fs::read_to_string(documented("api_2024.py")).unwrap();
    let (head, tail) = skeleton.split_once("        raise NotImplementedError\n").unwrap();
    let body =
        "        return {'model': param.model, 'messages': messages, 'stream': True, 'user': str(self.model_path)}\n";
    let parse = "        import json\n        return 7, len([json.loads(each.decode()) for each in responses])\n";
    let written = format!("{head}{body}{}", tail.replace("        raise NotImplementedError", parse));
    let call = run(&["--url", CHAT, "--api", "./api.py", "--model", "m", "-n", "2"], &[("api.py", &written)]);
    call.check(2.0);
    assert_eq!(
        (call.requests("input_tokens"), call.requests("token_source")),
        (vec!["7".into(); 2], vec!["program".into(); 2])
    );
    assert_eq!(call.bodies()[0]["user"], json!("None"));
}

const HELPERS: &str = r#"
import json
from evalscope.perf.plugin.datasets.base import DatasetPluginBase, Turn
from evalscope.perf.plugin.registry import register_dataset
from evalscope.utils.logger import get_logger

@register_dataset(["helpers", "other_name"])
class Helpers(DatasetPluginBase):
    def build_messages(self):
        print("this is not a prompt")
        get_logger().warning("nor is this")
        q = self.query_parameters
        yield json.dumps([q.model, q.number, q.parallel, q.rate, q.max_tokens, q.temperature, q.extra_args, q.seed, q.api])
        for text in ("12", "12345", "123456"):
            yield from filter(None, [self.prepare_messages(text)])
        valid, length = self.check_prompt_length("123456")
        yield [self.create_message(f"{valid} {length}", ["http://p"], role="user")]
        yield [Turn(messages=[{"role": "user", "content": "of a turn"}])]

if __name__ == "__main__":
    raise SystemExit("not run")
"#;

#[test]
fn the_base_class_has_the_helpers_and_the_arguments() {
    let more = ["--min-prompt-length", "2", "--max-prompt-length", "5", "--extra-args", "{\"a\":1}", "--seed", "9"];
    let call = dataset("./f.py", &more, &[("f.py", HELPERS)]);
    call.check(4.0);
    let contents: Vec<Value> = call.bodies().iter().map(|body| body["messages"][0]["content"].clone()).collect();
    assert_eq!(contents.len(), 4, "{contents:?}");
    assert!(contents.contains(&json!("[\"m\", 4, 1, -1, 2048, 0.0, {\"a\": 1}, 9, \"openai\"]")), "{contents:?}");
    assert!(contents.contains(&json!("12")) && contents.contains(&json!("12345")), "{contents:?}");
    let picture = json!([{"type": "text", "text": "False 6"}, {"type": "image_url", "image_url": {"url": "http://p"}}]);
    assert!(contents.contains(&picture), "{contents:?}");
    let more = [&more[..], &["-n", "5"]].concat();
    let arguments =
        [&["--url", CHAT, "--dataset", "./f.py", "--model", "m", "--no-test-connection"], &more[..]].concat();
    let call = run(&arguments, &[("f.py", HELPERS)]);
    assert!(prompts(&call).contains(&"of a turn".to_string()));
}

#[test]
fn one_of_several_classes_is_named() {
    let file = "
from evalscope.perf.plugin.registry import register_dataset, register_api
from evalscope.perf.plugin.datasets.base import DatasetPluginBase
from evalscope.perf.plugin.api.base import ApiPluginBase
from evalscope.perf.main import run_perf_benchmark
def make(word):
    class Words(DatasetPluginBase):
        def build_messages(self):
            yield from [word] * 9
    return Words
register_dataset('one')(make('first'))
register_dataset('two')(make('second'))
run_perf_benchmark({'dataset': 'one'})
raise SystemExit('not reached')
";
    let call = dataset("./f.py:two", &[], &[("f.py", file)]);
    call.check(4.0);
    assert_eq!(prompts(&call), ["second"]);
    let text = error(&dataset("./f.py", &[], &[("f.py", file)]));
    assert!(text.contains("the file registers one, two: name one, as in ./f.py:one"), "{text}");
    let text = error(&dataset("./f.py:three", &[], &[("f.py", file)]));
    assert!(text.contains("registers no 'three' in this file, only: one, two"), "{text}");
    let text = error(&run(&["--url", CHAT, "--api", "./f.py", "--model", "m", "-n", "1"], &[("f.py", file)]));
    assert!(text.contains("no class with @register_api; it registers one, two"), "{text}");
}

#[test]
fn errors_have_the_line_of_the_file() {
    let class = |method: &str| {
        format!(
            "from evalscope.perf.plugin.datasets.base import DatasetPluginBase\n\
             from evalscope.perf.plugin.registry import register_dataset\n\
             @register_dataset('d')\nclass D(DatasetPluginBase):\n    def build_messages(self):\n        {method}\n"
        )
    };
    let turns = "from evalscope.perf.plugin.datasets.base import Turn; yield [Turn([]), Turn([])]";
    for (file, expected) in [
        (
            class("yield 'a'; open('/none/x')"),
            "FileNotFoundError: [Errno 2] No such file or directory: '/none/x' (f.py, line 6)",
        ),
        (class("yield 'a'; __import__('json').loads('{')"), "(f.py, line 6)"),
        (class("yield self.query_parameters.paralel"), "'paralel' is not an argument of ringmark perf"),
        (class("yield = 3"), "SyntaxError: "),
        (class(turns), "custom_multi_turn"),
        (class("import evalscope_of_nobody; yield 'a'"), "No module named 'evalscope_of_nobody' (f.py, line 6)"),
        (class("return iter(())"), "the program printed no prompt"),
        ("x = @register_dataset(\n".to_string(), "(f.py, line 1)"),
        ("register_dataset('d')(int)\n".to_string(), "needs a class derived from DatasetPluginBase (f.py, line 1)"),
        ("register_dataset(3)(int)\n".to_string(), "needs a name or a list of names, not 3 (f.py, line 1)"),
    ] {
        let text = error(&dataset("./f.py", &["--dataset-path", "none.txt"], &[("f.py", &file)]));
        assert!(text.contains("--dataset ./f.py") && text.contains(expected), "{file}: {text}");
    }
}

#[test]
fn a_class_that_sends_requests_itself_is_rejected() {
    let api = |method: &str| {
        format!(
            "from evalscope.perf.plugin.api.default_api import DefaultApiPlugin\n\
             from evalscope.perf.plugin.registry import register_api\n\
             @register_api('a')\nclass A(DefaultApiPlugin):\n    def build_request(self, messages, param=None):\n        \
             return {{'messages': messages, 'model': param.model, 'stream': True}}\n    {method}\n"
        )
    };
    let call_of = |text: &str| run(&["--url", CHAT, "--api", "./f.py", "--model", "m", "-n", "1"], &[("f.py", text)]);
    let sends = api(
        "async def process_request(self, client_session, url, headers, body):\n        return await client_session.post(url)",
    );
    let text = error(&call_of(&sends));
    assert!(text.contains("A.process_request cannot be used: the program sends the requests itself"), "{text}");
    let stub = api(
        "async def process_request(self, client_session, url, headers, body):\n        raise NotImplementedError('x')",
    );
    call_of(&stub).check(1.0);
    let nothing = api("").replace("return {'messages': messages, 'model': param.model, 'stream': True}", "pass");
    let text = error(&call_of(&nothing));
    assert!(text.contains("A.build_request returned None, not a dictionary"), "{text}");
}

#[test]
fn responses_have_the_form_of_the_annotation() {
    let api = |annotation: &str, expression: &str| {
        format!(
            "from typing import *\nimport json\nfrom evalscope.perf.plugin.api.base import ApiPluginBase\n\
             from evalscope.perf.plugin.registry import register_api\n\
             @register_api('a')\nclass A(ApiPluginBase):\n    def build_request(self, messages, param):\n        \
             return {{'messages': messages, 'model': param.model, 'stream': param.stream}}\n    \
             def parse_responses(self, responses{annotation}, request: str = None):\n        \
             assert json.loads(request)['model'] == request['model'] == 'm'\n        \
             return {expression}, json.loads(responses[-1])['usage']['completion_tokens']\n"
        )
    };
    for (annotation, expression) in [
        ("", "isinstance(responses[0], str) + 10"),
        (": List[str]", "isinstance(responses[0], str) + 10"),
        (": List[bytes]", "isinstance(responses[0], bytes) + 10"),
        (": List[Dict]", "(isinstance(responses[0], dict) and responses[-1]['usage']['completion_tokens'] == 3) + 10"),
        (": list[dict]", "isinstance(responses[0], dict) + 10"),
    ] {
        let file = api(annotation, expression);
        let more = ["--extra-args", "{\"stream_options\":{\"include_usage\":true}}"];
        let arguments = [&["--url", CHAT, "--api", "./f.py", "--model", "m", "-n", "1"], &more[..]].concat();
        let call = run(&arguments, &[("f.py", &file)]);
        call.check(1.0);
        let parsed = (call.requests("input_tokens"), call.requests("token_source"));
        assert_eq!(
            parsed,
            (vec!["11".to_string()], vec!["program".to_string()]),
            "{annotation}: {:?}",
            call.findings()
        );
    }
}

#[test]
fn programs_get_the_path_and_the_lengths_in_their_environment() {
    let program = "import json, os\nfor n in range(4):\n    print(json.dumps(' '.join([str(n)] + [os.environ[name] for name in \
                   ('RINGMARK_DATASET_PATH', 'RINGMARK_MIN_PROMPT_LENGTH', 'RINGMARK_MAX_PROMPT_LENGTH')])))\n";
    let lengths = ["--dataset-path", "any", "--min-prompt-length", "3", "--max-prompt-length", "99"];
    let call = dataset("./p.py", &lengths, &[("p.py", program)]);
    call.check(4.0);
    assert!(prompts(&call).contains(&"0 any 3 99".to_string()), "{:?}", prompts(&call));
    assert!(!Path::new("any").exists());
}
