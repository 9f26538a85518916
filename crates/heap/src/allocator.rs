//! How the C library's allocator is set, so that what was freed goes back to the system.
//!
//! glibc learns from each large buffer that is freed to keep the next such one: the threshold from which it maps memory
//! directly grows up to 32 MiB, and what is below comes from one of many arenas, between longer-lived things, and stays
//! there. With buffers of half a MiB that come and go on some twenty threads, a process that uses 30 MiB holds 90. Setting
//! the threshold keeps it from moving. mimalloc and jemalloc were measured in its place: they hold more than this, and the
//! buffers that the pipeline fills over and over are kept by itself.

/// From this size on, memory is mapped for itself and unmapped when it is freed. With half a MiB a busy process held some
/// 10 MiB more, in holes. Above the buffers in which connections read, which come and go with every body: mapped each time, they
/// cost as much as what is done with what is in them.
pub const MAPPED_FROM_BYTES: usize = 64 * 1024;
/// From this on, what is free at an arena's end is given back. Less would come and go all the time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const FREE_FROM_BYTES: usize = 128 * 1024;

/// Fixes the threshold. To be called before any thread is started. Whether it could be; where the allocator is another one,
/// there is nothing to set.
pub fn give_back_early() -> bool {
    set()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the allocator can only be set by a C function")]
fn set() -> bool {
    let int = |bytes| libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: mallopt takes two numbers and keeps to itself; it may be called at any time, on any thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, int(MAPPED_FROM_BYTES)) == 1
            && libc::mallopt(libc::M_TRIM_THRESHOLD, int(FREE_FROM_BYTES)) == 1
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn set() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn what_is_freed_goes_back_to_the_system() {
        assert!(give_back_early());
        let resident_kib = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let line = status.lines().find(|line| line.starts_with("RssAnon:"));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok())
                .expect("linux tells")
        };
        let before = resident_kib();
        // Between them something that stays, as it would be in a program.
        let mut kept = Vec::new();
        for _ in 0..4 {
            let mut large = Vec::new();
            for _ in 0..64 {
                large.push(vec![1_u8; 8 * MAPPED_FROM_BYTES]);
                kept.push(vec![1_u8; 1_000]);
            }
            assert!(resident_kib() > before + 16 * 1024);
        }
        let after = resident_kib();
        assert!(
            after < before + 8 * 1024,
            "{before} KiB before, {after} KiB after"
        );
        drop(kept);
    }
}
