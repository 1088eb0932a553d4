//! The tables and the `result` view.
//!
//! Instants are nanoseconds of the run's own clock (`run.wall_offset_ns` added gives Unix time). `request.arrivals`
//! is the byte form of [`crate::record::arrivals`]; the view reads it back in SQL, so that
//! `inter_token_latencies` answers whatever `--save` kept and no gap is stored twice.

/// Raised whenever a reader of the old tables would misread the new ones.
///
/// 2: `request.conversation`, and what the server stated of its times. 3: the stalls of the workers. Files of earlier
/// versions are read as well: they lack these. 4: the fields of findings as JSON; of earlier versions the text is shown.
pub const VERSION: i64 = 4;

/// Marks the file as ours in its header: "RMRK".
pub const APPLICATION_ID: i64 = 0x524d_524b;

/// The columns of `request` that hold a record, in the order in which writer and reader bind them.
pub const REQUEST_COLUMNS: [&str; 48] = [
    "idx",
    "phase",
    "worker",
    "lane",
    "turn",
    "reused",
    "retried",
    "due_ns",
    "picked_ns",
    "connected_ns",
    "tls_handshake_ns",
    "write_start_ns",
    "write_end_ns",
    "first_byte_ns",
    "first_token_ns",
    "last_token_ns",
    "end_ns",
    "previous_end_ns",
    "outcome",
    "streamed",
    "status",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "token_source",
    "finish",
    "events",
    "coalesced",
    "reads",
    "coalesced_reads",
    "stamped_reads",
    "receive_lag_sum_ns",
    "receive_lag_max_ns",
    "received_bytes",
    "error",
    "arrivals",
    "body_id",
    "text",
    "reasoning",
    "raw",
    "output_events",
    "success",
    "conversation",
    "server_queue_ns",
    "server_prefill_ns",
    "server_decode_ns",
    "server_tokens",
];

