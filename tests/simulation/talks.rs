//! The conversations of simulated runs: a data set of one to four turns, with and without pauses between them.

use std::sync::{Arc, LazyLock};

use ringmark::plan::Plan;
use ringmark::spec::{RigFacts, Spec, resolve};
use ringmark::workload::Workload;
use ringmark::workload::conversation::Conversations;
use serde_json::{Value, json};

/// The pause before a later turn, milliseconds.
pub const THINK_MS: (u64, u64) = (1, 6);

/// Turns of each conversation of the data.
const TURNS: [usize; 5] = [1, 2, 3, 1, 4];

/// A plan and its requests, which many runs use.
pub struct Prepared {
    pub plan: Plan,
    pub workload: Arc<Workload>,
}

impl Prepared {
    pub fn conversations(&self) -> &Conversations {
        self.workload.conversations.as_ref().expect("the data has conversations")
    }
}

static WITHOUT_PAUSES: LazyLock<Prepared> = LazyLock::new(|| prepare(None));
static WITH_PAUSES: LazyLock<Prepared> = LazyLock::new(|| prepare(Some(THINK_MS)));

pub fn prepared(with_pauses: bool) -> &'static Prepared {
    if with_pauses { &WITH_PAUSES } else { &WITHOUT_PAUSES }
}

/// The plan of a server that is never connected to.
pub fn spec() -> Spec {
    Spec::default().with(|s| {
        s.target.url = Some("http://127.0.0.1:9/v1/chat/completions".to_string());
        s.target.model = Some("m".to_string());
    })
}

pub fn plan(spec: &Spec) -> Plan {
    let facts = RigFacts { allowed_cores: vec![0], started: "20260101_000000".to_string(), ..RigFacts::default() };
    resolve(spec, &facts).unwrap().remove(0)
}

fn prepare(think_ms: Option<(u64, u64)>) -> Prepared {
    let lines = TURNS.iter().enumerate().map(|(number, &turns)| {
        let turn = |turn: usize| {
            let user = json!({"role": "user", "content": user_text(number, turn)});
            [user, json!({"role": "assistant", "content": "never sent"})]
        };
        format!("{}\n", Value::from((0..turns).flat_map(turn).collect::<Vec<_>>()))
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("talks.jsonl");
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    let plan = plan(&spec().with(|s| {
        s.data.dataset = Some("custom_multi_turn".to_string());
        s.data.dataset_path = Some(path);
        s.data.multi_turn = true;
        s.load.number = vec![TURNS.len() as u64];
        if let Some((low, high)) = think_ms {
            s.data.think_time_s = vec![low as f64 / 1e3, high as f64 / 1e3];
        }
    }));
    let workload = Workload::build(&plan.workload, "s", "/v1/chat/completions").unwrap();
    Prepared { plan, workload: Arc::new(workload) }
}

/// The user's message of a turn of the data.
fn user_text(conversation: usize, turn: usize) -> String {
    format!("{conversation} \"{turn}\"")
}

/// Whether the body of a turn has the messages of all turns before it, with these answers.
pub fn has_history(body: &[u8], answers: &[&str]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap();
    let messages = body["messages"].as_array().unwrap();
    let said = |role: &str| -> Vec<&str> {
        let of_role = messages.iter().filter(|message| message["role"] == role);
        of_role.map(|message| message["content"].as_str().unwrap()).collect()
    };
    let users = said("user");
    let first: usize = users[0].split(' ').next().and_then(|text| text.parse().ok()).unwrap();
    let expected: Vec<String> = (0..=answers.len()).map(|turn| user_text(first, turn)).collect();
    users == expected && said("assistant") == answers && messages.len() == 2 * answers.len() + 1
}
