use proptest::prelude::*;
use proptest::sample::select as pick;

use super::*;
use crate::cli::{Command as Subcommand, parse};

/// The calls of `ringmark perf LINE` with these variables. `FILE` in the line is replaced by a file with this text.
fn calls_of(line: &str, text: &str, variables: &[(&str, &str)]) -> Result<Vec<Call>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bench.toml");
    std::fs::write(&path, text).unwrap();
    let words = ["ringmark", "perf"].into_iter().chain(line.split_whitespace());
    let arguments: Vec<OsString> =
        words.map(|word| if word == "FILE" { path.clone().into_os_string() } else { word.into() }).collect();
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let shorten = |text: String| text.replace(folder.path().to_str().unwrap(), "");
    match parse(&arguments) {
        Ok(Subcommand::Perf(args)) => calls(&args, &arguments, variables).map_err(|early| shorten(early.text)),
        other => panic!("{line}: {other:?}"),
    }
}

fn spec_of(line: &str, text: &str, variables: &[(&str, &str)]) -> Spec {
    let mut calls = calls_of(line, text, variables).unwrap();
    assert_eq!(calls.len(), 1);
    calls.remove(0).spec
}

#[test]
fn the_command_line_comes_before_the_environment_the_file_and_defaults() {
    let text = "parallel = [1, 2]\nnumber = 7\nmax-tokens = 100\ntemperature = 0.5\nquiet = true\n";
    let variables = [("RINGMARK_FLAG_NUMBER", "[8, 9]"), ("RINGMARK_FLAG_MAX_TOKENS", "200"), ("OTHER", "x")];
    let spec = spec_of("--config FILE --number 10 11", text, &variables);
    assert_eq!((spec.load.number, spec.load.parallel), (vec![10, 11], vec![1, 2]));
    assert_eq!((spec.sampling.max_tokens, spec.sampling.temperature), (vec![200], Some(0.5)));
    assert!(spec.output.quiet && spec.output.outputs_dir == Path::new("outputs"));
    let spec = spec_of("--config FILE", text, &[("RINGMARK_FLAG_QUIET", "false"), ("RINGMARK_FLAG_PARALLEL", "")]);
    assert!(!spec.output.quiet, "false in a higher place");
    assert_eq!(spec.load.parallel, [1, 2], "an empty variable is not set");
    // Without a file, the environment counts too.
    assert_eq!(spec_of("-n 5", "", &[("RINGMARK_FLAG_DATA_SEED", "3")]).data.data_seed, Some(3));
}

#[test]
fn a_flag_of_a_higher_place_excludes_its_opposite_below() {
    let text = "stream = true\nquiet = true\n[[scenario]]\nname = \"a\"\nno-stream = true\n";
    let spec = spec_of("--config FILE --verbose", text, &[]);
    assert!(spec.sampling.no_stream && !spec.sampling.stream && spec.output.verbose && !spec.output.quiet);
    let both = calls_of("--config FILE", "stream = true\nno-stream = true\n", &[]).unwrap_err();
    assert!(both.contains("--stream") && both.contains("--no-stream"), "{both}");
}

