//! The APIs by name, and the URL paths of their endpoints.

use super::custom::CustomApi;
use super::dialect::Dialect;
use super::program::ProgramApi;

/// The API that `--api` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Chat or completions, depending on the path.
    OpenAi,
    Responses,
    Embeddings,
    Rerank,
    DashScope,
    Anthropic,
    Custom(CustomApi),
    Program(ProgramApi),
}

/// A built-in API: its names and the paths of its endpoints.
struct BuiltIn {
    api: Api,
    name: &'static str,
    /// Other spellings that `--api` accepts.
    aliases: &'static [&'static str],
    /// The dialect spoken at a complete path.
    dialect: fn(&str) -> Dialect,
    /// Endings of its paths, longest first. A request for another API sent to such a path can only fail.
    endings: &'static [&'static str],
    /// Further endings that are accepted here, but do not identify the API.
    other_endings: &'static [&'static str],
    /// Completes the path of a server's address.
    complete: fn(&str) -> String,
}

const APIS: [BuiltIn; 6] = [
    BuiltIn {
        api: Api::OpenAi,
        name: "openai",
        aliases: &[],
        dialect: |path| if path.ends_with("/chat/completions") { Dialect::Chat } else { Dialect::Completions },
        endings: &["/chat/completions", "/completions"],
        other_endings: &[],
        complete: |path| match path.strip_suffix("/chat") {
            Some(base) => format!("{base}/chat/completions"),
            None => versioned(path, "/chat/completions"),
        },
    },
    BuiltIn {
        api: Api::Responses,
        name: "openai_responses",
        aliases: &["openai_response", "responses"],
        dialect: |_| Dialect::Responses,
        endings: &["/responses"],
        other_endings: &[],
        complete: |path| versioned(path, "/responses"),
    },
    BuiltIn {
        api: Api::Embeddings,
        name: "openai_embedding",
        aliases: &["openai_embeddings", "embedding"],
        dialect: |_| Dialect::Embeddings,
        endings: &["/embeddings"],
        other_endings: &[],
        complete: |path| versioned(path, "/embeddings"),
    },
    BuiltIn {
        api: Api::Rerank,
        name: "openai_rerank",
        aliases: &["rerank"],
        dialect: |_| Dialect::Rerank,
        endings: &["/reranks", "/rerank"],
        other_endings: &[],
        complete: |path| versioned(path, "/rerank"),
    },
    BuiltIn {
        api: Api::DashScope,
        name: "dashscope",
        aliases: &[],
        dialect: |_| Dialect::DashScope,
        endings: &["/generation"],
        // The endpoint of applications built on DashScope.
        other_endings: &["/completion"],
        complete: |path| format!("{}/api/v1{DASHSCOPE}", path.strip_suffix("/api/v1").unwrap_or(path)),
    },
    BuiltIn {
        api: Api::Anthropic,
        name: "anthropic",
        aliases: &[],
        dialect: |_| Dialect::Anthropic,
        endings: &["/messages"],
        other_endings: &[],
        complete: |path| format!("{}/v1/messages", path.strip_suffix("/v1").unwrap_or(path)),
    },
];

/// The names of all built-in APIs, without aliases.
pub(crate) const NAMES: [&str; APIS.len()] = {
    let mut names = [""; APIS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = APIS[at].name;
        at += 1;
    }
    names
};

const DASHSCOPE: &str = "/services/aigc/text-generation/generation";
/// The ending of the path that lists models. It belongs to no API and takes no requests.
const MODELS: &str = "/models";

/// A path that ends in an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedPath {
    pub path: String,
    pub dialect: Dialect,
    /// The endpoint was missing, or belonged to another API, and was added or replaced.
    pub changed: bool,
}

impl Api {
    /// The built-in API with this name or alias.
    pub fn named(name: &str) -> Option<Api> {
        APIS.iter().find(|row| row.name == name || row.aliases.contains(&name)).map(|row| row.api)
    }

    /// The path (without query) with the endpoint at its end. A complete path keeps its trailing slash, which some servers
    /// require. The error says how to correct a path that belongs to another API.
    pub fn complete(self, path: &str) -> Result<CompletedPath, String> {
        let given = path;
        let path = given.trim_end_matches('/');
        let (path, dialect, changed) = match self {
            Api::Program(program) => (root(path), Dialect::Program(program), false),
            Api::Custom(api) => {
                let own = api.path();
                let complete = own.is_empty() || path.ends_with(own);
                let changed = !complete && !path.is_empty();
                (if complete { root(path) } else { format!("{path}{own}") }, Dialect::Custom(api), changed)
            }
            built_in => {
                let row = APIS.iter().find(|row| row.api == built_in);
                let row = row.expect("every built-in API has a row");
                let (path, changed) = row.completed(path)?;
                let dialect = (row.dialect)(&path);
                (path, dialect, changed)
            }
        };
        let path = if given.trim_end_matches('/') == path { given.to_string() } else { path };
        Ok(CompletedPath { path, dialect, changed })
    }
}

