-- The tables of a database with schema version 3, as ringmark 0.1.0 wrote them. This file does not change.
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
CREATE TABLE finding (severity TEXT NOT NULL, code TEXT NOT NULL, text TEXT NOT NULL);

-- The server's own metrics over time.
CREATE TABLE server_sample (at_ns INTEGER NOT NULL, name TEXT NOT NULL, labels TEXT NOT NULL, value REAL NOT NULL);

-- The requests of the witness, which are in no figure of the run.
CREATE VIEW witness AS SELECT * FROM request WHERE phase = 'witness';
