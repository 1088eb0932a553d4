//! Sends records to the collector, in blocks. A worker never waits for the collector.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::telemetry::Telemetry;
use crate::record::memory::MemoryBudget;
use crate::record::{Block, CollectorMessage, RequestRecord};
use crate::time::{MS, Tick};

/// A worker's open block and its two channels.
pub struct RecordSender {
    pub block: Block,
    messages: Sender<CollectorMessage>,
    empties: Receiver<Block>,
    flushed: Tick,
    memory: Arc<MemoryBudget>,
}

/// A block with records is sent after this time even if it is not full, so that progress is visible.
const FLUSH_NS: u64 = 100 * MS;

impl RecordSender {
    pub fn new(
        worker: u32,
        messages: Sender<CollectorMessage>,
        empties: Receiver<Block>,
        memory: Arc<MemoryBudget>,
    ) -> RecordSender {
        RecordSender { block: Block::new(worker), messages, empties, flushed: Tick(0), memory }
    }

    /// Sends to another collector from now on.
    pub fn redirect(&mut self, messages: Sender<CollectorMessage>) {
        self.messages = messages;
    }

    /// Appends a record whose spans point into [`RecordSender::block`].
    pub fn add(&mut self, record: RequestRecord, telemetry: &mut Telemetry) {
        self.block.records.push(record);
        if self.block.is_full() {
            self.flush(telemetry);
        }
    }

    /// Sends the block if the last one was sent long enough ago.
    pub(crate) fn flush_if_old(&mut self, now: Tick, telemetry: &mut Telemetry) {
        if now.ns_since(self.flushed) >= FLUSH_NS as i64 {
            self.flushed = now;
            self.flush(telemetry);
        }
    }

    /// Sends the block if it has records, and replaces it by an empty one: a returned one, else a new one.
    pub fn flush(&mut self, telemetry: &mut Telemetry) {
        if self.block.records.is_empty() {
            return;
        }
        let worker = self.block.worker;
        let mut empty = self.empties.try_recv().unwrap_or_else(|_| {
            telemetry.extra_blocks += 1;
            Block::new(worker)
        });
        empty.worker = worker;
        let mut full = std::mem::replace(&mut self.block, empty);
        full.memory = Some(self.memory.claim(full.held_bytes()));
        // Sending fails only if the collector has ended, and then the run is over.
        let _ = self.messages.send(CollectorMessage::Block(full));
    }
}
