//! Prompt lengths in tokens, with real tokenizers.

mod data_support;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;

use data_support::{bodies, chat, completions, content, plans, tokenizer, workload};
use ringmark::record::Phase;
use ringmark::spec::{ChatTemplate, Spec};
use ringmark::workload::Workload;
use ringmark::workload::tokenizer::Tokenizer;
use serde_json::json;

fn open(name: &str) -> Tokenizer {
    Tokenizer::open(tokenizer(name).as_ref()).unwrap()
}

fn random(base: Spec, name: &str) -> Spec {
    base.with(|s| {
        s.data.dataset = Some("random".to_string());
        s.data.tokenizer_path = Some(tokenizer(name));
        s.data.min_prompt_length = 60;
        s.data.max_prompt_length = Some(90);
        s.load.number = vec![40];
    })
}

#[test]
fn counts_match_the_models_tokenizers() {
    let (deepseek, qwen) = (open("deepseek"), open("qwen2_5"));
    assert_eq!(qwen.encode("Hello, world!").unwrap(), [9707, 11, 1879, 0]);
    assert_eq!(deepseek.count("Hello, world!").unwrap(), 4);
    assert_eq!(qwen.decode(&[9707, 11, 1879, 0]).unwrap(), "Hello, world!");
    assert!(!deepseek.has_template() && qwen.has_template());
    assert_eq!(
        qwen.chat_of("hi").unwrap(),
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n\
         <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(qwen.count(&qwen.chat_of("hi").unwrap()).unwrap(), 30);
}

#[test]
fn a_tokenizer_is_a_folder_or_its_file() {
    let file = format!("{}/tokenizer.json", tokenizer("deepseek"));
    assert_eq!(Tokenizer::open(file.as_ref()).unwrap().count("hi").unwrap(), 1);
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::open(folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("--tokenizer-path: ") && error.contains("has no tokenizer.json"), "{error}");
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let error = Tokenizer::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json is not a Hugging Face tokenizer") && !error.contains('\n'), "{error}");
    fs::copy(file, folder.path().join("tokenizer.json")).unwrap();
    fs::write(folder.path().join("tokenizer_config.json"), "{").unwrap();
    let error = Tokenizer::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json that is not valid JSON"), "{error}");
}

#[test]
fn lengths_are_tokens_with_a_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.txt");
    fs::write(&file, "hi\n").unwrap();
    let test_spec = |template: ChatTemplate, min, max| {
        chat().with(|s| {
            s.data.tokenizer_path = Some(tokenizer("qwen2_5"));
            s.data.chat_template = template;
            s.data.min_prompt_length = min;
            s.data.max_prompt_length = Some(max);
            s.data.dataset = Some("line_by_line".to_string());
            s.data.dataset_path = Some(file.clone());
        })
    };
    workload(&test_spec(ChatTemplate::default(), 30, 30)).expect("a chat counts with its template");
    workload(&test_spec(false.into(), 1, 1)).expect("bare text counts alone");
    let error = workload(&test_spec(ChatTemplate::default(), 1, 29)).unwrap_err();
    assert!(error.contains("29 tokens; the shortest has 30, the longest 30"), "{error}");
    let bare = test_spec(ChatTemplate::default(), 1, 1).with(|s| s.data.tokenizer_path = Some(tokenizer("deepseek")));
    workload(&bare).expect("without a template there is none to count");
    let error = workload(&bare.with(|s| s.data.chat_template = true.into())).unwrap_err();
    assert!(error.contains("--apply-chat-template") && error.contains("has no chat template"), "{error}");
}

#[test]
fn random_prompts_have_exactly_the_requested_lengths() {
    for name in ["deepseek", "qwen2_5"] {
        let tokenizer = open(name);
        let test_spec = random(completions(), name).with(|s| s.data.prefix_length = 25);
        let made = workload(&test_spec).unwrap();
        assert!(made.notes.is_empty(), "{name}: {:?}", made.notes);
        let texts: Vec<String> =
            bodies(&made, 40).iter().map(|body| body["prompt"].as_str().unwrap().to_string()).collect();
        let counts: Vec<u64> = texts.iter().map(|text| tokenizer.count(text).unwrap()).collect();
        assert!(counts.iter().all(|count| (85..=115).contains(count)), "{name}: {counts:?}");
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() > 15, "{name}: lengths differ");
        let shared = tokenizer.encode(&texts[0]).unwrap()[..25].to_vec();
        assert!(texts.iter().all(|text| tokenizer.encode(text).unwrap()[..25] == shared), "{name}: one prefix");
        assert!(texts.iter().all(|text| !text.contains('\u{fffd}')), "{name}: whole characters");
    }
}

