//! A thread that may ask nothing of the system: what cannot be counted (a lock that waits, a write,
//! a sleep) ends the process.
//!
//! Such a thread cannot even end. It spins, or yields, until the process is over.

/// From now on the process ends at this thread's first system call. Only
/// [`std::thread::yield_now`] is let through, so that a thread with nothing to do can say so. Does
/// nothing on systems other than Linux.
pub fn forbid_system_calls() {
    #[cfg(target_os = "linux")]
    {
        use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
        let filter = SeccompFilter::new(
            [(libc::SYS_sched_yield, vec![])].into(),
            SeccompAction::Trap,
            SeccompAction::Allow,
            std::env::consts::ARCH.try_into().expect("a known processor"),
        );
        let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
        apply_filter(&program).expect("a thread may filter itself");
        // To free it might take a system call.
        std::mem::forget(program);
    }
}