/// Every table.
pub const TABLES: &str = "
CREATE TABLE run (key TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- Request bodies, each distinct one once.
CREATE TABLE body (id INTEGER PRIMARY KEY, json TEXT NOT NULL);

CREATE TABLE request (
  id INTEGER PRIMARY KEY,
  idx INTEGER NOT NULL, phase TEXT NOT NULL, worker INTEGER NOT NULL, lane INTEGER NOT NULL, turn INTEGER NOT NULL,
  reused INTEGER NOT NULL, retried INTEGER NOT NULL,
  due_ns INTEGER NOT NULL, picked_ns INTEGER, connected_ns INTEGER, tls_handshake_ns INTEGER,
  write_start_ns INTEGER, write_end_ns INTEGER, first_byte_ns INTEGER, first_token_ns INTEGER, last_token_ns INTEGER,
  end_ns INTEGER NOT NULL, previous_end_ns INTEGER,
  outcome TEXT NOT NULL, streamed INTEGER NOT NULL, status INTEGER NOT NULL,
  input_tokens INTEGER, output_tokens INTEGER, cached_tokens INTEGER, reasoning_tokens INTEGER,
  token_source TEXT NOT NULL, finish TEXT NOT NULL,
  events INTEGER NOT NULL, coalesced INTEGER NOT NULL, reads INTEGER NOT NULL, coalesced_reads INTEGER NOT NULL,
  stamped_reads INTEGER NOT NULL, receive_lag_sum_ns INTEGER NOT NULL, receive_lag_max_ns INTEGER NOT NULL,
  received_bytes INTEGER NOT NULL,
  error TEXT, arrivals BLOB, body_id INTEGER REFERENCES body(id), text TEXT, reasoning TEXT, raw BLOB,
  output_events INTEGER NOT NULL, success INTEGER NOT NULL,
  -- Number of the conversation, from 0, that request.turn (from 0) belongs to; NULL for single requests.
  conversation INTEGER,
  -- What the server stated of its own time inside the answer.
  server_queue_ns INTEGER, server_prefill_ns INTEGER, server_decode_ns INTEGER, server_tokens INTEGER
);

-- A worker's account of itself over one phase.
CREATE TABLE worker (
  worker INTEGER NOT NULL, phase TEXT NOT NULL, core INTEGER,
  cpu_user_ns INTEGER NOT NULL, cpu_system_ns INTEGER NOT NULL, wall_ns INTEGER NOT NULL,
  voluntary_switches INTEGER NOT NULL, involuntary_switches INTEGER NOT NULL,
  reads INTEGER NOT NULL, buffer_shortages INTEGER NOT NULL, connections_opened INTEGER NOT NULL,
  peak_in_flight INTEGER NOT NULL, extra_blocks INTEGER NOT NULL, unsent INTEGER NOT NULL,
  -- Rows of its in the table stall; NULL where they were too many to keep.
  stalls INTEGER,
  PRIMARY KEY (worker, phase)
);

-- When a worker left its sockets alone for long, from one look at them to the next.
CREATE TABLE stall (worker INTEGER NOT NULL, phase TEXT NOT NULL, begin_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL);

-- Histograms of our own error: kind is receive_lag, loop_gap or sleep.
CREATE TABLE lag (
  worker INTEGER NOT NULL, phase TEXT NOT NULL, kind TEXT NOT NULL, low_ns INTEGER NOT NULL, count INTEGER NOT NULL
);

-- What the run itself had to say; findings about the figures are made anew by every report.
-- The English text is for people; json has the fields.
CREATE TABLE finding (severity TEXT NOT NULL, code TEXT NOT NULL, text TEXT NOT NULL, json TEXT NOT NULL);

-- The server's own metrics over time.
CREATE TABLE server_sample (at_ns INTEGER NOT NULL, name TEXT NOT NULL, labels TEXT NOT NULL, value REAL NOT NULL);

-- The requests of the witness, which are in no figure of the run.
CREATE VIEW witness AS SELECT * FROM request WHERE phase = 'witness';
";

/// The measured requests in evalscope's column names: seconds, Unix times, `success` 1 or 0, JSON where a list is
/// expected, NULL where a failed request has no figure.
///
/// `inter_token_latencies` walks the varints of `arrivals` byte by byte: each step of `walk` folds the byte it holds
/// into the number begun (`part`, `shift`) and takes up the next; `value` is set where a number ends. The first
/// number is the distance from the due instant to the first token, so it is no gap.
pub const RESULT_VIEW: &str = "
CREATE VIEW result AS
SELECT
  coalesce((SELECT value FROM run WHERE key = 'request_id_prefix'), '') || '-m' || r.idx AS request_id,
  b.json AS request,
  (r.due_ns + o.value) / 1e9 AS start_time,
  CASE WHEN r.success THEN (
    WITH RECURSIVE walk(at, byte, shift, part, value, nth) AS (
      SELECT 1, (instr('0123456789ABCDEF', substr(hex(substr(r.arrivals, 1, 1)), 1, 1)) - 1) * 16
                + instr('0123456789ABCDEF', substr(hex(substr(r.arrivals, 1, 1)), 2, 1)) - 1, 0, 0, NULL, 0
      UNION ALL
      SELECT at + 1, (instr('0123456789ABCDEF', substr(hex(substr(r.arrivals, at + 1, 1)), 1, 1)) - 1) * 16
                     + instr('0123456789ABCDEF', substr(hex(substr(r.arrivals, at + 1, 1)), 2, 1)) - 1,
             CASE WHEN byte >= 128 THEN shift + 7 ELSE 0 END,
             CASE WHEN byte >= 128 THEN part | ((byte & 127) << shift) ELSE 0 END,
             CASE WHEN byte < 128 THEN part | (byte << shift) END,
             nth + (byte < 128)
      FROM walk WHERE at <= length(r.arrivals)
    )
    SELECT json_group_array(((value >> 1) * (1 - 2 * (value & 1)) - (value & 1)) / 1e9)
    FROM walk WHERE value IS NOT NULL AND nth > 1
  ) END AS inter_token_latencies,
  r.success AS success,
  CASE WHEN instr(r.text, char(30)) OR instr(r.reasoning, char(30)) THEN
    (SELECT json_group_array(CASE WHEN r.reasoning IS NULL
       THEN json_object('role', 'assistant', 'content', choice.value)
       ELSE json_object('role', 'assistant', 'content', choice.value, 'reasoning_content',
         json_extract('[' || replace(json_quote(r.reasoning), '\\u001e', '\",\"') || ']', '$[' || choice.key || ']')) END)
     FROM json_each('[' || replace(json_quote(r.text), '\\u001e', '\",\"') || ']') choice)
  WHEN r.text IS NOT NULL OR r.reasoning IS NOT NULL THEN
    CASE WHEN r.reasoning IS NULL
      THEN json_array(json_object('role', 'assistant', 'content', r.text))
      ELSE json_array(json_object('role', 'assistant', 'content', r.text, 'reasoning_content', r.reasoning)) END
  END AS response_messages,
  (r.end_ns + o.value) / 1e9 AS completed_time,
  CASE WHEN r.success THEN (r.end_ns - r.due_ns) / 1e9 END AS latency,
  CASE WHEN r.success THEN (CASE WHEN r.streamed THEN r.first_token_ns ELSE r.end_ns END - r.due_ns) / 1e9 END
    AS first_chunk_latency,
  CASE WHEN r.success THEN r.events END AS n_chunks,
  CASE WHEN r.success THEN r.input_tokens END AS prompt_tokens,
  CASE WHEN r.success THEN r.output_tokens END AS completion_tokens,
  (SELECT value / 1073741824.0 FROM run WHERE key = 'gpu_memory_peak_bytes') AS max_gpu_memory_cost,
  CASE WHEN r.success AND r.streamed AND r.output_tokens >= 2
    THEN (r.last_token_ns - r.first_token_ns) / 1e9 / (r.output_tokens - 1) END AS time_per_output_token,
  r.streamed AS is_stream,
  r.outcome AS outcome,
  r.status AS http_status,
  r.error AS error,
  r.conversation AS conversation,
  CASE WHEN r.conversation IS NOT NULL THEN r.turn END AS turn
FROM request r
JOIN run o ON o.key = 'wall_offset_ns'
LEFT JOIN body b ON b.id = r.body_id
WHERE r.phase = 'measured';
";
