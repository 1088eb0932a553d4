//! Records go into the database and come back as they were, and SQL users find what they expect.

mod records;

use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use records::{ORIGIN, at, closed, collect, push_failed, push_ok, report, start};
use ringmark::finding::{Finding, Severity};
use ringmark::plan::Save;
use ringmark::record::arrivals::EarlyRange;
use ringmark::record::facts::RunEnd;
use ringmark::record::{
    Block, CollectorMessage, Failure, Finish, NetworkTimes, Oddities, Outcome, Phase, RequestRecord, ServerTimes,
    Stall, TokenSource,
};
use ringmark::store::collector::{Collector, CollectorSettings, Notice};
use ringmark::store::reader::Detail;
use ringmark::store::{Reader, StoreError, Writer};
use ringmark::time::Tick;

fn database() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("benchmark_data.db");
    (folder, path)
}

/// A record in which every field has a value of its own.
fn full_record(block: &mut Block) -> RequestRecord {
    let mut n = ORIGIN;
    let mut next = || {
        n += 1_234_567;
        Tick(n)
    };
    RequestRecord {
        index: u64::from(u32::MAX) + 7,
        phase: Phase::Measured,
        worker: 3,
        slot: 70_000,
        conversation: Some(u64::from(u32::MAX) + 9),
        turn: 2,
        reused: true,
        retried: true,
        due: next(),
        picked: Some(next()),
        body_wait_ns: Some(13),
        connected: Some(next()),
        tls_handshake_ns: Some(99),
        write_start: Some(next()),
        write_end: Some(next()),
        first_byte: Some(next()),
        first_token: Some(next()),
        first_answer_token: Some(next()),
        last_token: Some(next()),
        end: next(),
        open_after_end_ns: Some(12),
        oddities: Oddities::from_names("invalid_text,open_after_end").unwrap(),
        choices: block.keep_bytes(&[0, 1, 0]),
        last_shared: true,
        silent: block.keep_arrivals(&[at(6), at(3000)]),
        silent_kinds: block.keep_bytes(&[0, 0, 1, 2]),
        previous_end: Some(next()),
        outcome: Outcome::Failed(Failure::InStream),
        streamed: true,
        status: 200,
        input_tokens: Some(1),
        output_tokens: Some(2),
        cached_tokens: Some(3),
        reasoning_tokens: Some(4),
        server_times: Some(ServerTimes {
            queue_ns: Some(0),
            prefill_ns: Some(7_000_000),
            decode_ns: None,
            tokens: Some(3),
        }),
        token_source: TokenSource::Tokenizer,
        finish: Finish::ToolCalls,
        events: 5,
        coalesced: 6,
        reads: 7,
        coalesced_reads: 8,
        stamped_reads: 9,
        receive_lag_sum_ns: 10,
        receive_lag_max_ns: 11,
        received_bytes: 12,
        network: NetworkTimes {
            sent: Some(next()),
            acknowledged: Some(next()),
            rtt_ns: Some(14),
            min_rtt_ns: Some(15),
            retransmitted: Some(16),
            out_of_order: Some(17),
        },
        // One arrival out of order: two stamps mapped by different samples of the clock.
        arrivals: block.keep_arrivals(&[at(5), at(4), at(2000)]),
        text: block.keep_bytes("日本語".as_bytes()),
        reasoning: block.keep_bytes(b"because"),
        error: block.keep_bytes(b"engine died"),
        raw: block.keep_bytes(b"data: \xff\n\n"),
        tool_calls: block.keep_bytes(b"[{\"id\":\"a\"}]"),
        other_choices: block.keep_bytes(b"[{\"content\":\"b\"}]"),
        // Goes into a table of its own.
        body: Default::default(),
        early: block.keep_early(&[EarlyRange { from: 0, to: 2, ns: 77 }]),
        last_token_early_ns: Some(13),
        end_early_ns: None,
    }
}