#[test]
fn prefixes_are_shared_token_by_token() {
    for (name, base) in [("deepseek", completions()), ("qwen2_5", chat())] {
        let tokenizer = open(name);
        for (ids, prefix, length) in [(false, 40, 30), (false, 300, 400), (true, 40, 30)] {
            let made = workload(&random(base.clone(), name).with(|s| {
                s.data.tokenize_prompt = ids;
                s.data.prefix_length = prefix;
                s.data.prefix_count = Some(3);
                s.data.min_prompt_length = length;
                s.data.max_prompt_length = Some(length);
                s.load.number = vec![24];
            }))
            .unwrap();
            assert!(made.notes.is_empty(), "{name}: {:?}", made.notes);
            let prompts: Vec<Vec<u32>> = bodies(&made, 24)
                .iter()
                .map(|body| match (body["prompt"].as_array(), body["prompt"].as_str()) {
                    (Some(ids), _) => ids.iter().map(|id| id.as_u64().unwrap() as u32).collect(),
                    (None, Some(text)) => tokenizer.encode(text).unwrap(),
                    (None, None) => tokenizer.encode(content(body)).unwrap(),
                })
                .collect();
            let prefix = prefix as usize;
            for (i, prompt) in prompts.iter().enumerate() {
                assert_eq!(prompt[..prefix], prompts[i % 3][..prefix], "{name}: request {i}, {prefix} tokens");
                let next: HashSet<u32> = prompts.iter().skip(i % 3).step_by(3).map(|other| other[prefix]).collect();
                assert_eq!(next.len(), 8, "{name}: they differ from there on");
            }
            let firsts: HashSet<u32> = prompts.iter().map(|prompt| prompt[0]).collect();
            assert_eq!(firsts.len(), 3, "{name}: prefixes differ from their first token on");
        }
    }
}

#[test]
fn long_random_prompts_have_exact_lengths() {
    for (name, base) in [("deepseek", completions()), ("qwen2_5", chat())] {
        let tokenizer = open(name);
        for (length, prefix) in [(1024, 0), (500, 300)] {
            let test_spec = random(base.clone(), name).with(|s| {
                s.data.prefix_length = prefix;
                s.data.min_prompt_length = length;
                s.data.max_prompt_length = Some(length);
                s.load.number = vec![40];
            });
            let made = workload(&test_spec).unwrap();
            assert!(made.notes.is_empty(), "{name}: {:?}", made.notes);
            for body in bodies(&made, 40) {
                let count = match body["prompt"].as_str() {
                    Some(text) => tokenizer.count(text),
                    None => tokenizer.count(&tokenizer.chat_of(content(&body)).unwrap()),
                };
                assert_eq!(count.unwrap(), length + prefix, "{name}, prefix {prefix}");
            }
        }
    }
}

#[test]
fn the_chat_template_counts_in_random_prompts() {
    let qwen = open("qwen2_5");
    let test_spec = random(chat(), "qwen2_5").with(|s| {
        s.data.min_prompt_length = 100;
        s.data.max_prompt_length = Some(100);
    });
    for body in bodies(&workload(&test_spec).unwrap(), 40) {
        assert_eq!(qwen.count(&qwen.chat_of(content(&body)).unwrap()).unwrap(), 100);
    }
}

#[test]
fn random_prompts_depend_on_seed_and_index_alone() {
    let test_spec = random(completions(), "deepseek");
    let all = bodies(&workload(&test_spec).unwrap(), 40);
    let later = bodies(&workload(&test_spec.clone().with(|s| s.data.dataset_offset = 7)).unwrap(), 30);
    assert_eq!(all[7..37], later[..]);
    let other = bodies(&workload(&test_spec.clone().with(|s| s.sampling.seed = Some(1))).unwrap(), 40);
    assert_ne!(all, other);
    let few = workload(&test_spec.with(|s| {
        s.load.number = vec![3];
        s.load.warmup_num = 1.0;
    }))
    .unwrap();
    assert_eq!(few.bodies.len(), 4, "no more is made than can be sent");
    assert_eq!(bodies(&few, 3)[..], all[..3]);
}

