//! The tables and the `result` view. `sqlite3 FILE .schema` prints them for a database, and
//! `cargo test --lib prints_the_schema -- --nocapture` for this version.
//!
//! Columns that end in `_ns` and are no durations are nanoseconds of the run's own clock; adding `run.wall_offset_ns`
//! gives Unix time. `request.arrivals` is encoded as [`crate::record::arrivals`] describes. The view decodes it in SQL,
//! so that `inter_token_latencies` is available for every `--save` and no gap is stored twice.

use super::columns;

/// The schema version, raised whenever a reader of the old tables would misread the new ones.
///
/// 2: `request.conversation`, and the times that the server reports. 3: the stalls of the workers. 4: the fields of
/// findings as JSON. 5: `request.first_answer_token_ns`, `request.open_after_end_ns`, `request.oddities`, `request.choices`.
/// 6: `request.body_wait_ns`, `request.last_shared`, `request.silent_arrivals`, `request.silent_kinds`, `request.tool_calls`, `request.other_choices`, `request.early`, `request.last_token_early_ns`, `request.end_early_ns`; before, `text` and `reasoning` held all choices with U+001E between
/// them. 7: `request.sent_ns`, `request.acknowledged_ns`, `request.rtt_ns`, `request.min_rtt_ns`, `request.retransmitted`,
/// `request.out_of_order`. 8: the exchanges of packets between shards. Files of earlier versions are read as well; they lack these columns and tables, and their findings
/// are shown as text.
pub(crate) const VERSION: i64 = 8;

/// Identifies the file as a ringmark database in its header: "RMRK".
pub(crate) const APPLICATION_ID: i64 = 0x524d_524b;

/// The statements that create all tables.
pub(crate) fn tables_sql() -> String {
    TABLES.replace("{request}", &columns::create_table_sql())
}

/// All tables; `{request}` stands for the one that is derived from [`columns::REQUEST_COLUMNS`].
const TABLES: &str = "
CREATE TABLE run (key TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- Request bodies, each distinct one once.
CREATE TABLE body (id INTEGER PRIMARY KEY, json TEXT NOT NULL);

{request}

-- Measurements of a worker in one phase.
CREATE TABLE worker (
  worker INTEGER NOT NULL, phase TEXT NOT NULL, core INTEGER,
  cpu_user_ns INTEGER NOT NULL, cpu_system_ns INTEGER NOT NULL, wall_ns INTEGER NOT NULL,
  voluntary_switches INTEGER NOT NULL, involuntary_switches INTEGER NOT NULL,
  reads INTEGER NOT NULL, buffer_shortages INTEGER NOT NULL, connections_opened INTEGER NOT NULL,
  peak_in_flight INTEGER NOT NULL, extra_blocks INTEGER NOT NULL, unsent INTEGER NOT NULL,
  -- Number of its rows in the table stall; NULL when there were too many to store.
  stalls INTEGER,
  PRIMARY KEY (worker, phase)
);

-- Times in which a worker did not poll its sockets for longer than 2 ms.
CREATE TABLE stall (worker INTEGER NOT NULL, phase TEXT NOT NULL, begin_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL);

-- Histograms of the client's own error: kind is receive_lag, loop_gap (poll gaps), sleep (poll gaps while idle), or
-- gather (for how long the events of a wait could gather).
CREATE TABLE lag (
  worker INTEGER NOT NULL, phase TEXT NOT NULL, kind TEXT NOT NULL, low_ns INTEGER NOT NULL, count INTEGER NOT NULL
);

-- What the run itself had to say; findings about the figures are made anew by every report.
-- The English text is for people; json has the fields.
CREATE TABLE finding (severity TEXT NOT NULL, code TEXT NOT NULL, text TEXT NOT NULL, json TEXT NOT NULL);

-- The server's own metrics over time.
CREATE TABLE server_sample (at_ns INTEGER NOT NULL, name TEXT NOT NULL, labels TEXT NOT NULL, value REAL NOT NULL);

-- Exchanges of packets between this shard and shard 0: sent and received by the clock of this shard, first_received and
-- first_sent by that of shard 0. They bound how the clocks differ.
CREATE TABLE clock_exchange (
  sent_ns INTEGER NOT NULL, first_received_ns INTEGER NOT NULL, first_sent_ns INTEGER NOT NULL,
  received_ns INTEGER NOT NULL
);

-- The requests of the witness, which enter no statistics of the run.
CREATE VIEW witness AS SELECT * FROM request WHERE phase = 'witness';
";

/// The measured requests with evalscope's column names: seconds, Unix times, `success` 1 or 0, JSON for lists, NULL for
/// values that a failed request does not have.
///
/// `inter_token_latencies` decodes the varints of `arrivals` byte by byte: each step of `walk` adds its byte to the
/// current number (`part`, `shift`) and reads the next byte; `value` is set where a number ends. The first number is
/// the time from the scheduled time to the first token and thus no gap.
pub(crate) const RESULT_VIEW: &str = "
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
  CASE WHEN coalesce(r.text, r.reasoning, r.tool_calls, r.other_choices) IS NOT NULL THEN
    (SELECT json_group_array(json(message.value)) FROM (
       -- A patch leaves out what is NULL.
       SELECT json_patch(json_object('role', 'assistant', 'content', r.text),
                         json_object('reasoning_content', r.reasoning, 'tool_calls', json(r.tool_calls))) AS value
       UNION ALL SELECT value FROM json_each(r.other_choices)
     ) message)
  END AS response_messages,
  (r.end_ns + o.value) / 1e9 AS completed_time,
  CASE WHEN r.success THEN (r.end_ns - r.due_ns) / 1e9 END AS latency,
  CASE WHEN r.success AND r.streamed THEN (r.first_token_ns - r.due_ns) / 1e9 END AS first_chunk_latency,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_schema() {
        let sql = tables_sql() + RESULT_VIEW;
        println!("{sql}");
        assert!(sql.contains("\n  due_ns INTEGER NOT NULL, -- scheduled time of the request\n"), "{sql}");
        assert!(!sql.contains('{'), "{sql}");
    }

    #[test]
    fn columns_are_unique_and_in_the_order_of_their_versions() {
        let columns = columns::REQUEST_COLUMNS;
        assert!(columns.is_sorted_by_key(|column| column.since), "new columns go to the end of the list");
        assert!(columns.iter().all(|column| (1..=VERSION).contains(&column.since)));
        for (position, column) in columns.iter().enumerate() {
            assert!(
                columns[..position].iter().all(|other| other.name != column.name),
                "{} is there twice",
                column.name
            );
        }
    }
}
