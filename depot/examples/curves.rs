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
use depot::compression::Compression;
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

/// Naming and compressing one block after another, on one core: at levels of zstd, and as a run does.
fn blocks(files: &[Vec<u8>], size: usize) -> Result<()> {
    println!("| block | effort | MB/s and core: name | compress | decompress | ratio |");
    println!("|---|---|---|---|---|---|");
    let key = BlockKey::generate();
    for length in [16, 32, 64, 128, 256, 1024].map(|n| n * KIB) {
        let begun = cpu_time();
        for piece in files.iter().flat_map(|file| file.chunks(length)) {
            std::hint::black_box(key.name(piece));
        }
        let naming = rate(size, cpu_since(begun));
        let row = |effort: &str, figures: String| {
            println!("| {} KiB | {effort} | {naming:.0} | {figures} |", length / KIB);
        };
        for level in [-1, 1, 2, 3, 5] {
            let mut zstd = zstd::bulk::Compressor::new(level)?;
            let compress = |_, piece: &[u8], into: &mut Vec<u8>| {
                into.resize(zstd::zstd_safe::compress_bound(piece.len()), 0);
                Ok(zstd.compress_to_buffer(piece, &mut into[..])?)
            };
            row(&level.to_string(), compressing(files, length, compress)?);
        }
        let mut run = Compression::new(Tuning::default().level)?;
        let compress =
            |file, piece: &[u8], into: &mut Vec<u8>| run.pack(file as u64, piece, into, 0);
        row("of a run", compressing(files, length, compress)?);
    }
    Ok(())
}

/// The rates of compressing and decompressing, and the ratio.
fn compressing(
    files: &[Vec<u8>],
    length: usize,
    mut compress: impl FnMut(usize, &[u8], &mut Vec<u8>) -> Result<usize>,
) -> Result<String> {
    let size: usize = files.iter().map(Vec::len).sum();
    let mut all = Vec::new();
    let mut frames = Vec::new();
    let mut buffer = Vec::new();
    let begun = cpu_time();
    for (number, file) in files.iter().enumerate() {
        for piece in file.chunks(length) {
            let stored = compress(number, piece, &mut buffer)?;
            frames.push((all.len(), stored, piece.len()));
            all.extend_from_slice(&buffer[..stored]);
        }
    }
    let there = rate(size, cpu_since(begun));
    let mut zstd = zstd::bulk::Decompressor::new()?;
    buffer.resize(length, 0);
    let begun = cpu_time();
    for (at, stored, plain) in frames {
        let frame = &all[at..at + stored];
        if stored == plain {
            buffer[..plain].copy_from_slice(frame);
        } else {
            zstd.decompress_to_buffer(frame, &mut buffer)?;
        }
    }
    let back = rate(size, cpu_since(begun));
    Ok(format!("{there:.0} | {back:.0} | {:.3}", size as f64 / all.len() as f64))
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
