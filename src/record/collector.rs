//! The thread that takes full blocks from the workers, writes them to the database and keeps the live figures.
//!
//! It never holds a worker up: it only receives, and gives empty blocks back when it is done with them. A database
//! that can no longer be written does not end the run: counting goes on, the failure is told once, and the end says
//! how many requests are missing.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::facts::RunEnd;
use super::live::{Live, Meter, Snapshot};
use super::store::{RunStart, StoreError, Writer};
use super::{Block, Parcel, Phase, RequestRecord};
use crate::finding::Finding;
use crate::workload::Workload;

/// Time between two commits at most, and between two refreshes of the live quantiles.
const TURN: Duration = Duration::from_millis(250);

/// Requests in one transaction at most: enough to spread its cost, few enough that a kill loses a blink.
const ROWS_PER_COMMIT: u64 = 4096;

/// What a collector is told before the run.
pub struct CollectorSettings {
    /// Where the database is made; it must not exist yet.
    pub database: PathBuf,
    pub start: RunStart,
    /// A [`Notice::Progress`] every so many measured requests; 0 never.
    pub log_every: u64,
    /// Takes what the collector has to say, on the collector's thread. It should return soon.
    pub notify: Box<dyn FnMut(Notice<'_>) + Send>,
}

/// What a collector says while the run goes on.
#[derive(Debug)]
pub enum Notice<'a> {
    /// Another `log_every` requests have ended.
    Progress(&'a Snapshot),
    /// The database can no longer be written; said once.
    StoreFailed(&'a StoreError),
}

/// What is left when the collector has ended.
#[derive(Debug)]
pub struct CollectorEnd {
    /// Requests written, of every phase.
    pub rows: u64,
    /// Requests that could not be written.
    pub rows_lost: u64,
    /// Why not, or why the file could not be closed in order.
    pub error: Option<StoreError>,
    /// Most parcels that ever waited.
    pub peak_backlog: u64,
}

/// A running collector.
pub struct Collector {
    live: Arc<Live>,
    thread: JoinHandle<Keeper>,
}

impl Collector {
    /// Makes the database and starts the thread. It ends when every sender of `parcels` is gone.
    pub fn start(
        settings: CollectorSettings,
        parcels: Receiver<Parcel>,
        empties: Sender<Block>,
        workload: Arc<Workload>,
    ) -> Result<Collector, StoreError> {
        let writer = Writer::create(&settings.database, &settings.start)?;
        let live = Arc::new(Live::default());
        let keeper = Keeper {
            writer,
            live: live.clone(),
            meter: Meter::default(),
            workload,
            log_every: settings.log_every,
            notify: settings.notify,
            error: None,
            rows: 0,
            rows_open: 0,
            rows_lost: 0,
        };
        let thread = std::thread::Builder::new()
            .name("collector".to_string())
            .spawn(move || keeper.keep(&parcels, &empties))
            .map_err(|e| StoreError::Create {
                path: settings.database,
                reason: format!("no thread for the collector: {e}"),
            })?;
        Ok(Collector { live, thread })
    }

    /// The figures so far, shared: clone it for a progress bar.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Waits until everything sent has been stored, which needs every sender to be gone, then writes the end of the
    /// run and closes the file. `end.peak_backlog` and `end.rows_lost` are filled in here.
    pub fn finish(self, end: RunEnd, findings: &[Finding]) -> CollectorEnd {
        let keeper = match self.thread.join() {
            Ok(keeper) => keeper,
            // A panic in there is a bug of ours; it must not be swallowed.
            Err(panic) => std::panic::resume_unwind(panic),
        };
        keeper.close(end, findings)
    }
}

/// The collector's own state, on its thread.
struct Keeper {
    writer: Writer,
    live: Arc<Live>,
    meter: Meter,
    workload: Arc<Workload>,
    log_every: u64,
    notify: Box<dyn FnMut(Notice<'_>) + Send>,
    error: Option<StoreError>,
    rows: u64,
    /// Requests in the open transaction; 0 means that none is open.
    rows_open: u64,
    rows_lost: u64,
}

impl Keeper {
    fn keep(mut self, parcels: &Receiver<Parcel>, empties: &Sender<Block>) -> Keeper {
        let turns = crossbeam_channel::tick(TURN);
        loop {
            crossbeam_channel::select! {
                recv(parcels) -> parcel => match parcel {
                    Ok(parcel) => {
                        let waiting = parcels.len() as u64;
                        self.live.backlog.store(waiting, Relaxed);
                        self.live.peak_backlog.fetch_max(waiting, Relaxed);
                        self.take(parcel, empties);
                    }
                    Err(_) => break,
                },
                recv(turns) -> _ => {
                    self.commit();
                    self.meter.refresh(&self.live);
                }
            }
        }
        self.commit();
        self.meter.refresh(&self.live);
        self
    }

    fn take(&mut self, parcel: Parcel, empties: &Sender<Block>) {
        match parcel {
            Parcel::Block(mut block) => {
                self.count(&block);
                self.store_block(&block);
                block.clear();
                // The worker may have ended already; then the block is simply dropped.
                let _ = empties.try_send(block);
            }
            Parcel::Worker(report) => self.attempt(0, |writer| writer.add_worker(&report)),
            Parcel::Server(samples) => self.attempt(0, |writer| writer.add_server_samples(&samples)),
        }
    }

    fn count(&mut self, block: &Block) {
        let mut fresh = false;
        for record in &block.records {
            self.meter.count(record, record.arrivals.of(&block.arrivals), &self.live);
            let done = self.live.done.load(Relaxed);
            let logs = record.phase == Phase::Measured && self.log_every > 0 && done.is_multiple_of(self.log_every);
            if !logs {
                continue;
            }
            if !fresh {
                // Once a block: quantiles cost far more than counts.
                self.meter.refresh(&self.live);
                fresh = true;
            }
            (self.notify)(Notice::Progress(&self.live.snapshot()));
        }
    }

    fn store_block(&mut self, block: &Block) {
        let rows = block.records.len() as u64;
        let workload = self.workload.clone();
        self.attempt(rows, |writer| writer.add_block(block, |record| body_of(&workload, block, record)));
        if self.rows_open >= ROWS_PER_COMMIT {
            self.commit();
        }
    }

    /// Carries out `write`, which adds `rows` requests, in the open transaction or a new one.
    fn attempt(&mut self, rows: u64, write: impl FnOnce(&mut Writer) -> Result<(), StoreError>) {
        if self.error.is_some() {
            self.rows_lost += rows;
            return;
        }
        let begun = if self.rows_open == 0 { self.writer.begin() } else { Ok(()) };
        let result = begun.and_then(|()| write(&mut self.writer));
        self.rows_open += rows;
        match result {
            Ok(()) if rows == 0 && self.rows_open == 0 => self.commit_open(),
            Ok(()) => {}
            Err(error) => self.give_up(error),
        }
    }

    fn commit(&mut self) {
        if self.rows_open > 0 && self.error.is_none() {
            self.commit_open();
        }
    }

    fn commit_open(&mut self) {
        match self.writer.commit() {
            Ok(()) => {
                self.rows += self.rows_open;
                self.rows_open = 0;
            }
            Err(error) => self.give_up(error),
        }
    }

    /// The transaction is lost and no other is begun: a database with holes in it would be worse than a short one.
    fn give_up(&mut self, error: StoreError) {
        self.writer.roll_back();
        self.rows_lost += self.rows_open;
        self.rows_open = 0;
        self.live.store_failed.store(true, Relaxed);
        (self.notify)(Notice::StoreFailed(&error));
        self.error = Some(error);
    }

    fn close(mut self, end: RunEnd, findings: &[Finding]) -> CollectorEnd {
        let peak_backlog = self.live.peak_backlog.load(Relaxed);
        let end = RunEnd { peak_backlog, rows_lost: self.rows_lost, ..end };
        // Tried even after a failure: a disk that was full may have room again for these few rows.
        let closed = self.writer.add_findings(findings).and_then(|()| self.writer.close(&end));
        CollectorEnd { rows: self.rows, rows_lost: self.rows_lost, error: self.error.or(closed.err()), peak_backlog }
    }
}

/// The JSON body of a request: its own, where it brought one, else that of the workload.
fn body_of<'a>(workload: &'a Workload, block: &'a Block, record: &RequestRecord) -> Cow<'a, [u8]> {
    match record.body.len {
        0 => workload.body(record.phase, record.index),
        _ => Cow::Borrowed(record.body.of(&block.bytes)),
    }
}
