//! The files that can be downloaded from a hub, and which of them a call needs.

use std::path::Path;

use super::settings::Hub;
use crate::spec::Spec;

/// A dataset that is published as one file, with its location on each hub.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// `--dataset`
    pub name: &'static str,
    modelscope: Location,
    huggingface: Location,
}

/// A repository, and the path of the file in it.
type Location = (&'static str, &'static str);

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
    fn location(&self, hub: Hub) -> Location {
        match hub {
            Hub::ModelScope => self.modelscope,
            Hub::HuggingFace => self.huggingface,
        }
    }

    /// The path of the file in its repository.
    pub fn file(&self, hub: Hub) -> &'static str {
        self.location(hub).1
    }

    /// The name of the file.
    pub fn file_name(&self) -> &'static str {
        self.modelscope.1
    }
}

/// The required file of a tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// The optional files of a tokenizer. They are downloaded before [`TOKENIZER`], so that its presence means that the
/// tokenizer is complete.
pub const TOKENIZER_EXTRAS: [&str; 3] = ["chat_template.jinja", "chat_template.json", TOKENIZER_CONFIG];
/// The optional file that nearly all models have.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// A file or set of files on a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubItem {
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

impl HubItem {
    /// The flag and value that request it.
    pub fn flag(&self) -> String {
        match self {
            HubItem::Dataset(published) => format!("--dataset {}", published.name),
            HubItem::Tokenizer(id) => format!("--tokenizer-path {id}"),
        }
    }

    /// The name of the file, or the id of the model.
    pub fn name(&self) -> &str {
        match self {
            HubItem::Dataset(published) => published.file_name(),
            HubItem::Tokenizer(id) => id,
        }
    }

    /// Its repository on `hub`.
    pub fn repository(&self, hub: Hub) -> Repository {
        match self {
            HubItem::Dataset(published) => {
                let (id, _) = published.location(hub);
                Repository { dataset: true, id: id.to_string() }
            }
            HubItem::Tokenizer(id) => Repository { dataset: false, id: id.clone() },
        }
    }

    /// How to provide it without a download.
    pub fn by_hand(&self) -> String {
        match self {
            HubItem::Dataset(published) => format!("give {} with --dataset-path FILE", published.file_name()),
            HubItem::Tokenizer(id) => format!(
                "put {TOKENIZER} and {TOKENIZER_CONFIG} of the model into a folder and give it with --tokenizer-path \
                 (a folder ./{id} is used automatically)"
            ),
        }
    }
}

/// The files that a call needs from a hub: a published dataset without `--dataset-path`, and a tokenizer whose path is a
/// model id and not an existing file or folder.
pub fn required_items(spec: &Spec) -> Vec<HubItem> {
    let mut all = Vec::new();
    if spec.data.prompt.is_none() && spec.data.dataset_path.is_none() {
        let named = PUBLISHED.iter().find(|published| spec.data.dataset.as_deref() == Some(published.name));
        all.extend(named.map(HubItem::Dataset));
    }
    let tokenizer = spec.data.tokenizer_path.as_deref();
    let id = tokenizer.filter(|text| looks_like_id(text) && !Path::new(text).exists());
    all.extend(id.map(|id| HubItem::Tokenizer(id.to_string())));
    all
}

/// Whether the text has the form `owner/name` of a model id; other texts are paths.
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
    fn ids_are_distinguished_from_paths() {
        for id in ["Qwen/Qwen2.5-0.5B-Instruct", "01-ai/Yi_6B", "a/b"] {
            assert!(looks_like_id(id), "{id}");
        }
        for path in ["/a/b", "./a/b", "../b", "a", "a/b/c", "a/", "~/b", "a/tokenizer.json", "a/..", "a b/c", ""] {
            assert!(!looks_like_id(path), "{path}");
        }
    }

    #[test]
    fn what_is_given_or_here_is_not_wanted() {
        let openqa = Spec::default().with(|s| s.data.dataset = Some("openqa".to_string()));
        assert_eq!(required_items(&openqa)[0].name(), "open_qa.jsonl");
        assert!(required_items(&openqa.clone().with(|s| s.data.dataset_path = Some("x".into()))).is_empty());
        assert!(required_items(&openqa.with(|s| s.data.prompt = Some("x".to_string()))).is_empty());
        let tokenizer = |text: &str| Spec::default().with(|s| s.data.tokenizer_path = Some(text.to_string()));
        assert_eq!(required_items(&tokenizer("Qwen/Qwen2.5-0.5B")).len(), 1);
        // A folder of this name stands in the folder that tests run in.
        assert!(required_items(&tokenizer("src/hub")).is_empty());
        assert!(
            required_items(&Spec::default().with(|s| s.data.dataset = Some("line_by_line".to_string()))).is_empty()
        );
    }
}