#[test]
fn values_have_the_types_of_their_flags() {
    let text = r#"
        headers = { X-Tenant = "a=b", "X-Id" = 7 }
        extra_args = { ignore_eos = true, n = 0x10, list = [1, 2.5] }
        sla_params = [{ p99_ttft = "<=2" }]
        sla-auto-tune = true
        server-metrics = true
        concurrency = 4_000
        slo = ["p99_ttft<=2", "failed<=1%"]
        stop = ["-x", ""]
        prompt = """two
lines"""
        rate = -1
    "#;
    let spec = spec_of("--config FILE", text, &[]);
    assert_eq!(spec.target.headers, ["X-Id=7", "X-Tenant=a=b"]);
    assert_eq!(spec.sampling.extra_args.as_deref(), Some(r#"{"ignore_eos":true,"list":[1,2.5],"n":16}"#));
    assert_eq!(spec.sla.sla_params, [r#"[{"p99_ttft":"<=2"}]"#]);
    assert_eq!((spec.target.server_metrics.as_deref(), spec.load.parallel), (Some(""), vec![4000]));
    assert_eq!(spec.output.slo, ["p99_ttft<=2", "failed<=1%"]);
    assert_eq!((spec.sampling.stop, spec.load.rate), (vec!["-x".to_string(), String::new()], vec![-1.0]));
    assert_eq!(spec.data.prompt.as_deref(), Some("two\nlines"));
}

#[test]
fn arguments_that_take_all_that_follows_stay_last() {
    let line = "--config FILE --server-args --host x";
    let spec = spec_of(line, "api = \"local_vllm\"\nmodel = \"m\"\nserver-args = [\"--y\"]\n", &[]);
    assert_eq!(spec.target.local.server_args, ["--host", "x"]);
    let spec = spec_of("--config FILE --port 9", "server-args = [\"--y\", \"z\"]\n", &[]);
    assert_eq!((spec.target.local.server_args, spec.target.local.port), (vec!["--y".into(), "z".into()], Some(9)));
}

#[test]
fn scenarios_are_run_in_order_or_by_name() {
    let text = "url = \"mock:\"\nparallel = 1\n[[scenario]]\nname = \"short\"\nmax-tokens = 1\n\
                [[scenario]]\nname = \"long\"\nparallel = [2, 3]\n";
    let names = |calls: &[Call]| calls.iter().map(|call| call.scenario.clone().unwrap()).collect::<Vec<_>>();
    let all = calls_of("--config FILE", text, &[]).unwrap();
    assert_eq!(names(&all), ["short", "long"]);
    assert_eq!((&all[0].spec.load.parallel, &all[1].spec.load.parallel), (&vec![1], &vec![2, 3]));
    assert_eq!(all[0].spec.output.name.as_deref(), Some("short"), "the folder has the name of the scenario");
    assert!(all.iter().all(|call| call.spec.target.url.as_deref() == Some("mock:")));
    assert_eq!(names(&calls_of("--config FILE --scenario long", text, &[]).unwrap()), ["long"]);
    assert_eq!(names(&calls_of("--config FILE --scenario long short", text, &[]).unwrap()), ["short", "long"]);
}

#[test]
fn errors_name_the_file_and_the_line() {
    for (text, what) in [
        ("url = 'mock:'\nparalel = 2\n", "/bench.toml:2: unknown key 'paralel': did you mean 'parallel'?"),
        ("xyzzy = 1\n", "/bench.toml:1: unknown key 'xyzzy': see"),
        ("\nparallel = 0\n", "/bench.toml:2: invalid value '0' for '--parallel"),
        ("save = \"all\"\n", "/bench.toml:1: invalid value 'all'"),
        ("quiet = 1\n", "/bench.toml:1: 'quiet' is true or false"),
        ("parallel = true\n", "/bench.toml:1: 'parallel' needs a value"),
        ("model = [\"a\", \"b\"]\n", "/bench.toml:1: 'model' has one value, not a list"),
        ("model = { a = 1 }\n", "/bench.toml:1: 'model' is not a table"),
        ("stop = [[1]]\n", "/bench.toml:1: 'stop' is a list of texts or numbers"),
        ("headers = { A = [1] }\n", "/bench.toml:1: the values of 'headers'"),
        ("max-tokens = 1\n\nmax_tokens = 2\n", "/bench.toml:3: 'max_tokens' is given twice"),
        ("number = 3\nnum-prompts = 3\n", "/bench.toml:2: 'num-prompts' is given twice"),
        ("config = \"x\"\n", "/bench.toml:1: 'config' can only be given on the command line"),
        ("a = \n", "/bench.toml:1: "),
        ("url = 'a'\nurl = 'b'\n", "/bench.toml:2: duplicate key"),
        ("[[scenario]]\nparallel = 1\n", "/bench.toml:1: the scenario has no name"),
        ("[[scenario]]\nname = 'a'\n[[scenario]]\nname = 'a'\n", "/bench.toml:3: there are two scenarios"),
        ("[scenario]\nname = 'a'\n", "/bench.toml:1: scenarios are [[scenario]] tables"),
        ("[[scenario]]\nname = 'a'\nmodle = 'b'\n", "/bench.toml:3: unknown key 'modle': did you mean 'model'?"),
    ] {
        let error = calls_of("--config FILE", text, &[]).unwrap_err();
        assert!(error.contains(what), "{text}: {error}");
        assert!(error.lines().count() <= 2 && error.starts_with("error: "), "{error}");
    }
    let error = calls_of("--config FILE --scenario shrot", "[[scenario]]\nname = 'short'\n", &[]).unwrap_err();
    assert!(error.contains("no scenario 'shrot': did you mean 'short'?"), "{error}");
    let error = calls_of("--config FILE --scenario a", "number = 1\n", &[]).unwrap_err();
    assert!(error.contains("has no [[scenario]] tables"), "{error}");
    for (name, value, what) in [
        ("RINGMARK_FLAG_PARALEL", "2", "RINGMARK_FLAG_PARALEL: unknown key 'paralel': did you mean 'parallel'?"),
        ("RINGMARK_FLAG_PARALLEL", "1 2", "variable RINGMARK_FLAG_PARALLEL: invalid value '1 2'"),
        ("RINGMARK_FLAG_PARALLEL", "[1, {}]", "RINGMARK_FLAG_PARALLEL: several values are a JSON array"),
        ("RINGMARK_FLAG_QUIET", "yes", "RINGMARK_FLAG_QUIET: 'quiet' is true or false"),
    ] {
        let error = calls_of("", "", &[(name, value)]).unwrap_err();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn scenarios_do_not_write_to_the_same_files() {
    let two = "[[scenario]]\nname = 'a'\n[[scenario]]\nname = 'b'\n";
    for shared in ["csv = 'x.csv'\n", "export = ['vllm=x.json']\n"] {
        let error = calls_of("--config FILE", &format!("{shared}{two}"), &[]).unwrap_err();
        assert!(error.contains("scenarios 'a' and 'b' write to the same files"), "{error}");
    }
    let error = calls_of("--config FILE --no-timestamp --name x", two, &[]).unwrap_err();
    assert!(error.contains("--no-timestamp"), "{error}");
    // The documents of all scenarios are one.
    assert_eq!(calls_of("--config FILE --no-timestamp --json x.json --junit x.xml", two, &[]).unwrap().len(), 2);
}

#[test]
fn programs_that_the_file_starts_are_named() {
    let programs = |line: &str, text: &str| calls_of(line, text, &[]).unwrap().remove(0).programs;
    let text = "url = \"mock:\"\ndataset = \"./prompts.py\"\n";
    let line = programs("--config FILE", text).unwrap();
    assert!(line.ends_with("bench.toml starts programs: --dataset ./prompts.py (line 2)"), "{line}");
    assert_eq!(programs("--config FILE --dataset ./mine.py", text), None, "the command line starts its own");
    assert_eq!(programs("--config FILE", "api = \"./api.toml\"\n"), None);
    let local = "api = \"local_vllm\"\nserver-args = [\"--x\"]\npython = \"/p\"\nvisualizer = \"wandb\"\n";
    let text = programs("--config FILE", local).unwrap();
    for what in
        ["the local server of --api local_vllm (line 1)", "arguments --x (line 2)", "--python /p (line 3)", "wandb"]
    {
        assert!(text.contains(what), "{text}");
    }
}

#[test]
fn secrets_are_printed_as_references() {
    let line = "--print-config --url http://me:pass@h/v1?api_key=abcdef --api-key sk-123456 --headers X-Tenant=t Authorization=tok-99999 \
                X-Api-Key=env:MINE --extra-args {\"password\":\"hidden1\"} --proxy http://me:hidden2@h:1 --model m";
    let printed = print(&calls_of(line, "", &[]).unwrap()).unwrap();
    for secret in ["pass@", "abcdef", "sk-123456", "tok-99999", "hidden1", "hidden2"] {
        assert!(!printed.contains(secret), "{secret}: {printed}");
    }
    for part in [
        "url = \"env:RINGMARK_SECRET_URL\"",
        "api-key = \"env:RINGMARK_SECRET_API_KEY\"",
        "\"X-Tenant=t\", \"Authorization=env:RINGMARK_SECRET_HEADER_AUTHORIZATION\", \"X-Api-Key=env:MINE\"",
        "extra-args = \"env:RINGMARK_SECRET_EXTRA_ARGS\"",
        "proxy = \"env:RINGMARK_SECRET_PROXY\"",
        "model = \"m\"",
        "# connect-timeout = 120",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}

#[test]
fn each_secret_has_a_variable_of_its_own() {
    let file = "api = \"local_vllm\"\nmodel = \"m\"\nserver-args = [\"--api-key=first1\", \"--hf-token\", \"second2\", \
                \"--api-key=first1\"]\nheaders = [\"X-Token=third3\", \"X.Token=fourth4\"]\n\
                [[scenario]]\nname = \"a\"\napi-key = \"fifth5\"\n[[scenario]]\nname = \"b\"\napi-key = \"sixth6\"\n\
                [[scenario]]\nname = \"c\"\napi-key = \"fifth5\"\n";
    let first = calls_of("--config FILE", file, &[]).unwrap();
    let printed = print(&first).unwrap();
    let values = [
        ("SERVER_ARGS", "--api-key=first1"),
        ("SERVER_ARGS_2", "second2"),
        ("HEADER_X_TOKEN", "third3"),
        ("HEADER_X_TOKEN_2", "fourth4"),
        ("API_KEY", "fifth5"),
        ("API_KEY_2", "sixth6"),
    ];
    let variable = |name: &str| {
        let name = name.strip_prefix("RINGMARK_SECRET_")?;
        values.iter().find(|(of_value, _)| *of_value == name).map(|(_, value)| value.to_string())
    };
    for (number, call) in calls_of("--config FILE", &printed, &[]).unwrap().iter().enumerate() {
        let spec = crate::prepare::secret_values::resolve(&call.spec, &variable).unwrap();
        assert_eq!(spec, first[number].spec, "{printed}");
    }
    for (_, secret) in values {
        assert!(!printed.contains(secret), "{printed}");
        let programs = first[0].programs.clone().unwrap();
        assert!(!programs.contains(secret), "{programs}");
    }
}

/// Values to try for a flag that takes one; those that it rejects are left out.
const CANDIDATES: [&str; 17] = [
    "1",
    "2",
    "0.5",
    "-1",
    "text",
    "a b",
    "name=value",
    "http://h:1/v1?x=1",
    "1..2",
    "{\"a\": 1}",
    "ü \"q\" 'r' \\ \n\t",
    "en",
    "007",
    "127.0.0.1",
    "",
    "-x",
    "64MiB",
];

/// A flag with values that it accepts, as arguments.
fn random_flag() -> impl Strategy<Value = Vec<String>> {
    let perf = perf_command();
    let mut flags: Vec<Vec<Vec<String>>> = Vec::new();
    for argument in perf.get_arguments().filter(|argument| !is_own(argument)) {
        let long = argument.get_long().unwrap().to_string();
        if flag::is_switch(argument) {
            flags.push(vec![vec![format!("--{long}")]]);
            continue;
        }
        let possible: Vec<String> = argument.get_possible_values().iter().map(|v| v.get_name().to_string()).collect();
        let values = if possible.is_empty() { CANDIDATES.map(str::to_string).to_vec() } else { possible };
        let given = values.iter().map(|value| vec![format!("--{long}={value}")]);
        let accepted: Vec<Vec<String>> =
            given.filter(|given| perf.clone().try_get_matches_from(given).is_ok()).collect();
        assert!(!accepted.is_empty(), "--{long} accepts no candidate");
        let twice = accepted.iter().zip(accepted.iter().rev()).map(|(a, b)| [a.clone(), b.clone()].concat());
        let lists: Vec<_> = if flag::is_list(argument) { twice.collect() } else { Vec::new() };
        let bare = flag::has_optional_value(argument).then(|| vec![format!("--{long}")]);
        flags.push(accepted.into_iter().chain(lists).chain(bare).collect());
    }
    pick(flags).prop_flat_map(pick)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_printed_means_the_same_call(flags in prop::collection::vec(random_flag(), 0..12)) {
        let mut seen = Vec::new();
        let mut arguments = vec!["ringmark".to_string(), "perf".to_string()];
        for flag in flags {
            let name = flag[0].split('=').next().unwrap().to_string();
            if !seen.contains(&name) {
                seen.push(name);
                arguments.extend(flag);
            }
        }
        let Ok(Subcommand::Perf(mut args)) = parse(&arguments) else { return Ok(()) };
        args.print_config = true;
        let words: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let first = calls(&args, &words, std::iter::empty()).unwrap();
        let printed = match print(&first) {
            Ok(printed) => printed,
            Err(error) => {
                prop_assert!(error.contains("the secret of another flag"), "{}", error);
                return Ok(());
            }
        };
        let again = calls_of("--config FILE", &printed, &[]).unwrap_or_else(|error| panic!("{error}\n{printed}"));
        // Each secret that was replaced, as its variable would have it: the value of the flag in the variable's name.
        let variable = |name: &str| {
            let flag = name.strip_prefix("RINGMARK_SECRET_")?.to_lowercase().replace('_', "-");
            let prefix = format!("--{flag}=");
            arguments.iter().find_map(|argument| argument.strip_prefix(&prefix)).map(str::to_string)
        };
        let resolved = crate::prepare::secret_values::resolve(&again[0].spec, &variable);
        match resolved {
            Ok(spec) => prop_assert_eq!(&spec, &first[0].spec, "{}", printed),
            // A key that is empty cannot be a variable's value.
            Err(error) => prop_assert!(error.contains("it is empty"), "{}", error),
        }
    }
}