/// A record with its spans' contents, comparable across blocks.
fn spelled_out(record: &RequestRecord, block: &Block) -> String {
    let bare = RequestRecord {
        arrivals: Default::default(),
        choices: Default::default(),
        early: Default::default(),
        silent: Default::default(),
        silent_kinds: Default::default(),
        text: Default::default(),
        reasoning: Default::default(),
        error: Default::default(),
        body: Default::default(),
        raw: Default::default(),
        tool_calls: Default::default(),
        other_choices: Default::default(),
        ..record.clone()
    };
    let answer = [record.text, record.reasoning, record.tool_calls, record.other_choices, record.raw];
    let spans = [answer.as_slice(), &[record.error, record.choices, record.silent_kinds, record.early]].concat();
    let bytes: Vec<&[u8]> = spans.into_iter().map(|span| span.slice(&block.bytes)).collect();
    let ticks = [record.arrivals, record.silent].map(|span| span.slice(&block.arrivals));
    format!("{bare:?} {ticks:?} {bytes:?}")
}

/// Rows in a table of the database.
fn rows(database: &Path, table: &str) -> i64 {
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn records_come_back_as_they_were() {
    let (_folder, path) = database();
    let mut block = Block::new(0);
    let full = full_record(&mut block);
    block.records.push(full);
    block.records.push(RequestRecord { index: 1, ..RequestRecord::default() });
    push_ok(&mut block, 2, 10, &[50, 60, 70]);
    let expected: Vec<String> = block.records.iter().map(|r| spelled_out(r, &block)).collect();

    let end = collect(&path, start(closed(3, 1), Save::Full), vec![CollectorMessage::Block(block)]);
    assert!(end.error.is_none(), "{:?}", end.error);
    assert_eq!((rows(&path, "request"), end.rows_lost), (3, 0));

    assert_eq!(stored(&path, Phase::Measured), expected);
}

/// The contents of all requests of a phase, in the order of the file.
fn stored(path: &Path, phase: Phase) -> Vec<String> {
    let mut found = Vec::new();
    let take = |block: &Block| found.extend(block.records.iter().map(|r| spelled_out(r, block)));
    Reader::open(path).unwrap().each_block(phase, Detail::Everything, take).unwrap();
    found
}

/// A record whose fields hold the values that `next` gives. It names every field: a new one must survive as well.
fn record_from(next: &mut impl FnMut() -> u64, texts: &[String; 3], raw: &[u8], block: &mut Block) -> RequestRecord {
    let outcomes: Vec<Outcome> =
        Failure::ALL.into_iter().map(Outcome::Failed).chain([Outcome::Ok, Outcome::Unfinished]).collect();
    let arrivals: Vec<Tick> = (0..next() % 5).map(|_| Tick(next())).collect();
    let silent: Vec<Tick> = (0..next() % 3).map(|_| Tick(next())).collect();
    let maybe = |value: u64| (!value.is_multiple_of(3)).then_some(value);
    let times = ServerTimes {
        queue_ns: maybe(next()),
        prefill_ns: maybe(next()),
        decode_ns: maybe(next()),
        tokens: maybe(next()).map(|n| n as u32),
    };
    RequestRecord {
        index: next(),
        phase: [Phase::Preflight, Phase::Warmup, Phase::Measured, Phase::Witness][next() as usize % 4],
        worker: next() as u32,
        slot: next() as u32,
        conversation: maybe(next()),
        turn: next() as u32,
        reused: next().is_multiple_of(2),
        retried: next().is_multiple_of(2),
        due: Tick(next()),
        picked: maybe(next()).map(Tick),
        body_wait_ns: maybe(next()),
        connected: maybe(next()).map(Tick),
        tls_handshake_ns: maybe(next()),
        write_start: maybe(next()).map(Tick),
        write_end: maybe(next()).map(Tick),
        first_byte: maybe(next()).map(Tick),
        first_token: maybe(next()).map(Tick),
        first_answer_token: maybe(next()).map(Tick),
        last_token: maybe(next()).map(Tick),
        end: Tick(next()),
        open_after_end_ns: maybe(next()),
        oddities: Oddities::from_names(["", "zero_usage", "heartbeats,media_type"][next() as usize % 3]).unwrap(),
        choices: block.keep_bytes(raw),
        early: block.keep_bytes(raw),
        last_token_early_ns: maybe(next()).map(|n| n as u32),
        end_early_ns: maybe(next()).map(|n| n as u32),
        last_shared: next().is_multiple_of(2),
        silent: block.keep_arrivals(&silent),
        silent_kinds: block.keep_bytes(texts[1].as_bytes()),
        previous_end: maybe(next()).map(Tick),
        outcome: outcomes[next() as usize % outcomes.len()],
        streamed: next().is_multiple_of(2),
        status: next() as u16,
        input_tokens: maybe(next()).map(|n| n as u32),
        output_tokens: maybe(next()).map(|n| n as u32),
        cached_tokens: maybe(next()).map(|n| n as u32),
        reasoning_tokens: maybe(next()).map(|n| n as u32),
        // Times of which none is known are stored as no times.
        server_times: Some(times).filter(|times| *times != ServerTimes::default()),
        token_source: [TokenSource::Unknown, TokenSource::Server, TokenSource::Tokenizer, TokenSource::Program]
            [next() as usize % 4],
        finish: [Finish::None, Finish::Stop, Finish::Length, Finish::ToolCalls, Finish::ContentFilter, Finish::Other]
            [next() as usize % 6],
        events: next() as u32,
        coalesced: next() as u32,
        reads: next() as u32,
        coalesced_reads: next() as u32,
        stamped_reads: next() as u32,
        receive_lag_sum_ns: next(),
        receive_lag_max_ns: next(),
        received_bytes: next(),
        network: NetworkTimes {
            sent: maybe(next()).map(Tick),
            acknowledged: maybe(next()).map(Tick),
            rtt_ns: maybe(next()),
            min_rtt_ns: maybe(next()),
            retransmitted: maybe(next()).map(|n| n as u32),
            out_of_order: maybe(next()).map(|n| n as u32),
        },
        arrivals: block.keep_arrivals(&arrivals),
        text: block.keep_bytes(texts[0].as_bytes()),
        reasoning: block.keep_bytes(texts[1].as_bytes()),
        error: block.keep_bytes(texts[2].as_bytes()),
        // Goes into a table of its own.
        body: Default::default(),
        raw: block.keep_bytes(raw),
        tool_calls: block.keep_bytes(texts[0].as_bytes()),
        other_choices: block.keep_bytes(texts[1].as_bytes()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_field_of_a_record_survives_storage(
        records in vec((vec(ORIGIN..ORIGIN + (1 << 52), 64), any::<[String; 3]>(), vec(any::<u8>(), 0..9)), 1..6),
    ) {
        let (_folder, path) = database();
        let mut block = Block::new(0);
        for (numbers, texts, raw) in &records {
            let mut numbers = numbers.iter().copied().cycle();
            let record = record_from(&mut || numbers.next().unwrap(), texts, raw, &mut block);
            block.records.push(record);
        }
        let of_phase = |phase| block.records.iter().filter(move |r| r.phase == phase).map(|r| spelled_out(r, &block));
        let phases = [Phase::Preflight, Phase::Warmup, Phase::Measured, Phase::Witness];
        let expected: Vec<Vec<String>> = phases.map(|phase| of_phase(phase).collect()).into();
        let end = collect(&path, start(closed(3, 1), Save::Full), vec![CollectorMessage::Block(block)]);
        prop_assert!(end.error.is_none(), "{:?}", end.error);
        prop_assert_eq!(phases.map(|phase| stored(&path, phase)).to_vec(), expected);
    }
}

/// A database as the version 3 of the schema made it, without the views.
fn version_3(path: &Path) -> rusqlite::Connection {
    let sql = rusqlite::Connection::open(path).unwrap();
    sql.execute_batch(include_str!("records/schema_v3.sql")).unwrap();
    sql.pragma_update(None, "application_id", 0x524d_524b).unwrap();
    sql.pragma_update(None, "user_version", 3).unwrap();
    sql
}

/// Name, type, NOT NULL, and place in the key of every column.
fn columns_of(sql: &rusqlite::Connection, table: &str) -> Vec<(String, String, bool, u32)> {
    let mut statement = sql.prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?1)").unwrap();
    let columns = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
    columns.map(Result::unwrap).collect()
}

#[test]
fn files_of_schema_version_3_are_read() {
    let (folder, path) = database();
    let old = version_3(&path);
    let facts = closed(2, 1);
    old.execute("INSERT INTO run VALUES ('facts', ?1)", [serde_json::to_string(&facts).unwrap()]).unwrap();
    old.execute_batch(
        "INSERT INTO body VALUES (1, '{}');
         INSERT INTO request VALUES (1, 7, 'measured', 1, 2, 3, 1, 0, 100, 101, 102, 9, 103, 104, 105, 106, 107, 108, 99,
           'ok', 1, 200, 10, 2, 5, 1, 'server', 'stop', 4, 1, 3, 1, 2, 50, 40, 900, NULL, x'0c02', 1, 'yes', 'so', x'ff',
           2, 1, 11, 20, 21, 22, 23);
         INSERT INTO request VALUES (2, 8, 'measured', 0, 0, 0, 0, 1, 100, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
           109, NULL, 'reset', 0, 0, NULL, NULL, NULL, NULL, 'unknown', 'none', 0, 0, 0, 0, 0, 0, 0, 0, 'gone', NULL, NULL,
           NULL, NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL);
         INSERT INTO worker VALUES (0, 'measured', NULL, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1);
         INSERT INTO stall VALUES (0, 'measured', 5, 6);
         INSERT INTO lag VALUES (0, 'measured', 'sleep', 900, 2);
         INSERT INTO finding VALUES ('caution', 'send_lag', 'late');
         INSERT INTO server_sample VALUES (5, 'n', '', 1.5)",
    )
    .unwrap();

    let mut block = Block::new(0);
    let answered = RequestRecord {
        index: 7,
        worker: 1,
        slot: 2,
        turn: 3,
        conversation: Some(11),
        reused: true,
        due: Tick(100),
        picked: Some(Tick(101)),
        connected: Some(Tick(102)),
        tls_handshake_ns: Some(9),
        write_start: Some(Tick(103)),
        write_end: Some(Tick(104)),
        first_byte: Some(Tick(105)),
        first_token: Some(Tick(106)),
        last_token: Some(Tick(107)),
        end: Tick(108),
        previous_end: Some(Tick(99)),
        outcome: Outcome::Ok,
        streamed: true,
        status: 200,
        input_tokens: Some(10),
        output_tokens: Some(2),
        cached_tokens: Some(5),
        reasoning_tokens: Some(1),
        server_times: Some(ServerTimes {
            queue_ns: Some(20),
            prefill_ns: Some(21),
            decode_ns: Some(22),
            tokens: Some(23),
        }),
        token_source: TokenSource::Server,
        finish: Finish::Stop,
        events: 4,
        coalesced: 1,
        reads: 3,
        coalesced_reads: 1,
        stamped_reads: 2,
        receive_lag_sum_ns: 50,
        receive_lag_max_ns: 40,
        received_bytes: 900,
        arrivals: block.keep_arrivals(&[Tick(106), Tick(107)]),
        text: block.keep_bytes(b"yes"),
        reasoning: block.keep_bytes(b"so"),
        raw: block.keep_bytes(b"\xff"),
        ..RequestRecord::default()
    };
    let failed = RequestRecord {
        index: 8,
        retried: true,
        due: Tick(100),
        end: Tick(109),
        outcome: Outcome::Failed(Failure::Reset),
        error: block.keep_bytes(b"gone"),
        ..RequestRecord::default()
    };
    assert_eq!(stored(&path, Phase::Measured), [spelled_out(&answered, &block), spelled_out(&failed, &block)]);

    let reader = Reader::open(&path).unwrap();
    let run = reader.run().unwrap();
    assert_eq!((run.facts, run.end), (facts, None));
    assert_eq!((run.workers.len(), run.workers[0].unsent, run.workers[0].sleep_ns.len()), (1, 11, 2));
    assert_eq!(run.workers[0].stalls, Some(vec![Stall { begin: Tick(5), end: Tick(6) }]));
    assert_eq!((run.findings[0].severity(), run.findings[0].en().as_str()), (Severity::Caution, "late"));
    assert_eq!(reader.server_samples().unwrap()[0].value, 1.5);

    // The columns of that version are still the same and in the same order; later ones come after them.
    let today = folder.path().join("today.db");
    drop(Writer::create(&today, &start(closed(1, 1), Save::Text)).unwrap());
    let columns = columns_of(&rusqlite::Connection::open(&today).unwrap(), "request");
    let of_then = columns_of(&old, "request");
    assert_eq!(of_then.len(), 49);
    assert_eq!(columns[..49], of_then);
}

#[test]
fn files_from_before_conversations_are_read() {
    let (_folder, path) = database();
    let mut block = Block::new(0);
    push_ok(&mut block, 2, 10, &[50, 60, 70]);
    let worker = CollectorMessage::Worker(Box::new(report(Phase::Measured)));
    collect(&path, start(closed(1, 1), Save::Text), vec![CollectorMessage::Block(block), worker]);
    let old = rusqlite::Connection::open(&path).unwrap();
    let of_then = "DROP VIEW result; ALTER TABLE request DROP COLUMN conversation;
                   ALTER TABLE request DROP COLUMN server_queue_ns; ALTER TABLE request DROP COLUMN server_prefill_ns;
                   ALTER TABLE request DROP COLUMN server_decode_ns; ALTER TABLE request DROP COLUMN server_tokens;
                   DROP TABLE stall;
                   ALTER TABLE worker DROP COLUMN stalls; PRAGMA user_version = 1";
    old.execute_batch(of_then).unwrap();
    let found = |path: &Path| {
        let mut found = Vec::new();
        let take = |block: &Block| found.extend(block.records.iter().map(|record| (record.index, record.conversation)));
        Reader::open(path).unwrap().each_block(Phase::Measured, Detail::Everything, take).unwrap();
        found
    };
    assert_eq!(found(&path), [(2, None)]);
    assert!(Reader::open(&path).unwrap().run().unwrap().workers.iter().all(|worker| worker.stalls.is_none()));
    old.execute_batch("PRAGMA user_version = 9").unwrap();
    let error = Reader::open(&path).err().unwrap().to_string();
    assert!(error.contains("has schema 9, this ringmark reads 8"), "{error}");
}

#[test]
fn the_run_comes_back_as_it_was() {
    let (_folder, path) = database();
    let mut worker = report(Phase::Measured);
    for ns in [800, 1_500, 1_500, 2_000_000] {
        worker.receive_lag_ns.record(ns).unwrap();
    }
    worker.sleep_ns.record(900_000).unwrap();
    worker.stalls = Some(vec![Stall { begin: Tick(1_000), end: Tick(9_000_000) }]);
    let mut begin = start(closed(3, 2), Save::Text);
    let fallback = Finding::EpollInstead { reason: "Operation not permitted".to_string() };
    begin.findings.push(fallback.clone());
    let facts = begin.facts.clone();
    collect(&path, begin, vec![CollectorMessage::Worker(Box::new(worker.clone()))]);

    let run = Reader::open(&path).unwrap().run().unwrap();
    assert_eq!(run.facts, facts);
    assert_eq!(run.findings, [fallback]);
    assert!(run.end.is_some_and(|end| !end.interrupted));
    assert_eq!(run.workers.len(), 1);
    assert!(run.workers[0].receive_lag_ns == worker.receive_lag_ns, "the histogram has changed");
    assert_eq!(run.workers[0].cpu_user_ns, worker.cpu_user_ns);
    assert_eq!((run.workers[0].sleep_ns.len(), &run.workers[0].stalls), (1, &worker.stalls));
}

#[test]
fn findings_of_earlier_schemas_are_their_texts() {
    let (_folder, path) = database();
    collect(&path, start(closed(1, 1), Save::Text), Vec::new());
    let old = rusqlite::Connection::open(&path).unwrap();
    let to_old = "ALTER TABLE finding DROP COLUMN json; PRAGMA user_version = 3;
                  INSERT INTO finding VALUES ('caution', 'server_died', 'The server ended during the run: exit 1')";
    old.execute_batch(to_old).unwrap();
    let findings = Reader::open(&path).unwrap().run().unwrap().findings;
    let text = "The server ended during the run: exit 1".to_string();
    let stored = Finding::Stored { severity: Severity::Caution, code: "server_died".to_string(), text: text.clone() };
    assert_eq!((findings[0].en(), findings[0].zh()), (text.clone(), text));
    assert_eq!(findings, [stored]);
}

#[test]
fn sql_from_the_documentation_answers() {
    let (folder, path) = database();
    let mut block = Block::new(0);
    push_ok(&mut block, 0, 0, &[50, 60, 72]);
    push_failed(&mut block, 1, 3, Outcome::Failed(Failure::Status), "overloaded");
    block.records.push(RequestRecord { index: 0, phase: Phase::Warmup, ..RequestRecord::default() });
    collect(&path, start(closed(2, 2), Save::Text), vec![CollectorMessage::Block(block)]);

    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(files, ["benchmark_data.db"], "a run that ends in order leaves one single file");

    let sql = rusqlite::Connection::open(&path).unwrap();
    let row: (String, String, u32, u32) = sql
        .query_row(
            "SELECT request, response_messages, prompt_tokens, completion_tokens FROM result WHERE success='1'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    assert_eq!((row.0.as_str(), row.2, row.3), ("{\"prompt\":0}", 10, 3));
    let messages: serde_json::Value = serde_json::from_str(&row.1).unwrap();
    assert_eq!(messages[0]["content"], "你好");

    let row: (String, f64, f64, f64, String) = sql
        .query_row(
            "SELECT request_id, latency, first_chunk_latency, time_per_output_token, inter_token_latencies
             FROM result WHERE success = 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )
        .unwrap();
    assert_eq!((row.0.as_str(), row.1, row.2, row.3), ("id-m0", 0.073, 0.05, 0.011));
    assert_eq!(serde_json::from_str::<Vec<f64>>(&row.4).unwrap(), [0.01, 0.012]);

    let failed: (u32, Option<f64>, String, String) = sql
        .query_row("SELECT success, latency, outcome, error FROM result WHERE success = 0", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap();
    assert_eq!(failed, (0, None, "status".to_string(), "overloaded".to_string()));
    let rows: u32 = sql.query_row("SELECT count(*) FROM result", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2, "warm-up requests are stored but are no results");
    let unix: f64 = sql.query_row("SELECT min(start_time) FROM result", [], |row| row.get(0)).unwrap();
    assert_eq!(unix, records::UNIX as f64 / 1e9);
}

#[test]
fn the_view_reads_every_kind_of_gap() {
    let (_folder, path) = database();
    let mut block = Block::new(0);
    let gaps_ns: Vec<i64> = vec![0, 1, 63, 64, -1, -64, 127, 128, 8_191, 8_192, -300, 5_000_000_000, 123_456_789];
    let mut arrivals = vec![at(1)];
    for gap in &gaps_ns {
        arrivals.push(Tick(arrivals[arrivals.len() - 1].0.wrapping_add(*gap as u64)));
    }
    let span = block.keep_arrivals(&arrivals);
    block.records.push(RequestRecord { due: at(0), outcome: Outcome::Ok, arrivals: span, ..RequestRecord::default() });
    block.records.push(RequestRecord { outcome: Outcome::Ok, ..RequestRecord::default() });
    collect(&path, start(closed(2, 1), Save::Metrics), vec![CollectorMessage::Block(block)]);
    let sql = rusqlite::Connection::open(&path).unwrap();
    let mut statement = sql.prepare("SELECT request, inter_token_latencies FROM result").unwrap();
    let rows: Vec<(Option<String>, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    let found: Vec<i64> =
        serde_json::from_str::<Vec<f64>>(&rows[0].1).unwrap().iter().map(|s| (s * 1e9).round() as i64).collect();
    assert_eq!(found, gaps_ns);
    assert_eq!(rows[1], (None, "[]".to_string()), "no prompts with --save metrics, and no gaps without tokens");
}

#[test]
fn a_database_that_exists_or_is_not_ours_is_refused() {
    let (folder, path) = database();
    std::fs::write(&path, "hello, this is no database, just a text file that stands here").unwrap();
    let error = Writer::create(&path, &start(closed(1, 1), Save::Text)).err().unwrap();
    assert!(matches!(error, StoreError::Exists(_)), "{error}");
    let error = Reader::open(&path).err().unwrap();
    assert!(error.to_string().contains("is not a ringmark database"), "{error}");
    let error = Reader::open(&folder.path().join("nowhere.db")).err().unwrap();
    assert!(error.to_string().contains("nowhere.db"), "{error}");
    let error = Writer::create(&folder.path().join("no/such/x.db"), &start(closed(1, 1), Save::Text)).err().unwrap();
    assert!(error.to_string().starts_with("cannot create"), "{error}");
}

#[test]
fn a_database_without_an_end_is_read() {
    let (_folder, path) = database();
    let mut writer = Writer::create(&path, &start(closed(1, 1), Save::Text)).unwrap();
    let mut block = Block::new(0);
    push_ok(&mut block, 0, 0, &[50]);
    writer.begin().unwrap();
    writer.add_block(&block, |_| std::borrow::Cow::Borrowed(b"{}")).unwrap();
    writer.commit().unwrap();
    // Somebody looks while the run goes on.
    let reader = Reader::open(&path).unwrap();
    let mut rows = 0;
    reader.each_block(Phase::Measured, Detail::Figures, |block| rows += block.records.len()).unwrap();
    assert_eq!(rows, 1);
    assert!(reader.run().unwrap().end.is_none());
}

#[test]
fn blocks_come_back_empty_and_progress_is_reported() {
    let (_folder, path) = database();
    let (to_collector, messages) = crossbeam_channel::unbounded();
    let (to_worker, empties) = crossbeam_channel::unbounded();
    let (say, said) = crossbeam_channel::unbounded();
    let settings = CollectorSettings {
        database: path,
        start: start(closed(25, 1), Save::Text),
        log_every: 10,
        notify: Box::new(move |notice| {
            if let Notice::Progress(snapshot) = notice {
                say.send((snapshot.done, snapshot.ok, snapshot.failed, snapshot.ttft_p50_ns.is_some())).unwrap();
            }
        }),
    };
    let collector = Collector::start(settings, messages, to_worker, records::workload()).unwrap();
    let live = collector.live().clone();
    let mut block = Block::new(0);
    block.records.push(RequestRecord { phase: Phase::Warmup, ..RequestRecord::default() });
    push_failed(&mut block, 0, 0, Outcome::Failed(Failure::Reset), "reset");
    for index in 1..25 {
        push_ok(&mut block, index, index, &[50, 60]);
    }
    to_collector.send(CollectorMessage::Block(block)).unwrap();
    // Small blocks, such as those of the witness, do not come back: nobody would reuse them.
    to_collector.send(CollectorMessage::Block(Block::default())).unwrap();
    let back = empties.recv().unwrap();
    assert!(back.records.is_empty() && back.arrivals.is_empty() && back.records.capacity() >= Block::CAPACITY);
    drop(to_collector);
    assert!(collector.finish(RunEnd::default(), &[]).error.is_none());
    assert!(empties.try_recv().is_err());
    let lines: Vec<_> = said.try_iter().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!((lines[0].0, lines[1].0), (10, 20));
    assert_eq!((lines[1].1, lines[1].2), (19, 1));
    let last = live.snapshot();
    assert_eq!((last.warmup_done, last.done, last.ok, last.output_tokens), (1, 25, 24, 48));
    assert!(last.itl_p50_ns.is_some_and(|ns| (9_900_000..=10_100_000).contains(&ns)), "{last:?}");
}

#[test]
fn a_database_that_fails_midway_is_reported_once_and_counted() {
    let (_folder, path) = database();
    let (to_collector, messages) = crossbeam_channel::unbounded();
    let (to_worker, empties) = crossbeam_channel::unbounded();
    let (say, said) = crossbeam_channel::unbounded();
    let settings = CollectorSettings {
        database: path.clone(),
        start: start(closed(4, 1), Save::Text),
        log_every: 0,
        notify: Box::new(move |notice| {
            if let Notice::StoreFailed(error) = notice {
                say.send(error.to_string()).unwrap();
            }
        }),
    };
    let collector = Collector::start(settings, messages, to_worker, records::workload()).unwrap();
    // Stands for a full disk: from now on no row fits.
    rusqlite::Connection::open(&path).unwrap().execute_batch("ALTER TABLE request RENAME TO gone").unwrap();
    for index in 0..4 {
        let mut block = Block::new(0);
        push_ok(&mut block, index, index, &[50]);
        to_collector.send(CollectorMessage::Block(block)).unwrap();
        empties.recv().unwrap();
    }
    assert_eq!(collector.live().snapshot().done, 4, "counting goes on");
    drop(to_collector);
    let end = collector.finish(RunEnd::default(), &[]);
    assert_eq!((rows(&path, "gone"), end.rows_lost), (0, 4));
    assert!(end.error.is_some());
    assert_eq!(said.try_iter().count(), 1);
    assert_eq!(Reader::open(&path).unwrap().run().unwrap().end.map(|end| end.rows_lost), Some(4));
}
