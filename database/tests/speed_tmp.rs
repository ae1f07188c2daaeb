//! temporary
use database::{tool::BackupTool, xbstream::Reader};
use std::io::Read;
fn cpu() -> f64 { std::fs::read_to_string("/proc/thread-self/schedstat").unwrap().split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9 }
fn stream() -> Vec<u8> {
    let data = vec![0xa5_u8; 10 << 20];
    let mut s = Vec::new();
    for n in 0..50_u64 {
        s.extend(b"XBSTCK01\0P\x05\0\0\0t.ibd");
        s.extend((data.len() as u64).to_le_bytes());
        s.extend((n * data.len() as u64).to_le_bytes());
        s.extend(crc32fast::hash(&data).to_le_bytes());
        s.extend(&data);
    }
    s.extend(b"XBSTCK01\0E\x05\0\0\0t.ibd");
    s
}
fn time(name: &str, len: usize, f: impl FnOnce()) {
    let t = cpu();
    f();
    println!("{name}: {:.2} GB/s of CPU", len as f64 / 1e9 / (cpu() - t));
}
fn new(r: impl Read) {
    let mut reader = Reader::new(r, BackupTool::MariaDb);
    let mut b = Vec::new();
    while reader.next(&mut b).unwrap().is_some() {}
}
fn old(mut r: impl Read) {
    let mut b = Vec::new();
    loop { b.clear(); b.reserve(10<<20); if (&mut r).take(10<<20).read_to_end(&mut b).unwrap()==0 {return} std::hint::black_box(crc32fast::hash(&b)); }
}
fn piece(mut r: impl Read, p: usize) {
    let mut b = vec![0; 10<<20];
    'o: loop { let mut h = crc32fast::Hasher::new(); for c in b.chunks_mut(p) { let mut n = 0; while n < c.len() { let k = r.read(&mut c[n..]).unwrap(); if k == 0 { break 'o } n += k; } h.update(c); } std::hint::black_box(h.finalize()); }
}
#[test]
fn speed() {
    let s = stream(); let l = s.len();
    let f = std::env::temp_dir().join("speed.xbs");
    std::fs::write(&f, &s).unwrap();
    let o = || std::fs::File::open(&f).unwrap();
    for _ in 0..4 {
        time("new mem", l, || new(&s[..])); time("old mem", l, || old(&s[..]));
        time("new file", l, || new(o())); time("old file", l, || old(o()));
        for p in [32<<10, 64<<10, 128<<10, 256<<10, 512<<10, 1<<20] { time(&format!("piece {p} file"), l, || piece(o(), p)); }
        time("crc", l, || { std::hint::black_box(crc32fast::hash(&s)); });
    }
    std::fs::remove_file(f).unwrap();
}
