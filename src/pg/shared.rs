//! This module maps memory that all backends of the cluster share, without
//! shared_preload_libraries: three files in `pg_stat_tmp`, mapped. `pancake::rate::limiter`,
//! `pancake::stats` and `pancake::paging::verdicts` define the words.
//!
//! The limiter's file has a frozen layout, so that two releases may meet in it; statistics and
//! progress have another, and so have verdicts on pages. `pg_stat_tmp` exists in all supported
//! majors, is writable on a standby and left out of base backups.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use memmap2::MmapRaw;
use nix::time::{ClockId, clock_gettime};
use pancake::error::{Error, Kind, Result};
use pancake::paging::verdicts::Verdicts;
use pancake::rate::limiter::{Clocks, Memory, Spacing};
use pancake::stats::{Count, Moment, PageStats, ScanStats, SharedText};

const DIRECTORY: &str = "pg_stat_tmp";
const PAGES: usize = 1024;
const SCANS: usize = 1024;
const HEADER: usize = 64;

/// A scan that runs now. Its owner alone writes; a slot whose owner is gone is free.
#[repr(C)]
#[derive(Default)]
pub struct Progress {
    owner: AtomicU64,
    pub database: Count,
    pub role: Count,
    pub object: SharedText<2>,
    pub page_id: SharedText<16>,
    pub started_at: Moment,
    pub requests: Moment,
    pub rows: Moment,
    pub oldest_row: Moment,
    pub waiting_for: SharedText<2>,
}

/// What the cluster's backends share.
pub struct Shared {
    pub memory: Memory,
    pub scans: &'static [Progress],
}

/// Maps the files at the first call of a backend.
pub fn shared() -> Result<&'static Shared> {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    if let Some(shared) = SHARED.get() {
        return Ok(shared);
    }
    let stats_size = PAGES * size_of::<PageStats>();
    let limiter = map("pancake_fdw.limiter", 2, PAGES * size_of::<Spacing>())?;
    let ledger = map("pancake_fdw.stats", 1, stats_size + SCANS * size_of::<Progress>())?;
    let verdicts = map("pancake_fdw.verdicts", 1, PAGES * size_of::<Verdicts>())?;
    // SAFETY: the mappings are never unmapped, as large as asked for, aligned to 64 bytes behind
    // their header, and only ever seen through atomics, for which zeroed memory is a valid value.
    let shared = unsafe {
        Shared {
            memory: Memory {
                spacings: std::slice::from_raw_parts(limiter.cast(), PAGES),
                stats: std::slice::from_raw_parts(ledger.cast(), PAGES),
                verdicts: std::slice::from_raw_parts(verdicts.cast(), PAGES),
                clocks: CLOCKS,
            },
            scans: std::slice::from_raw_parts(ledger.add(stats_size).cast(), SCANS),
        }
    };
    Ok(SHARED.get_or_init(|| shared))
}

/// CLOCK_MONOTONIC is the same for all processes, and does not jump when the clock is set.
pub const CLOCKS: Clocks = Clocks {
    monotonic_ns: || {
        clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
    },
    wall_micros: || {
        clock_gettime(ClockId::CLOCK_REALTIME)
            .map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000)
    },
};

/// The first 64 bytes of a file: its writer, its layout, the boot since which it holds. The clock
/// restarts at boot, so the words of an earlier one mean nothing.
fn header(layout: u64, size: usize) -> [u8; HEADER] {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut header = [0; HEADER];
    let text = format!("pancake_fdw\0{layout}\0{size}\0{}", boot.trim());
    let length = text.len().min(HEADER);
    header[..length].copy_from_slice(&text.as_bytes()[..length]);
    header
}

/// The address behind the header of a mapped file that is never unmapped.
fn map(name: &str, layout: u64, size: usize) -> Result<*mut u8> {
    let failed = |error: std::io::Error| {
        Error::new(Kind::NoSharedMemory, "cannot share the rate limit between sessions")
            .detail(format!("{DIRECTORY}/{name}: {error}."))
            .hint("Check the free space and the permissions of pg_stat_tmp in the data directory.")
    };
    let file = open(name, &header(layout, size), size).map_err(failed)?;
    let mapping = MmapRaw::map_raw(&file).map_err(failed)?;
    let start = mapping.as_mut_ptr();
    std::mem::forget(mapping);
    // SAFETY: the mapping is larger than its header.
    Ok(unsafe { start.add(HEADER) })
}

/// The file as some backend made it, or a new one in its place. Never truncated: another backend
/// may have it mapped.
fn open(name: &str, header: &[u8; HEADER], size: usize) -> std::io::Result<File> {
    let directory = Path::new(DIRECTORY);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join("pancake_fdw.lock"))?;
    lock.lock()?;
    let path = directory.join(name);
    if let Ok(mut file) = OpenOptions::new().read(true).write(true).open(&path) {
        let mut found = [0; HEADER];
        let whole = file.metadata()?.len() == (HEADER + size) as u64;
        if whole && file.read_exact(&mut found).is_ok() && found == *header {
            return Ok(file);
        }
    }
    let new = directory.join(format!("{name}.new"));
    let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&new)?;
    // All blocks now: a sparse file on a full disk would end a backend with SIGBUS.
    nix::fcntl::posix_fallocate(file.as_fd(), 0, (HEADER + size) as i64)?;
    file.write_all(header)?;
    std::fs::rename(&new, &path)?;
    Ok(file)
}

impl Progress {
    /// Takes a free slot, or one whose owner died. None when all are taken: the scan runs, unseen.
    pub fn claim(
        slots: &'static [Progress],
        pid: u64,
        is_alive: impl Fn(u64) -> bool,
    ) -> Option<&'static Progress> {
        slots.iter().find(|slot| {
            let owner = slot.owner.load(SeqCst);
            let free = owner == 0 || (owner != pid && !is_alive(owner));
            free && slot.owner.compare_exchange(owner, pid, SeqCst, SeqCst).is_ok()
        })
    }

    pub fn release(&self) {
        self.owner.store(0, SeqCst);
    }

    pub fn owner(&self) -> Option<u64> {
        Some(self.owner.load(SeqCst)).filter(|owner| *owner != 0)
    }

    pub fn show(&self, tally: &ScanStats) {
        self.requests.set(tally.requests.get() as i64);
        self.rows.set(tally.rows.get() as i64);
        self.oldest_row.set(tally.oldest_row.get().map_or(0, |at| at.0));
        self.waiting_for.write(tally.waiting_for().text());
    }
}
