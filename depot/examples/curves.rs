//! The curves that block size, level, pack size and workers are chosen by; see `docs/performance.md`.
//!
//! ```text
//! cargo run --release -p depot --example curves -- FILE...
//! ```
//! Give it files of a database or of a site, a few hundred MB in all. Rates of blocks are by the
//! time of the processor, so that a busy machine does not change them; rates of whole runs are by
//! the clock, from memory to a depot in a scratch directory beside the first file.

#![expect(clippy::print_stdout, reason = "a program that prints tables")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chassis::progress::Progress;
use chassis::retry::Stop;
use depot::block::{BlockKey, Cuts};
use depot::crypt::{Recipients, generate_identity};
use depot::depot::Depot;
use depot::manifest::{EntryPath, SnapshotKind};
use depot::store::StoreConfig;
use depot::store::directory::DirectoryConfig;
use depot::writer::{SnapshotWriter, Stamp, Tuning, WriterOptions};
use rustix::time::{ClockId, clock_gettime};

const KIB: usize = 1 << 10;
/// As a stream brings it.
const CHUNK_BYTES: usize = 10 << 20;
const RUNS: usize = 3;

fn main() -> Result<()> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    anyhow::ensure!(!paths.is_empty(), "usage: curves FILE...");
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| path.display().to_string());
    let files = paths.iter().map(read).collect::<Result<Vec<_>>>()?;
    let size: usize = files.iter().map(Vec::len).sum();
    println!("{} files, {} MB", files.len(), size / 1_000_000);
    blocks(&files, size)?;
    let beside = paths[0].parent().context("the first file has a directory")?;
    runs(&files, size, beside)
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn cpu_since(begun: Duration) -> Duration {
    cpu_time().saturating_sub(begun)
}

/// Naming and compressing one block after another, on one core.
fn blocks(files: &[Vec<u8>], size: usize) -> Result<()> {
    println!("| block | level | MB/s and core: name | compress | decompress | ratio |");
    println!("|---|---|---|---|---|---|");
    let key = BlockKey::generate();
    for length in [16, 32, 64, 128, 256, 1024].map(|n| n * KIB) {
        let pieces = || files.iter().flat_map(|file| file.chunks(length));
        let begun = cpu_time();
        for piece in pieces() {
            std::hint::black_box(key.name(piece));
        }
        let naming = cpu_since(begun);
        for level in [-1, 1, 2, 3, 5] {
            let mut zstd = zstd::bulk::Compressor::new(level)?;
            let begun = cpu_time();
            let stored =
                pieces().map(|piece| zstd.compress(piece)).collect::<Result<Vec<_>, _>>()?;
            let compressing = cpu_since(begun);
            let total: usize = stored.iter().map(Vec::len).sum();
            let mut zstd = zstd::bulk::Decompressor::new()?;
            let mut buffer = vec![0; length];
            let begun = cpu_time();
            for piece in &stored {
                zstd.decompress_to_buffer(piece, &mut buffer)?;
            }
            let decompressing = cpu_since(begun);
            println!(
                "| {} KiB | {level} | {:.0} | {:.0} | {:.0} | {:.3} |",
                length / KIB,
                rate(size, naming),
                rate(size, compressing),
                rate(size, decompressing),
                size as f64 / total as f64
            );
        }
    }
    Ok(())
}

/// Whole runs: all files through the writer into a directory.
fn runs(files: &[Vec<u8>], size: usize, beside: &Path) -> Result<()> {
    println!("\n| block | pack | workers | MB/s | MB a second of processor time | stored MB |");
    println!("|---|---|---|---|---|---|");
    let standard = || Tuning { workers: 2, ..Tuning::default() };
    let cuts = |kib: u64| Cuts::uniform(kib * 1024);
    let mut tunings = vec![standard()];
    tunings.extend([16, 64, 256, 1024].map(|kib| Tuning { cuts: cuts(kib), ..standard() }));
    tunings.extend([4, 8, 24, 31].map(|mib| Tuning { pack_bytes: mib << 20, ..standard() }));
    tunings.extend([1, 3, 4].map(|workers| Tuning { workers, ..standard() }));
    for tuning in tunings {
        let mut figures = Vec::new();
        let mut stored = 0;
        for _ in 0..RUNS {
            let folder = tempfile::tempdir_in(beside)?;
            let begun = (Instant::now(), cpu_time());
            stored = whole_run(files, folder.path(), tuning.clone())?;
            figures.push((begun.0.elapsed(), cpu_since(begun.1)));
        }
        figures.sort();
        let (wall, cpu) = figures[RUNS / 2];
        println!(
            "| from {} KiB | {} MiB | {} | {:.0} | {:.0} | {} |",
            tuning.cuts.size_at(0) / 1024,
            tuning.pack_bytes >> 20,
            tuning.workers,
            rate(size, wall),
            rate(size, cpu),
            stored / 1_000_000
        );
    }
    Ok(())
}

fn whole_run(files: &[Vec<u8>], folder: &Path, tuning: Tuning) -> Result<u64> {
    let path = folder.join("depot");
    std::fs::create_dir(&path)?;
    let directory = Some(DirectoryConfig { path });
    let config = StoreConfig { directory, ..StoreConfig::default() };
    Depot::init("curves", &config)?;
    let stop = Stop::never();
    let depot = Depot::open("curves", &config, &stop)?;
    let (_, public) = generate_identity();
    let options = WriterOptions {
        id: "curves--20261123T021500Z--host".parse()?,
        kind: SnapshotKind::Files,
        root: "/".into(),
        program: "curves".into(),
        key: BlockKey::generate(),
        recipients: Recipients::parse(&[public])?,
        parent: None,
        state_dir: folder.join("state"),
        tuning,
        stop,
        progress: Arc::new(Progress::default()),
    };
    let mut writer = SnapshotWriter::start(options, vec![Arc::new(depot)])?;
    for (number, content) in files.iter().enumerate() {
        let file = writer.open(EntryPath::new(format!("{number}").into_bytes())?)?;
        for chunk in content.chunks(CHUNK_BYTES) {
            writer.write(file, chunk)?;
        }
        writer.close(file, None, false, Stamp::default())?;
    }
    Ok(writer.finish(None)?.totals.stored)
}

fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}
