//! The bound on events that were read and not yet counted: when it is used up, reading from the sockets pauses, and TCP tells the senders.
//!
//! actix bounds a mailbox by messages and lets every sender have one more, which bounds no memory. So a batch takes a share of this budget
//! along on its whole way, and gives it back when it is dropped.

use std::sync::Arc;

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a batch costs beside its events; also bounds how many batches there can be.
pub const BATCH_BYTES: usize = 4 << 10;

/// The budget, shared by all connections and requests.
#[derive(Debug, Clone)]
pub struct Budget {
    kib: Arc<Semaphore>,
    total_kib: u32,
    in_flight: IntGauge,
}

/// A share of the budget, given back on drop.
#[derive(Debug)]
pub struct Share {
    permit: OwnedSemaphorePermit,
    in_flight: IntGauge,
}

impl Budget {
    /// A budget of so many bytes; `in_flight` shows what is taken.
    pub fn new(bytes: usize, in_flight: IntGauge) -> Self {
        let total_kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).max(1);
        Self { kib: Arc::new(Semaphore::new(total_kib as usize)), total_kib, in_flight }
    }

    /// How many batches can be under way at most.
    pub fn most_batches(&self) -> usize {
        self.total_kib as usize / (BATCH_BYTES / 1024) + 1
    }

    /// Waits for a share for a batch of this size; `None` when the node is shutting down. A batch beyond the whole budget takes all of it.
    pub async fn take(&self, bytes: usize) -> Option<Share> {
        let kib = u32::try_from((bytes + BATCH_BYTES) / 1024).unwrap_or(u32::MAX).min(self.total_kib);
        let permit = Arc::clone(&self.kib).acquire_many_owned(kib).await.ok()?;
        self.in_flight.add(i64::from(kib) * 1024);
        Some(Share { permit, in_flight: self.in_flight.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.in_flight.sub(self.permit.num_permits() as i64 * 1024);
    }
}
