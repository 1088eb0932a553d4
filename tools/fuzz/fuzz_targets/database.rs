//! A damaged database gives figures or an error. The first byte of an input selects what is damaged: bytes of the file, or
//! values in its tables; and whether the page is made, which takes long. The rest is a list of changes.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ringmark::report::{html, measured, screen};
use ringmark::spec::Language;
use ringmark::{Spec, measure};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

/// Bytes of an input for each change.
const CHANGE: usize = 12;

/// A database of this version, the places of its values, and a place for damaged copies.
struct Base {
    bytes: Vec<u8>,
    cells: Vec<Cell>,
    damaged: PathBuf,
}

struct Cell {
    table: String,
    column: String,
    /// SQL: which row it is, with the values of the key from the second parameter on.
    condition: String,
    key: Vec<Value>,
    value: Value,
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("ringmark-fuzz-database-{}", std::process::id()));
        let spec = Spec::default().with(|spec| {
            spec.target.url = Some("mock:?ttft=1ms&itl=1ms&tokens=4&fault=status(500):1/4".to_string());
            spec.target.no_test_connection = true;
            spec.load.parallel = vec![2];
            spec.load.number = vec![12];
            spec.output.outputs_dir = folder.clone();
        });
        let runs = measure(&spec).expect("the mock can be measured");
        let bytes = std::fs::read(&runs[0].database).expect("the run has a database");
        let cells = cells(&runs[0].database).expect("the tables can be read");
        Base { bytes, cells, damaged: folder.join("damaged.db") }
    })
}

/// Every value of every table.
fn cells(path: &Path) -> rusqlite::Result<Vec<Cell>> {
    let database = Connection::open(path)?;
    let texts = |sql: &str| -> rusqlite::Result<Vec<String>> {
        database.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
    };
    let mut cells = Vec::new();
    for table in texts("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")? {
        let mut keys = texts(&format!("SELECT name FROM pragma_table_info('{table}') WHERE pk > 0"))?;
        if keys.is_empty() {
            keys.push("rowid".to_string());
        }
        let condition = keys.iter().zip(2..).map(|(key, place)| format!("{key} IS ?{place}")).collect::<Vec<_>>();
        let condition = condition.join(" AND ");
        for column in texts(&format!("SELECT name FROM pragma_table_info('{table}')"))? {
            let sql = format!("SELECT \"{column}\", {} FROM \"{table}\"", keys.join(", "));
            let mut rows = database.prepare(&sql)?;
            let found = rows.query_map([], |row| {
                let key = (1..=keys.len()).map(|place| row.get(place)).collect::<rusqlite::Result<_>>()?;
                let (table, column, condition) = (table.clone(), column.clone(), condition.clone());
                Ok(Cell { table, column, condition, key, value: row.get(0)? })
            })?;
            for cell in found {
                cells.push(cell?);
            }
        }
    }
    Ok(cells)
}

/// Replaces the bytes at some positions.
fn damage_bytes(base: &Base, changes: &[u8]) {
    let mut bytes = base.bytes.clone();
    for change in changes.chunks_exact(5) {
        let place = u32::from_le_bytes([change[0], change[1], change[2], change[3]]) as usize % bytes.len();
        bytes[place] = change[4];
    }
    std::fs::write(&base.damaged, bytes).expect("the folder for temporary files is writable");
}

/// Replaces some values. A change that the schema refuses is left out.
fn damage_values(base: &Base, changes: &[u8]) -> rusqlite::Result<()> {
    std::fs::write(&base.damaged, &base.bytes).expect("the folder for temporary files is writable");
    let database = Connection::open(&base.damaged)?;
    database.execute_batch("PRAGMA synchronous = OFF; BEGIN")?;
    for change in changes.chunks_exact(CHANGE) {
        let (place, number) = change.split_at(4);
        let Cell { table, column, condition, key, value } =
            &base.cells[u16::from_le_bytes([place[0], place[1]]) as usize % base.cells.len()];
        let number = i64::from_le_bytes(number.try_into().expect("8 bytes"));
        let sql = format!("UPDATE \"{table}\" SET \"{column}\" = ?1 WHERE {condition}");
        let new = changed(value, (place[2], place[3]), number);
        let _ = database.execute(&sql, params_from_iter([&new].into_iter().chain(key)));
    }
    database.execute_batch("COMMIT")
}

/// A value in the place of another one.
fn changed(value: &Value, (kind, place): (u8, u8), number: i64) -> Value {
    const EXTREMES: [i64; 9] =
        [i64::MIN, i64::MAX, -1, 0, 1, i32::MAX as i64, u32::MAX as i64, 1 << 53, 1_000_000_000_000_000_000];
    let extreme = EXTREMES[number.unsigned_abs() as usize % EXTREMES.len()];
    match (kind % 6, value) {
        (0 | 1, Value::Text(text)) => Value::Text(with_number(text, place, kind % 2 == 0, extreme, number)),
        (0 | 1, Value::Blob(bytes)) => {
            let mut bytes = bytes.clone();
            let length = bytes.len().max(1);
            match kind % 2 {
                0 => bytes.truncate(usize::from(place) % length),
                _ => bytes.splice(..usize::from(place) % length, number.to_le_bytes()).for_each(drop),
            }
            Value::Blob(bytes)
        }
        (0 | 2, _) => Value::Integer(extreme),
        (1 | 3, _) => Value::Integer(number),
        (4, _) => Value::Real(f64::from_bits(number as u64)),
        _ => [Value::Null, Value::Text(number.to_string()), Value::Blob(number.to_le_bytes().to_vec())]
            [usize::from(place) % 3]
            .clone(),
    }
}

/// A JSON text with another number in the place of one of its numbers.
fn with_number(text: &str, place: u8, is_extreme: bool, extreme: i64, number: i64) -> String {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '-' | '.' | 'e');
    let starts: Vec<usize> = text
        .char_indices()
        .filter(|(at, c)| c.is_ascii_digit() && !text[..*at].ends_with(is_part))
        .map(|(at, _)| at)
        .collect();
    let Some(&start) = starts.get(usize::from(place) % starts.len().max(1)) else { return number.to_string() };
    let end = text[start..].find(|c| !is_part(c)).map_or(text.len(), |length| start + length);
    let new = match is_extreme {
        true => extreme.to_string(),
        false => format!("{:e}", f64::from_bits(number as u64)),
    };
    format!("{}{new}{}", &text[..start], &text[end..])
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, changes)) = data.split_first() else { return };
    let base = base();
    match first % 2 {
        0 => damage_bytes(base, changes),
        _ => damage_values(base, changes).expect("an undamaged database can be changed"),
    }
    let Ok(run) = measured(&base.damaged) else { return };
    screen::render(&run.summary, 100);
    if first & 0xe == 0 {
        let _ = html::from_databases(std::slice::from_ref(&base.damaged), Language::Zh);
    }
});
