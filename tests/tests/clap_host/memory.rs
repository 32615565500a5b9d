//! An allocator that counts: calls of each thread, and bytes of the whole program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread asked for, whatever it gave back.
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

/// Bytes in use by the program.
static IN_USE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(asked: usize, change: isize) {
    // A thread that is ending has no counter any more, and nothing to count.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    let _ = ASKED.try_with(|bytes| bytes.set(bytes.get() + asked));
    IN_USE.fetch_add(change, Ordering::Relaxed);
}

// SAFETY: every call is handed on to the system's allocator as it came; counting touches
// thread-local cells and an atomic that need no memory of their own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), layout.size() as isize);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: the caller keeps the promises of `dealloc`; the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the promises of `realloc`; the pointer came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Allocations and frees of this thread while `work` runs.
pub(crate) fn calls(work: impl FnOnce()) -> usize {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

/// Bytes that this thread asks for while `work` runs.
pub(crate) fn asked(work: impl FnOnce()) -> usize {
    let before = ASKED.get();
    work();
    ASKED.get() - before
}

/// Bytes in use by the program.
pub(crate) fn in_use() -> isize {
    IN_USE.load(Ordering::Relaxed)
}

#[test]
fn the_counters_count() {
    let work = || drop(std::hint::black_box(vec![1_u8; 1000]));
    assert!(calls(work) >= 2);
    assert!(asked(work) >= 1000);
    assert_eq!(calls(|| {}), 0);
    let _alone = crate::alone();
    let before = in_use();
    let held = std::hint::black_box(vec![1_u8; 10_000_000]);
    assert!(in_use() - before > 9_000_000);
    drop(held);
}
