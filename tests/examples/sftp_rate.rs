//! Measures how fast objects go to and come from the tests' SSH server, by the number of connections.
//!
//! `cargo run --release -p tests --example sftp_rate`; needs root, and 1 GB below /var/lib. Each creation is flushed to
//! the disk by the server. Both ends share this machine, so this is a bound of the processor, not of a line.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use depot::store::sftp::SftpConfig;
use depot::store::{Body, Store, StoreConfig, StoreError};
use tests::servers::sshd::{Account, Login, Sshd};

const OBJECT_BYTES: usize = 16 << 20;
const OBJECTS: usize = 32;

fn main() -> Result<()> {
    let server = Sshd::start()?;
    let mut bytes = vec![0; OBJECT_BYTES];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    let mut out = std::io::stdout();
    for connections in [1, 2, 1, 2] {
        let config = SftpConfig { connections, ..server.config(Account::AppendOnly, Login::Key) };
        let config = StoreConfig { sftp: Some(config), ..StoreConfig::default() };
        let store = Store::open(&config)?;
        store.stat("x")?;
        let folder = server.folder(Account::AppendOnly);
        let up = rate(connections, |name| store.create(name, Body::Bytes(&bytes)))?;
        let down = rate(connections, |name| store.read(name).map(drop))?;
        writeln!(out, "{connections} connections: create {up:.0} MB/s, read {down:.0} MB/s")?;
        for n in 0..OBJECTS {
            std::fs::remove_file(folder.join(n.to_string()))?;
        }
    }
    Ok(())
}

/// Does it for all objects on so many threads; megabytes a second.
fn rate(threads: usize, work: impl Fn(&str) -> Result<(), StoreError> + Sync) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let run = || -> Result<(), StoreError> {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= OBJECTS {
                return Ok(());
            }
            work(&n.to_string())?;
        }
    };
    let started = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })?;
    Ok((OBJECTS * OBJECT_BYTES) as f64 / 1e6 / started.elapsed().as_secs_f64())
}
