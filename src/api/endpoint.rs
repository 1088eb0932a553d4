//! The APIs by name, and what the path of a URL means to each of them.

use super::Dialect;
use super::anthropic::VERSION;
use super::custom::CustomApi;
use super::program::ProgramApi;

/// What `--api` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Chat or completions: the path decides.
    OpenAi,
    Responses,
    Embeddings,
    Rerank,
    DashScope,
    Anthropic,
    Custom(CustomApi),
    Program(ProgramApi),
}

/// The names of all APIs that need no file; aliases are not shown.
pub const NAMES: [&str; 6] =
    ["openai", "openai_responses", "openai_embedding", "openai_rerank", "dashscope", "anthropic"];

/// A path with its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    pub path: String,
    pub dialect: Dialect,
    /// The endpoint was not there, or was another one.
    pub changed: bool,
}

const DASHSCOPE: &str = "/services/aigc/text-generation/generation";
/// Endings of paths that belong to one API: a request for another one sent there can only fail.
const ENDINGS: [&str; 8] =
    ["/completions", "/responses", "/embeddings", "/rerank", "/reranks", "/generation", "/messages", "/models"];

impl Api {
    /// The API of this name or alias.
    pub fn named(name: &str) -> Option<Api> {
        match name {
            "openai" => Some(Api::OpenAi),
            "openai_responses" | "openai_response" | "responses" => Some(Api::Responses),
            "openai_embedding" | "openai_embeddings" | "embedding" => Some(Api::Embeddings),
            "openai_rerank" | "rerank" => Some(Api::Rerank),
            "dashscope" => Some(Api::DashScope),
            "anthropic" => Some(Api::Anthropic),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Api::OpenAi => "openai",
            Api::Responses => "openai_responses",
            Api::Embeddings => "openai_embedding",
            Api::Rerank => "openai_rerank",
            Api::DashScope => "dashscope",
            Api::Anthropic => "anthropic",
            Api::Custom(_) | Api::Program(_) => "a file",
        }
    }

    /// The dialect; what a path says is known from [`Api::complete`].
    fn dialect(self, path: &str) -> Dialect {
        match self {
            Api::OpenAi if path.ends_with("/chat/completions") => Dialect::Chat,
            Api::OpenAi => Dialect::Completions,
            Api::Responses => Dialect::Responses,
            Api::Embeddings => Dialect::Embeddings,
            Api::Rerank => Dialect::Rerank,
            Api::DashScope => Dialect::DashScope,
            Api::Anthropic => Dialect::Anthropic,
            Api::Custom(api) => Dialect::Custom(api),
            Api::Program(program) => Dialect::Program(program),
        }
    }

    /// Endings of paths that are this API's own.
    fn endings(self) -> &'static [&'static str] {
        match self {
            Api::OpenAi => &["/completions"],
            Api::Responses => &["/responses"],
            Api::Embeddings => &["/embeddings"],
            Api::Rerank => &["/rerank", "/reranks"],
            // `completion` is the endpoint of applications made there.
            Api::DashScope => &["/generation", "/completion"],
            Api::Anthropic => &["/messages"],
            Api::Custom(_) | Api::Program(_) => &[],
        }
    }

    /// The path (without query) with the endpoint at its end. Says what is wrong with one that belongs to another API.
    pub fn complete(self, path: &str) -> Result<Completed, String> {
        let path = path.trim_end_matches('/');
        let done = |path: String, changed: bool| {
            let dialect = self.dialect(&path);
            Ok(Completed { path, dialect, changed })
        };
        if let Api::Program(_) = self {
            return done(root(path), false);
        }
        if let Api::Custom(api) = self {
            let own = api.path();
            let complete = own.is_empty() || path.ends_with(own);
            return if complete { done(root(path), false) } else { done(format!("{path}{own}"), !path.is_empty()) };
        }
        if self.endings().iter().any(|ending| path.ends_with(ending)) {
            return done(path.to_string(), false);
        }
        // As in evalscope: a URL for chat is taken as the address of the server.
        if let (Api::Responses, Some(base)) = (self, path.strip_suffix("/chat/completions")) {
            return done(format!("{base}/responses"), true);
        }
        if let Some(other) = ENDINGS.iter().find(|ending| path.ends_with(*ending)) {
            return Err(self.foreign(other));
        }
        done(self.with_endpoint(path), true)
    }

    fn with_endpoint(self, path: &str) -> String {
        match (self, path) {
            (Api::OpenAi, "") => "/v1/chat/completions".to_string(),
            (Api::OpenAi, _) if path.ends_with("/chat") => format!("{path}/completions"),
            (Api::OpenAi, _) => format!("{path}/chat/completions"),
            (Api::DashScope, _) if path.ends_with("/api/v1") => format!("{path}{DASHSCOPE}"),
            (Api::DashScope, _) => format!("{path}/api/v1{DASHSCOPE}"),
            (Api::Anthropic, _) if !path.ends_with("/v1") => format!("{path}/v1/messages"),
            (_, "") => format!("/v1{}", self.endings()[0]),
            (..) => format!("{path}{}", self.endings().first().unwrap_or(&"")),
        }
    }

    fn foreign(self, ending: &str) -> String {
        let right = match ending {
            "/completions" => Some("openai"),
            "/responses" => Some("openai_responses"),
            "/embeddings" => Some("openai_embedding"),
            "/rerank" | "/reranks" => Some("openai_rerank"),
            "/generation" => Some("dashscope"),
            "/messages" => Some("anthropic"),
            _ => None,
        };
        let instead = right.map_or(String::new(), |right| format!("use --api {right}, or "));
        format!(
            "{ending} is not an endpoint of --api {}; {instead}give the URL that ends in {}",
            self.name(),
            match self {
                Api::OpenAi => "/chat/completions or /completions",
                _ => self.endings()[0],
            }
        )
    }
}

fn root(path: &str) -> String {
    if path.is_empty() { "/".to_string() } else { path.to_string() }
}

impl Dialect {
    /// Headers that every request of the dialect carries, beside the usual ones.
    pub fn headers(self, stream: bool) -> Vec<(String, String)> {
        match self {
            Dialect::Anthropic => vec![("anthropic-version".to_string(), VERSION.to_string())],
            Dialect::DashScope if stream => vec![("X-DashScope-SSE".to_string(), "enable".to_string())],
            Dialect::Custom(api) => api.headers().to_vec(),
            _ => Vec::new(),
        }
    }

    /// The header that carries `--api-key`.
    pub fn key_header(self, key: &str) -> (&'static str, String) {
        match self {
            Dialect::Anthropic => ("x-api-key", key.to_string()),
            _ => ("Authorization", format!("Bearer {key}")),
        }
    }
}

/// The path that lists a server's models: `/v1/models` beside `/v1/chat/completions`.
pub fn models_path(path: &str) -> String {
    if path.contains("/services/aigc/") {
        // DashScope lists them beside its OpenAI-compatible endpoints only.
        return "/compatible-mode/v1/models".to_string();
    }
    let own = ["/chat/completions", "/completions", "/responses", "/embeddings", "/reranks", "/rerank", "/messages"];
    match own.iter().find_map(|ending| path.strip_suffix(ending)) {
        Some(base) => format!("{base}/models"),
        None => "/v1/models".to_string(),
    }
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
        assert_eq!(models_path("/generate"), "/v1/models");
        assert!(models_path("/api/v1/services/aigc/text-generation/generation").starts_with("/compatible-mode"));
    }
}
