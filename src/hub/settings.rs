//! The settings of the hubs, from the flags and the hubs' own environment variables: endpoint, token, cache, offline mode.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::url::Url;
use crate::options::DataSource;
use crate::spec::proxy::{ProxyChoice, ProxyVariables};

/// A hub of models and datasets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hub {
    ModelScope,
    HuggingFace,
}

impl Hub {
    /// The environment variable with the user's token.
    pub(crate) fn token_variable(self) -> &'static str {
        match self {
            Hub::ModelScope => "MODELSCOPE_API_TOKEN",
            Hub::HuggingFace => "HF_TOKEN",
        }
    }

    /// The environment variable with the endpoint, for example of a mirror.
    pub(crate) fn endpoint_variable(self) -> &'static str {
        match self {
            Hub::ModelScope => "MODELSCOPE_ENDPOINT",
            Hub::HuggingFace => "HF_ENDPOINT",
        }
    }

    /// The value of `--data-source`.
    pub(crate) fn flag_value(self) -> &'static str {
        match self {
            Hub::ModelScope => "modelscope",
            Hub::HuggingFace => "huggingface",
        }
    }

    /// The other hub.
    pub fn other(self) -> Hub {
        match self {
            Hub::ModelScope => Hub::HuggingFace,
            Hub::HuggingFace => Hub::ModelScope,
        }
    }
}

impl fmt::Display for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hub::ModelScope => "ModelScope",
            Hub::HuggingFace => "Hugging Face",
        })
    }
}

/// The settings of one hub.
#[derive(Clone)]
pub struct Site {
    pub hub: Hub,
    pub endpoint: Url,
    /// The token; sent to the endpoint's host only.
    pub token: Option<String>,
    /// The root of the cache: the folder `hub` of the hub's own tools.
    pub cache: PathBuf,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Site");
        shown.field("hub", &self.hub).field("endpoint", &self.endpoint).field("cache", &self.cache);
        shown.finish_non_exhaustive()
    }
}

/// What a server may demand of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest file, bytes. The longest data set has less than 1 GiB.
    pub max_bytes: u64,
    /// A download that adds fewer bytes within `slow_time` is given up.
    pub slow_bytes: u64,
    pub slow_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_bytes: 8 << 30, slow_bytes: 64 << 10, slow_time: Duration::from_secs(60) }
    }
}

/// The settings of both hubs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hub to download from.
    pub site: Site,
    /// The other hub, of which only the cache is used.
    pub other: Site,
    /// The flag or variable that disables downloads, if any.
    pub offline: Option<&'static str>,
    /// The proxy for hubs and for the servers that they redirect to.
    pub proxy: ProxyChoice,
    /// Pause before the first retry; doubled for each further one.
    pub pause: Duration,
    pub limits: Limits,
}

impl Settings {
    /// Settings from the environment, which is read through `variable`, without a proxy.
    ///
    /// # Errors
    /// One line with the name of the invalid variable.
    pub fn new(source: DataSource, variable: &dyn Fn(&str) -> Option<String>) -> Result<Settings, String> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let first = |names: &[&str]| names.iter().find_map(|name| set(name));
        let home = first(&["HOME"]).map_or_else(|| PathBuf::from("."), PathBuf::from);
        let at_home = |path: String| match path.strip_prefix("~/") {
            Some(rest) => home.join(rest),
            None => PathBuf::from(path),
        };
        let caches = first(&["XDG_CACHE_HOME"]).map_or_else(|| home.join(".cache"), at_home);
        let hf_home = first(&["HF_HOME"]).map_or_else(|| caches.join("huggingface"), at_home);
        let huggingface = Site {
            hub: Hub::HuggingFace,
            endpoint: endpoint(Hub::HuggingFace, &["HF_ENDPOINT"], "https://huggingface.co", &set)?,
            token: first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]),
            cache: first(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]).map_or_else(|| hf_home.join("hub"), at_home),
        };
        let names = ["MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"];
        let modelscope = Site {
            hub: Hub::ModelScope,
            endpoint: endpoint(Hub::ModelScope, &names, "https://www.modelscope.cn", &set)?,
            token: first(&["MODELSCOPE_API_TOKEN"]),
            // ModelScope's tools ignore XDG_CACHE_HOME.
            cache: first(&["MODELSCOPE_CACHE"]).map_or_else(|| home.join(".cache/modelscope/hub"), at_home),
        };
        let disables = |name: &&str| set(name).is_some_and(|value| is_true(&value));
        let offline = match source {
            DataSource::Local => Some("--data-source local"),
            _ => ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(disables),
        };
        let (site, other) = match source {
            DataSource::Huggingface => (huggingface, modelscope),
            DataSource::Modelscope | DataSource::Local => (modelscope, huggingface),
        };
        let proxy = ProxyChoice::Direct(ProxyVariables::default());
        Ok(Settings { site, other, offline, proxy, pause: Duration::from_secs(1), limits: Limits::default() })
    }

    /// Both hubs, the one to download from first.
    pub(crate) fn sites(&self) -> [&Site; 2] {
        [&self.site, &self.other]
    }
}

