// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ending early without leaving anything behind: half-written files, or programs that still run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

static CLOSED: AtomicBool = AtomicBool::new(false);
static INSIDE: RwLock<()> = RwLock::new(());

/// Begins what must not be cut off; none where this process is about to end.
pub(super) fn enter() -> Option<RwLockReadGuard<'static, ()>> {
    let guard = INSIDE.read().unwrap_or_else(PoisonError::into_inner);
    (!is_closed()).then_some(guard)
}

/// Whether this process is about to end, so that what takes long should be given up.
pub(super) fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// Waits for what must not be cut off, and lets nothing of that kind begin any more. The process is to end after it.
pub fn close() {
    CLOSED.store(true, Ordering::Relaxed);
    std::mem::forget(INSIDE.write().unwrap_or_else(PoisonError::into_inner));
}
