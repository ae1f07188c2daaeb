//! The S3 store against a real server: the contract, uploads in parts, and what goes wrong.

use std::fs;
use std::thread;

use chassis::units::Span;
use depot::store::s3::S3Config;
use depot::store::{Body, Store, StoreConfig, StoreError};
use tests::servers::versitygw::VersityGw;

use crate::contract::{self, assert_exists, file_of, noise};

fn open(config: S3Config) -> Store {
    Store::open(&StoreConfig { s3: Some(config), ..StoreConfig::default() }).unwrap()
}

#[test]
fn s3_keeps_the_contract() {
    let server = VersityGw::start().unwrap();
    contract::check_all_of_keeper(&open(server.config()));
}

#[test]
fn depots_with_prefixes_share_a_bucket() {
    let server = VersityGw::start().unwrap();
    let with = |prefix: &str| open(S3Config { prefix: prefix.to_owned(), ..server.config() });
    let (one, two) = (with("sites/one"), with("sites/two"));
    one.create("pack/x", Body::Bytes(b"one")).unwrap();
    two.create("pack/x", Body::Bytes(b"two")).unwrap();
    assert_eq!(one.read("pack/x").unwrap(), b"one");
    assert_eq!(one.list("pack").unwrap().len(), 1);
    assert_eq!(open(server.config()).list("").unwrap(), []);
    assert_eq!(open(server.config()).read("sites/two/pack/x").unwrap(), b"two");
}

#[test]
fn a_large_file_goes_up_in_parts_and_never_over_another() {
    let server = VersityGw::start().unwrap();
    let store = open(server.config());
    let bytes = noise((70 << 20) + 1, 1);
    let file = file_of(&bytes);
    store.create("large", Body::File(file.path())).unwrap();
    assert_eq!(store.stat("large").unwrap().unwrap().size, bytes.len() as u64);
    let tail = store.read_range("large", 64 << 20, 10 << 20).unwrap();
    assert!(tail == bytes[64 << 20..]);
    let head = store.read_range("large", 0, 64 << 20).unwrap();
    assert!(head == bytes[..64 << 20]);
    assert!(store.read("large").is_err(), "it is too large to be read at once");
    assert_exists(store.create("large", Body::File(file.path())));
}

#[test]
fn of_racing_uploads_in_parts_exactly_one_wins() {
    let server = VersityGw::start().unwrap();
    let store = &open(server.config());
    let files: Vec<_> = (0..3).map(|n| file_of(&noise((64 << 20) + 1 + n, n as u64))).collect();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = files
            .iter()
            .map(|file| scope.spawn(|| store.create("race", Body::File(file.path()))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let winners: Vec<usize> = (0..3).filter(|n| outcomes[*n].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    outcomes.into_iter().filter(Result::is_err).for_each(assert_exists);
    let size = store.stat("race").unwrap().unwrap().size;
    assert_eq!(size, (64 << 20) + 1 + winners[0] as u64);
    // The losers left no parts.
    let uploads = server.bucket_path().join(".sgwtmp/multipart");
    let left = fs::read_dir(uploads).map_or(0, |entries| entries.flatten().count());
    assert_eq!(left, 0);
}

#[test]
fn wrong_keys_are_refused_with_a_hint() {
    let server = VersityGw::start().unwrap();
    let store = open(server.config_with_wrong_keys());
    for outcome in [store.create("x", Body::Bytes(b"x")), store.list("").map(drop)] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("credentials-file"));
    }
}

#[test]
fn a_missing_bucket_is_named() {
    let server = VersityGw::start().unwrap();
    let store = open(S3Config { bucket: "not-there".to_owned(), ..server.config() });
    let outcomes = [
        store.create("x", Body::Bytes(b"x")),
        store.list("").map(drop),
        store.stat("x").map(drop),
        store.read("x").map(drop),
    ];
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert_eq!(error.to_string(), "bucket `not-there` does not exist");
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_stopped_server_is_unreachable_until_it_is_back() {
    let mut server = VersityGw::start().unwrap();
    let store = open(S3Config { timeout: Span::from_secs(3), ..server.config() });
    store.create("before", Body::Bytes(b"x")).unwrap();
    server.stop();
    for outcome in [store.create("x", Body::Bytes(b"x")), store.read("before").map(drop)] {
        let error = outcome.unwrap_err();
        assert!(!error.is_permanent(), "{error:?}");
        let chain = format!("{:#}", anyhow::Error::from(error));
        assert!(chain.contains("` in bucket `depot`: ") && chain.contains("refused"), "{chain}");
        assert!(!chain.contains("DispatchFailure"), "{chain}");
    }
    server.start_again().unwrap();
    assert_eq!(store.read("before").unwrap(), b"x");
    store.create("after", Body::Bytes(b"x")).unwrap();
}

#[test]
fn a_server_that_keeps_silent_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = VersityGw::start().unwrap();
    let store = open(S3Config {
        endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
        timeout: Span::from_secs(1),
        ..server.config()
    });
    let error = store.stat("x").unwrap_err();
    assert!(!error.is_permanent(), "{error:?}");
}

#[test]
fn a_store_may_be_used_and_dropped_in_asynchronous_code() {
    let server = VersityGw::start().unwrap();
    let store = open(server.config());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = tokio::task::spawn_blocking(move || {
            store.create("x", Body::Bytes(b"x")).unwrap();
            store
        })
        .await
        .unwrap();
        drop(store);
    });
}
