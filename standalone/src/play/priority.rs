//! The generator's place among all that a machine does: before everything that can wait, after the
//! audio callback.

/// Runs `start` on a thread that goes first, where the system lets it; threads that it starts do so
/// too, as they inherit it.
///
/// Linux knows real-time threads; the least of them is still behind a callback of JACK. A machine of
/// one core keeps it for its user.
pub(super) fn before_others<T: Send>(start: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            #[cfg(target_os = "linux")]
            raise();
            start()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(target_os = "linux")]
fn raise() {
    use thread_priority::{
        RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return;
    }
    let Ok(least) = ThreadPriorityValue::try_from(1) else {
        return;
    };
    // Not allowed to everyone: sound plays without it, but forgives less.
    let _ = set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(least),
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin),
    );
}
