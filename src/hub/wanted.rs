//! What of a call is to be had from a hub.

use std::path::Path;

use super::settings::Hub;
use crate::spec::Spec;

/// A data set that is published as one file, with its place on each hub.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// `--dataset`
    pub name: &'static str,
    modelscope: Place,
    huggingface: Place,
}

/// A repository, and the path of the file in it.
type Place = (&'static str, &'static str);

const SHARE_GPT_ZH: Published = Published {
    name: "share_gpt_zh_multi_turn",
    modelscope: ("swift/sharegpt", "common_zh_70k.jsonl"),
    huggingface: ("shareAI/ShareGPT-Chinese-English-90k", "sharegpt_jsonl/common_zh_70k.jsonl"),
};

const SHARE_GPT_EN: Published = Published {
    name: "share_gpt_en_multi_turn",
    modelscope: ("swift/sharegpt", "common_en_70k.jsonl"),
    huggingface: ("shareAI/ShareGPT-Chinese-English-90k", "sharegpt_jsonl/common_en_70k.jsonl"),
};

const PUBLISHED: [Published; 6] = [
    Published {
        name: "openqa",
        modelscope: ("AI-ModelScope/HC3-Chinese", "open_qa.jsonl"),
        huggingface: ("Hello-SimpleAI/HC3-Chinese", "open_qa.jsonl"),
    },
    Published {
        name: "longalpaca",
        modelscope: ("AI-ModelScope/LongAlpaca-12k", "LongAlpaca-12k.json"),
        huggingface: ("Yukang/LongAlpaca-12k", "LongAlpaca-12k.json"),
    },
    Published {
        name: "sharegpt",
        modelscope: ("gliang1001/ShareGPT_V3_unfiltered_cleaned_split", "ShareGPT_V3_unfiltered_cleaned_split.json"),
        huggingface: ("anon8231489123/ShareGPT_Vicuna_unfiltered", "ShareGPT_V3_unfiltered_cleaned_split.json"),
    },
    SHARE_GPT_ZH,
    SHARE_GPT_EN,
    Published { name: "share_gpt_multi_turn", ..SHARE_GPT_EN },
];

impl Published {
    fn place(&self, hub: Hub) -> Place {
        match hub {
            Hub::ModelScope => self.modelscope,
            Hub::HuggingFace => self.huggingface,
        }
    }

    /// The path of the file in its repository.
    pub fn file(&self, hub: Hub) -> &'static str {
        self.place(hub).1
    }

    /// The name of the file, wherever it stands.
    pub fn file_name(&self) -> &'static str {
        self.modelscope.1
    }
}

/// The one file that a tokenizer cannot be without.
pub const TOKENIZER: &str = "tokenizer.json";
/// Files of a tokenizer that not every model has. They come before [`TOKENIZER`], so that where that one is they are too.
pub const TOKENIZER_EXTRAS: [&str; 3] = ["chat_template.jinja", "chat_template.json", TOKENIZER_CONFIG];
/// Of these the one that nearly all models have.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// Something that a hub has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Dataset(&'static Published),
    /// The tokenizer of a model, by the model's id.
    Tokenizer(String),
}

/// A repository of one hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    pub dataset: bool,
    /// `owner/name`
    pub id: String,
}

impl Repository {
    /// Owner and name.
    pub fn parts(&self) -> (&str, &str) {
        self.id.split_once('/').unwrap_or(("", &self.id))
    }
}

impl Wanted {
    /// The flags that ask for it, as they stand on the command line.
    pub fn flag(&self) -> String {
        match self {
            Wanted::Dataset(published) => format!("--dataset {}", published.name),
            Wanted::Tokenizer(id) => format!("--tokenizer-path {id}"),
        }
    }

    /// The file, or the id of the model.
    pub fn name(&self) -> &str {
        match self {
            Wanted::Dataset(published) => published.file_name(),
            Wanted::Tokenizer(id) => id,
        }
    }

    /// Where `hub` has it.
    pub fn repository(&self, hub: Hub) -> Repository {
        match self {
            Wanted::Dataset(published) => {
                let (id, _) = published.place(hub);
                Repository { dataset: true, id: id.to_string() }
            }
            Wanted::Tokenizer(id) => Repository { dataset: false, id: id.clone() },
        }
    }

    /// What to do where no hub can be asked.
    pub fn by_hand(&self) -> String {
        match self {
            Wanted::Dataset(published) => format!("give {} with --dataset-path FILE", published.file_name()),
            Wanted::Tokenizer(id) => format!(
                "put {TOKENIZER} and {TOKENIZER_CONFIG} of the model into a folder and give it with --tokenizer-path \
                 (a folder ./{id} is found by itself)"
            ),
        }
    }
}

/// What this call wants from a hub: a published data set without `--dataset-path`, a tokenizer that is named by an id
/// and is no file or folder here.
pub fn wanted(spec: &Spec) -> Vec<Wanted> {
    let mut all = Vec::new();
    if spec.prompt.is_none() && spec.dataset_path.is_none() {
        let named = PUBLISHED.iter().find(|published| spec.dataset.as_deref() == Some(published.name));
        all.extend(named.map(Wanted::Dataset));
    }
    let tokenizer = spec.tokenizer_path.as_deref();
    let id = tokenizer.filter(|text| looks_like_id(text) && !Path::new(text).exists());
    all.extend(id.map(|id| Wanted::Tokenizer(id.to_string())));
    all
}

/// `owner/name`, as hubs write it; anything else is a path.
fn looks_like_id(text: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let path_like = text.ends_with(".json");
    !path_like && text.split_once('/').is_some_and(|(owner, name)| is_part(owner) && is_part(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        for id in ["Qwen/Qwen2.5-0.5B-Instruct", "01-ai/Yi_6B", "a/b"] {
            assert!(looks_like_id(id), "{id}");
        }
        for path in ["/a/b", "./a/b", "../b", "a", "a/b/c", "a/", "~/b", "a/tokenizer.json", "a/..", "a b/c", ""] {
            assert!(!looks_like_id(path), "{path}");
        }
    }

    #[test]
    fn what_is_given_or_here_is_not_wanted() {
        let openqa = Spec { dataset: Some("openqa".to_string()), ..Spec::default() };
        assert_eq!(wanted(&openqa)[0].name(), "open_qa.jsonl");
        assert!(wanted(&Spec { dataset_path: Some("x".into()), ..openqa.clone() }).is_empty());
        assert!(wanted(&Spec { prompt: Some("x".to_string()), ..openqa }).is_empty());
        let tokenizer = |text: &str| Spec { tokenizer_path: Some(text.to_string()), ..Spec::default() };
        assert_eq!(wanted(&tokenizer("Qwen/Qwen2.5-0.5B")).len(), 1);
        // A folder of this name stands in the folder that tests run in.
        assert!(wanted(&tokenizer("src/hub")).is_empty());
        assert!(wanted(&Spec { dataset: Some("line_by_line".to_string()), ..Spec::default() }).is_empty());
    }
}
