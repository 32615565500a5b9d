//! An allocator that counts, for tests of what never allocates and of what gives all memory back.
//!
//! A test says `#[global_allocator] static ALLOCATOR: Counting = Counting;` and asks [`calls`],
//! [`asked_bytes`] or [`live_bytes`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    /// Calls of this thread; the test runner's other threads do not count.
    static CALLS: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread asked for, whatever it gave back.
    static ASKED_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Bytes that the process holds.
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

/// Allocations and frees of this thread while `work` runs.
pub fn calls(work: impl FnOnce()) -> usize {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

/// Bytes that this thread asks for while `work` runs.
pub fn asked_bytes(work: impl FnOnce()) -> usize {
    let before = ASKED_BYTES.get();
    work();
    ASKED_BYTES.get() - before
}

/// Bytes that all threads together have allocated and not yet freed.
pub fn live_bytes() -> usize {
    LIVE_BYTES.load(Ordering::SeqCst)
}

/// One call, that gives `taken` bytes and takes `given_back`.
fn count(taken: usize, given_back: usize) {
    // A thread that is ending has no counter any more, and nothing to count.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    let _ = ASKED_BYTES.try_with(|bytes| bytes.set(bytes.get() + taken));
    LIVE_BYTES.fetch_add(taken, Ordering::Relaxed);
    LIVE_BYTES.fetch_sub(given_back, Ordering::Relaxed);
}

// SAFETY: every call is handed on to the system's allocator as it came; counting touches an atomic
// and a thread-local cell that need no memory of their own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller keeps the promises of `dealloc`; the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: the caller keeps the promises of `realloc`; the pointer came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
