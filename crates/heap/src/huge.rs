//! Huge pages for what is long and is used over and over.

/// How long a huge page is, and what it is aligned to. That of x86-64, and of ARM with pages of 4 KiB; elsewhere a multiple
/// of a page all the same.
pub const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// Asks the system to make these bytes' memory of huge pages, as far as they hold whole ones. Whether it takes note; what
/// it then does depends on how it is set and on what is free.
///
/// Linux does so where `/sys/kernel/mm/transparent_hugepage/enabled` says `madvise`, as in all the large distributions, or
/// `always`.
pub fn prefer_huge_pages(bytes: &mut [u8]) -> bool {
    let range = bytes.as_mut_ptr_range();
    let before = range.start.align_offset(HUGE_PAGE_BYTES);
    let length = bytes.len().saturating_sub(before) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    match bytes
        .get_mut(before..)
        .and_then(|bytes| bytes.get_mut(..length))
    {
        Some(whole) if !whole.is_empty() => advise(whole),
        _ => false,
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the system can only be advised by a C function")]
fn advise(bytes: &mut [u8]) -> bool {
    // SAFETY: the range is of memory that the caller has to itself, and it begins and ends with pages. The advice changes
    // neither what is in it nor who may use it.
    unsafe { libc::madvise(bytes.as_mut_ptr().cast(), bytes.len(), libc::MADV_HUGEPAGE) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn advise(_: &mut [u8]) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_huge_pages_is_as_it_was() {
        let mut bytes = vec![7_u8; 3 * HUGE_PAGE_BYTES];
        let is_advised = prefer_huge_pages(&mut bytes);
        let is_supported = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
        assert_eq!(is_advised, is_supported);
        assert!(bytes.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_holds_no_whole_huge_page_is_left_alone() {
        let mut bytes = vec![7_u8; HUGE_PAGE_BYTES - 1];
        assert!(!prefer_huge_pages(&mut bytes));
        assert!(!prefer_huge_pages(&mut []));
    }
}