impl BuiltIn {
    /// The complete path, and whether the endpoint was added or replaced.
    fn completed(&self, path: &str) -> Result<(String, bool), String> {
        if self.endings.iter().chain(self.other_endings).any(|ending| path.ends_with(ending)) {
            return Ok((path.to_string(), false));
        }
        // As in evalscope: a URL for chat is taken as the address of the server.
        if let (Api::Responses, Some(base)) = (self.api, path.strip_suffix("/chat/completions")) {
            return Ok((format!("{base}/responses"), true));
        }
        let instead = "give the URL that ends in";
        let own = self.endings.join(" or ");
        for row in &APIS {
            if let Some(other) = row.endings.iter().find(|ending| path.ends_with(*ending)) {
                return Err(format!(
                    "{other} is not an endpoint of --api {}; use --api {}, or {instead} {own}",
                    self.name, row.name
                ));
            }
        }
        if path.ends_with(MODELS) {
            return Err(format!("{MODELS} is not an endpoint of --api {}; {instead} {own}", self.name));
        }
        Ok(((self.complete)(path), true))
    }
}

/// The path with an endpoint appended; below `/v1` if the server's address has no path.
fn versioned(path: &str, endpoint: &str) -> String {
    if path.is_empty() { format!("/v1{endpoint}") } else { format!("{path}{endpoint}") }
}

/// The endings of the paths of all endpoints.
pub(crate) fn endings() -> impl Iterator<Item = &'static str> {
    APIS.iter().flat_map(|row| row.endings).copied()
}

fn root(path: &str) -> String {
    if path.is_empty() { "/".to_string() } else { path.to_string() }
}

/// The path that lists a server's models, for example `/v1/models` for `/v1/chat/completions`.
pub(crate) fn models_path(path: &str) -> String {
    if path.contains("/services/aigc/") {
        // DashScope lists models only at its OpenAI-compatible endpoint.
        return "/compatible-mode/v1/models".to_string();
    }
    let beside = APIS.iter().filter(|row| row.api != Api::DashScope).flat_map(|row| row.endings);
    let path = path.trim_end_matches('/');
    let base = beside.into_iter().find_map(|ending| path.strip_suffix(ending));
    format!("{}{MODELS}", base.unwrap_or("/v1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_completes_its_path() {
        for (api, path, expected) in [
            (Api::OpenAi, "", "/v1/chat/completions"),
            (Api::OpenAi, "/v1", "/v1/chat/completions"),
            (Api::OpenAi, "/v1/chat", "/v1/chat/completions"),
            (Api::Responses, "", "/v1/responses"),
            (Api::Responses, "/v1/", "/v1/responses"),
            (Api::Responses, "/v1/chat/completions", "/v1/responses"),
            (Api::Embeddings, "", "/v1/embeddings"),
            (Api::Embeddings, "/compatible-mode/v1", "/compatible-mode/v1/embeddings"),
            (Api::Rerank, "/v1", "/v1/rerank"),
            (Api::DashScope, "", "/api/v1/services/aigc/text-generation/generation"),
            (Api::DashScope, "/api/v1", "/api/v1/services/aigc/text-generation/generation"),
            (Api::Anthropic, "", "/v1/messages"),
            (Api::Anthropic, "/v1", "/v1/messages"),
            (Api::Anthropic, "/anthropic", "/anthropic/v1/messages"),
        ] {
            let completed = api.complete(path).unwrap();
            assert_eq!((completed.path.as_str(), completed.changed), (expected, true), "{api:?} {path}");
        }
    }

    #[test]
    fn whole_paths_stay() {
        for (api, path) in [
            (Api::OpenAi, "/v1/completions"),
            (Api::OpenAi, "/v1/chat/completions/"),
            (Api::Anthropic, "/v1/messages/"),
            (Api::Rerank, "/compatible-api/v1/reranks"),
            (Api::DashScope, "/api/v1/services/aigc/multimodal-generation/generation"),
            (Api::DashScope, "/api/v1/apps/x/completion"),
        ] {
            let completed = api.complete(path).unwrap();
            assert_eq!((completed.path.as_str(), completed.changed), (path, false));
        }
    }

    #[test]
    fn the_endpoint_of_another_api_is_named() {
        for (api, path, what) in [
            (Api::OpenAi, "/v1/embeddings", "--api openai_embedding"),
            (Api::Embeddings, "/v1/chat/completions", "--api openai,"),
            (Api::DashScope, "/compatible-mode/v1/chat/completions", "--api openai,"),
            (Api::Anthropic, "/v1/models", "/messages"),
        ] {
            let text = api.complete(path).unwrap_err();
            assert!(text.contains(what), "{text}");
        }
    }

    #[test]
    fn models_are_listed_beside_the_endpoint() {
        assert_eq!(models_path("/v1/chat/completions"), "/v1/models");
        assert_eq!(models_path("/compatible-api/v1/reranks"), "/compatible-api/v1/models");
        assert_eq!(models_path("/v1/chat/completions/"), "/v1/models");
        assert_eq!(models_path("/generate"), "/v1/models");
        assert!(models_path("/api/v1/services/aigc/text-generation/generation").starts_with("/compatible-mode"));
    }
}