/// A call that sends random prompts as token ids, which are made faster than text.
fn random_ids() -> Spec {
    random(completions(), "deepseek").with(|s| s.data.tokenize_prompt = true)
}

/// The prompts of the first requests of a phase.
fn prompts(workload: &Workload, phase: Phase, count: u64) -> Vec<Vec<u64>> {
    let prompt = |index| {
        let body: serde_json::Value = serde_json::from_slice(&workload.body(phase, index)).unwrap();
        body["prompt"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
    };
    (0..count).map(prompt).collect()
}

#[test]
fn random_prompts_begin_with_different_tokens_and_run_on_from_everywhere() {
    let tokenizer = open("deepseek");
    let asked = random(completions(), "deepseek").with(|s| {
        s.data.min_prompt_length = 512;
        s.data.max_prompt_length = Some(512);
        s.load.number = vec![2000];
    });
    let made = workload(&asked).unwrap();
    let all: Vec<String> =
        bodies(&made, 2000).iter().map(|body| body["prompt"].as_str().unwrap().to_string()).collect();
    let first = |text: &String| tokenizer.encode(&text.chars().take(60).collect::<String>()).unwrap()[0];
    assert_eq!(all.iter().map(first).collect::<HashSet<_>>().len(), 2000, "first tokens");
    // The ends of runs show where they begin. Of 2,000 uniform draws among more than ten thousand positions, three are
    // likely to be the same somewhere, six are not.
    let ends_of = |texts: &[String]| {
        let mut ends: HashMap<String, u32> = HashMap::new();
        for text in texts {
            *ends.entry(text.chars().rev().take(80).collect()).or_default() += 1;
        }
        ends
    };
    let ends = ends_of(&all);
    assert!(ends.values().all(|count| *count <= 5), "{:?}", ends.values().max());
    assert!(ends.len() > 1700, "{} different runs", ends.len());
    // The same positions are no more frequent under another seed: of 4,000 draws, nine at one position are not likely.
    let other = workload(&asked.with(|s| {
        s.data.data_seed = Some(77);
        s.data.salt = Some(5);
    }))
    .unwrap();
    let others = bodies(&other, 2000).iter().map(|body| body["prompt"].as_str().unwrap().to_string()).collect();
    let both = ends_of(&[all, others].concat());
    assert!(both.values().all(|count| *count <= 8), "{:?}", both.values().max());
}

/// Whether these shares of a range, each from 0 to 1, are spread evenly over it: the chi-square of 20 bins is below the 99.9th
/// percentile of its distribution with 19 degrees of freedom.
fn assert_even(name: &str, shares: impl Iterator<Item = f64>) {
    let mut bins = [0.0; 20];
    shares.for_each(|share| bins[((share * 20.0) as usize).min(19)] += 1.0);
    let expected = bins.iter().sum::<f64>() / 20.0;
    let chi_square: f64 = bins.iter().map(|count: &f64| (count - expected).powi(2) / expected).sum();
    assert!(expected >= 90.0 && chi_square < 43.8, "{name}: {chi_square} {bins:?}");
}

#[test]
fn random_prompts_are_drawn_evenly_from_the_vocabulary() {
    let asked = random_ids().with(|s| {
        s.data.data_seed = Some(1);
        s.data.salt = Some(1);
    });
    let of_length = |length: u64, number: u64| {
        let made = workload(&asked.clone().with(|s| {
            s.data.min_prompt_length = length;
            s.data.max_prompt_length = Some(length);
            s.load.number = vec![number];
        }));
        prompts(&made.unwrap(), Phase::Measured, number)
    };
    // A prompt that is longer than the vocabulary has all of it.
    let vocabulary: BTreeSet<u64> = of_length(200_000, 1).concat().into_iter().collect();
    let rank: HashMap<u64, usize> = vocabulary.iter().enumerate().map(|(rank, token)| (*token, rank)).collect();
    assert!(rank.len() > 50_000 && rank.len() < 200_000, "{}", rank.len());
    let made = of_length(8, 4000);
    for place in [0, 1, 7] {
        let shares = made.iter().map(|prompt| rank[&prompt[place]] as f64 / rank.len() as f64);
        assert_even(&format!("token {place}"), shares);
    }
}

#[test]
fn random_texts_run_on_from_everywhere_evenly() {
    let asked = random(completions(), "deepseek").with(|s| {
        s.data.data_seed = Some(4);
        s.data.salt = Some(4);
    });
    let of_length = |length: u64, number: u64| {
        let made = workload(&asked.clone().with(|s| {
            s.data.min_prompt_length = length;
            s.data.max_prompt_length = Some(length);
            s.load.number = vec![number];
        }));
        let texts = bodies(&made.unwrap(), number);
        texts.iter().map(|body| body["prompt"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    // The text that all runs are cut from, more than once: the end of a run shows where it began.
    let line = of_length(400_000, 1).concat();
    let tail = |text: &String| {
        let place = text.char_indices().rev().nth(60).map_or(0, |(place, _)| place);
        text[place..].to_string()
    };
    let begin = line.char_indices().nth(1000).map(|(place, _)| place).unwrap();
    let mark: String = line[begin..].chars().take(200).collect();
    let circle = line[begin + 1..].find(&mark).unwrap() + 1;
    let share = |text: String| (line.find(&tail(&text)).unwrap() % circle) as f64 / circle as f64;
    assert_even("ends of texts", of_length(200, 2000).into_iter().map(share));
}

#[test]
fn a_salt_changes_text_and_nothing_else() {
    let made = |salt, seed| {
        let asked = random_ids().with(|s| {
            s.data.salt = salt;
            s.data.data_seed = seed;
        });
        prompts(&workload(&asked).unwrap(), Phase::Measured, 40)
    };
    let lengths = |prompts: &[Vec<u64>]| prompts.iter().map(Vec::len).collect::<Vec<_>>();
    let (one, again, two) = (made(Some(1), None), made(Some(1), None), made(Some(2), None));
    assert_eq!(one, again);
    assert!(one.iter().all(|prompt| !two.contains(prompt)));
    assert_eq!(lengths(&one), lengths(&two));
    assert_ne!(lengths(&one), lengths(&made(Some(1), Some(3))));
}

#[test]
fn runs_of_a_call_have_prompts_of_their_own() {
    let asked = random_ids().with(|s| {
        s.load.parallel = vec![1, 2];
        s.load.repeat = 2;
    });
    let all: Vec<Vec<u64>> = plans(&asked)
        .unwrap()
        .iter()
        .flat_map(|plan| prompts(&Workload::build(&plan.workload, "h", "/").unwrap(), Phase::Measured, 40))
        .collect();
    assert_eq!(all.iter().map(|prompt| prompt[0]).collect::<HashSet<_>>().len(), 160, "first tokens");
    let alone = prompts(&workload(&asked.with(|s| s.load.number = vec![7])).unwrap(), Phase::Measured, 7);
    assert_eq!(all[..7], alone, "not a function of how many requests there are");
}

#[test]
fn warmup_witness_and_test_have_prompts_of_their_own() {
    let asked = |number: Option<u64>, warmup| {
        let asked = random_ids().with(|s| {
            s.load.number = number.into_iter().collect();
            s.load.duration_s = number.is_none().then_some(1.0);
            s.load.warmup_num = warmup;
            s.client.witness = 1;
            s.client.workers = Some(1);
        });
        workload(&asked).unwrap()
    };
    let (some, more, endless) = (asked(Some(30), 5.0), asked(Some(40), 9.0), asked(None, 5.0));
    let phases = [(Phase::Measured, 30), (Phase::Warmup, 5), (Phase::Witness, 32)];
    for (phase, count) in phases {
        let expected = prompts(&some, phase, count);
        assert_eq!(prompts(&more, phase, count), expected, "{phase:?}");
        // Measured requests of a run without a number are built while it lasts.
        if phase != Phase::Measured {
            assert_eq!(prompts(&endless, phase, count), expected, "{phase:?}");
        }
    }
    let firsts = phases.map(|(phase, count)| prompts(&some, phase, count)).concat();
    assert_eq!(firsts.iter().map(|prompt| prompt[0]).collect::<HashSet<_>>().len(), 67, "first tokens");
    assert_eq!(prompts(&some, Phase::Preflight, 1)[0].len(), 1, "a short text");
}

#[test]
fn token_ids_are_sent_unchanged() {
    let test_spec = random(chat(), "deepseek").with(|s| {
        s.data.tokenize_prompt = true;
        s.data.prefix_length = 10;
    });
    let plan = plans(&test_spec).unwrap().remove(0);
    assert!(plan.notes.iter().any(|note| note.en().contains("requests go to http://127.0.0.1:8000/v1/completions")));
    let made = bodies(&workload(&test_spec).unwrap(), 40);
    assert!(made.iter().all(|body| (70..=100).contains(&body["prompt"].as_array().unwrap().len())));
    let first: Vec<_> = made.iter().map(|body| body["prompt"].as_array().unwrap()[..10].to_vec()).collect();
    assert!(first.iter().all(|ids| *ids == first[0]), "one prefix");

    let text = completions().with(|s| {
        s.data.tokenizer_path = Some(tokenizer("qwen2_5"));
        s.data.tokenize_prompt = true;
    });
    let body = bodies(&workload(&text.clone().with(|s| s.data.prompt = Some("Hello, world!".to_string()))).unwrap(), 1);
    assert_eq!(body[0]["prompt"], json!([9707, 11, 1879, 0]));
    let templated = text.with(|s| {
        s.data.chat_template = true.into();
        s.data.prompt = Some("hi".to_string());
    });
    assert_eq!(bodies(&workload(&templated).unwrap(), 1)[0]["prompt"].as_array().unwrap().len(), 30);
    let sent_as_text = bodies(&workload(&templated.with(|s| s.data.tokenize_prompt = false)).unwrap(), 1);
    assert!(sent_as_text[0]["prompt"].as_str().unwrap().ends_with("hi<|im_end|>\n<|im_start|>assistant\n"));
}

#[test]
fn missing_flags_for_tokens_are_reported() {
    let error = |spec: Spec| workload(&spec).unwrap_err();
    assert!(error(chat().with(|s| s.data.tokenize_prompt = true)).contains("--tokenizer-path"));
    assert!(error(chat().with(|s| s.data.dataset = Some("random".to_string()))).contains("--tokenizer-path"));
    assert!(
        error(random(chat(), "deepseek").with(|s| s.data.max_prompt_length = None)).contains("--max-prompt-length")
    );
    assert!(error(chat().with(|s| s.data.prefix_length = 5)).contains("--dataset random"));
    assert!(error(random(chat(), "deepseek").with(|s| s.data.prefix_count = Some(2))).contains("--prefix-length"));
    assert!(
        error(chat().with(|s| s.data.tokenizer_path = Some("/nowhere".to_string())))
            .contains("/nowhere does not exist")
    );
}

#[test]
fn random_vl_has_pictures_and_text() {
    let test_spec = random(chat(), "qwen2_5").with(|s| {
        s.data.dataset = Some("random_vl".to_string());
        s.data.image_num = Some(2);
        s.data.image_width = Some(32);
        s.data.image_format = Some("JPEG".to_string());
        s.data.min_prompt_length = 60;
        s.data.max_prompt_length = Some(60);
        s.load.number = vec![3];
    });
    let qwen = open("qwen2_5");
    for body in bodies(&workload(&test_spec).unwrap(), 3) {
        let parts = body["messages"][0]["content"].as_array().unwrap();
        assert_eq!(parts.len(), 3);
        let text = parts[0]["text"].as_str().unwrap();
        assert_eq!(qwen.count(&qwen.chat_of(text).unwrap()).unwrap(), 60);
        assert_ne!(parts[1], parts[2]);
        assert!(parts[1]["image_url"]["url"].as_str().unwrap().starts_with("data:image/jpeg;base64,/9j/"));
    }
    let error = |spec: Spec| workload(&spec).unwrap_err();
    assert!(
        error(test_spec.clone().with(|s| s.data.image_format = Some("GIF".to_string()))).contains("--image-format")
    );
    assert!(error(test_spec.with(|s| s.data.image_num = Some(9999))).contains("--image-num"));
    assert!(error(chat().with(|s| s.data.image_width = Some(9))).contains("--dataset random_vl"));
}