/// Whether Hugging Face's tools interpret the value as true.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.trim().to_ascii_lowercase().as_str())
}

fn endpoint(
    hub: Hub,
    names: &[&'static str],
    default: &str,
    set: &dyn Fn(&str) -> Option<String>,
) -> Result<Url, String> {
    let given = names.iter().find_map(|name| Some((*name, set(name)?)));
    let (name, text) = given.unwrap_or((hub.endpoint_variable(), default.to_string()));
    let text = text.trim().trim_end_matches('/');
    let whole = if text.contains("://") { text.to_string() } else { format!("https://{text}") };
    Url::parse(&whole).map_err(|what| format!("{name}='{text}' {what}; write for example {name}={default}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(source: DataSource, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let lookup =
            |name: &str| variables.iter().find(|(given, _)| *given == name).map(|(_, value)| value.to_string());
        Settings::new(source, &lookup)
    }

    #[test]
    fn cache_folders_match_the_hubs_tools() {
        let cache = |variables: &[(&str, &str)]| {
            let settings = settings(DataSource::Modelscope, variables).unwrap();
            settings.sites().map(|site| site.cache.display().to_string())
        };
        assert_eq!(cache(&[("HOME", "/h")]), ["/h/.cache/modelscope/hub", "/h/.cache/huggingface/hub"]);
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "/x"), ("MODELSCOPE_CACHE", "~/m")]), ["/h/m", "/x/hub"]);
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HUB_CACHE", "/y")])[1], "/y");
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")])[1], "/c/huggingface/hub");
    }

    #[test]
    fn endpoints_are_parsed_with_and_without_scheme() {
        let endpoint = |value: &str| {
            settings(DataSource::Huggingface, &[("HF_ENDPOINT", value)]).map(|all| all.site.endpoint.to_string())
        };
        assert_eq!(endpoint("https://hf-mirror.com/").unwrap(), "https://hf-mirror.com");
        assert_eq!(endpoint("hf-mirror.com").unwrap(), "https://hf-mirror.com");
        assert_eq!(endpoint("http://127.0.0.1:80/sub/").unwrap(), "http://127.0.0.1:80/sub");
        assert_eq!(endpoint(" ").unwrap(), "https://huggingface.co");
        assert!(endpoint("ftp://x").unwrap_err().starts_with("HF_ENDPOINT='ftp://x'"));
        let domain = settings(DataSource::Modelscope, &[("MODELSCOPE_DOMAIN", "www.modelscope.ai")]).unwrap();
        assert_eq!(domain.site.endpoint.to_string(), "https://www.modelscope.ai");
    }

    #[test]
    fn offline_has_the_name_of_its_cause() {
        let offline = |source, value| settings(source, &[("HF_HUB_OFFLINE", value)]).unwrap().offline;
        assert_eq!(offline(DataSource::Modelscope, "1"), Some("HF_HUB_OFFLINE"));
        assert_eq!(offline(DataSource::Huggingface, "TRUE"), Some("HF_HUB_OFFLINE"));
        assert_eq!(offline(DataSource::Huggingface, "0"), None);
        assert_eq!(offline(DataSource::Local, "0"), Some("--data-source local"));
    }

    #[test]
    fn tokens_are_never_shown() {
        let settings = settings(DataSource::Huggingface, &[("HF_TOKEN", "hf_secret")]).unwrap();
        assert_eq!(settings.site.token.as_deref(), Some("hf_secret"));
        assert!(!format!("{settings:?}").contains("hf_secret"));
    }
}
