//! A store in a bucket of an S3 service.
//!
//! Creation is one conditional request (`If-None-Match: *`) with a SHA-256 checksum that the
//! service verifies, or a multipart upload whose completion is conditional. A service that ignores
//! the condition would overwrite: `depot init` must see its second creation of `depot.toml` refused
//! before it accepts the service.
//!
//! The SDK does not retry here; the caller does. Each request has a deadline that grows with its
//! size. At most
//! `connections` requests run at once, each with one body in memory.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Config, Region, StalledStreamProtectionConfig};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use chassis::units::Span;
use serde::Deserialize;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::limit::UploadLimit;
use super::name::{is_segment, join};
use super::{LISTING_OBJECTS_MAX, OBJECT_BYTES_MAX, ObjectInfo, StoreError};
use failure::{Operation, failure, timed_out};

mod credentials;
mod failure;
mod upload;

/// A transfer slower than this, in bytes a second, is given up.
const TRANSFER_RATE_MIN: u64 = 64 << 10;

/// `[depots.NAME.s3]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct S3Config {
    /// URL of the service, such as "https://s3.example.org"; Amazon's own for the region without
    /// it.
    pub endpoint: Option<String>,
    /// The bucket; it must exist.
    pub bucket: String,
    /// A folder in the bucket for this depot; the bucket itself without it.
    #[serde(default)]
    pub prefix: String,
    /// The region that requests are signed for.
    #[serde(default = "default_region")]
    pub region: String,
    /// Address the bucket by path (`https://host/bucket`), not by host name: most services but
    /// Amazon's want it.
    #[serde(default)]
    pub path_style: bool,
    /// A private file with `aws_access_key_id`, `aws_secret_access_key` and perhaps
    /// `aws_session_token`, as TOML or as the AWS tools write it. Without it the environment
    /// variables of the same names in capitals are used.
    pub credentials_file: Option<PathBuf>,
    /// Deadline of a request, to which its bytes add a second for each 64 KiB.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// Requests at once.
    #[serde(default = "default_connections")]
    pub connections: usize,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

fn default_timeout() -> Span {
    Span::from_secs(30)
}

fn default_connections() -> usize {
    4
}

/// Objects in a bucket.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    timeout: Duration,
    limit: UploadLimit,
    permits: Semaphore,
    /// The bucket answered once: a missing object is not a missing bucket.
    bucket_seen: AtomicBool,
    /// Taken only on drop.
    runtime: Option<Runtime>,
}

impl S3Store {
    pub(super) fn open(config: &S3Config, limit: UploadLimit) -> Result<Self, StoreError> {
        let prefix = config.prefix.trim_matches('/');
        super::check_folder(prefix)?;
        super::check_timeout(config.timeout.0)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("s3")
            .enable_all()
            .build()
            .map_err(|error| StoreError::caused("start a runtime for S3", error))?;
        Ok(Self {
            client: Client::from_conf(client_config(config)?),
            bucket: config.bucket.clone(),
            prefix: join(prefix, ""),
            timeout: config.timeout.0,
            limit,
            permits: Semaphore::new(config.connections.max(1)),
            bucket_seen: AtomicBool::new(false),
            runtime: Some(runtime),
        })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn operation<'a>(&'a self, verb: &'static str, name: &'a str) -> Operation<'a> {
        Operation { verb, name, bucket: &self.bucket }
    }

    /// Runs one request, within its deadline. `bytes` is the larger of what is sent and what is
    /// expected.
    fn run<T>(
        &self,
        operation: &Operation<'_>,
        bytes: u64,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let deadline = self.timeout + Duration::from_secs(bytes / TRANSFER_RATE_MIN);
        let runtime = self.runtime.as_ref().expect("it is taken only on drop");
        let outcome = runtime.block_on(async {
            let _permit = self.permits.acquire().await.expect("it is never closed");
            let timed = tokio::time::timeout(deadline, request).await;
            timed.unwrap_or_else(|_| Err(timed_out(operation, deadline)))
        });
        if outcome.is_ok() {
            self.bucket_seen.store(true, Ordering::Relaxed);
        }
        outcome
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let operation = self.operation("read", name);
        self.run(&operation, OBJECT_BYTES_MAX, async {
            let request = self.client.get_object().bucket(&self.bucket).key(self.key(name));
            let object = request.send().await.map_err(|error| failure(&operation, error))?;
            collect(&operation, object, OBJECT_BYTES_MAX).await
        })
    }

    pub(super) fn read_range(
        &self,
        name: &str,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StoreError> {
        // Nothing to ask for, or beyond what servers understand: then they would send the whole
        // object.
        if length == 0 || i64::try_from(offset).is_err() {
            return match self.stat(name)? {
                Some(_) => Ok(Vec::new()),
                None => Err(StoreError::missing(name)),
            };
        }
        let operation = self.operation("read", name);
        let last = offset.saturating_add(length as u64 - 1);
        self.run(&operation, length as u64, async {
            let request = self.client.get_object().bucket(&self.bucket).key(self.key(name));
            match request.range(format!("bytes={offset}-{last}")).send().await {
                Ok(object) => {
                    check_range(&operation, &object, offset)?;
                    collect(&operation, object, length as u64).await
                }
                Err(error) if is_past_the_end(&error) => Ok(Vec::new()),
                Err(error) => Err(failure(&operation, error)),
            }
        })
    }

    pub(super) fn stat(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        let operation = self.operation("inspect", name);
        let found = self.run(&operation, 0, async {
            let request = self.client.head_object().bucket(&self.bucket).key(self.key(name));
            let head = request.send().await.map_err(|error| failure(&operation, error))?;
            let size = head.content_length().and_then(|size| u64::try_from(size).ok());
            let arrived = arrival(head.last_modified());
            Ok(ObjectInfo { name: name.to_owned(), size: size.unwrap_or(0), arrived })
        });
        match found {
            Ok(info) => Ok(Some(info)),
            Err(StoreError::Missing { .. }) => self.check_bucket().map(|()| None),
            Err(error) => Err(error),
        }
    }

    /// The answer to HEAD has no body: 404 may mean the object or the bucket.
    fn check_bucket(&self) -> Result<(), StoreError> {
        if self.bucket_seen.load(Ordering::Relaxed) {
            return Ok(());
        }
        let operation = self.operation("reach", "");
        self.run(&operation, 0, async {
            let request = self.client.head_bucket().bucket(&self.bucket);
            request.send().await.map_err(|error| failure(&operation, error))
        })
        .map(drop)
    }

    pub(super) fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut objects = Vec::new();
        let mut next = None;
        loop {
            next = self.list_page(folder, next, &mut objects)?;
            if next.is_none() {
                return Ok(objects);
            }
            if objects.len() >= LISTING_OBJECTS_MAX {
                return Err(StoreError::other(format!("too many objects in `{folder}`")));
            }
        }
    }

    /// Appends one page, and returns where the next one begins.
    fn list_page(
        &self,
        folder: &str,
        token: Option<String>,
        objects: &mut Vec<ObjectInfo>,
    ) -> Result<Option<String>, StoreError> {
        let operation = self.operation("list", folder);
        let prefix = if folder.is_empty() { self.prefix.clone() } else { self.key(folder) + "/" };
        let page = self.run(&operation, 0, async {
            let request = self.client.list_objects_v2().bucket(&self.bucket).delimiter("/");
            let request = request.prefix(&prefix).set_continuation_token(token.clone());
            request.send().await.map_err(|error| failure(&operation, error))
        })?;
        for object in page.contents() {
            let segment = object.key().and_then(|key| key.strip_prefix(&prefix));
            let Some(segment) = segment.filter(|segment| is_segment(segment)) else { continue };
            objects.push(ObjectInfo {
                name: join(folder, segment),
                size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                arrived: arrival(object.last_modified()),
            });
        }
        let is_truncated = page.is_truncated == Some(true);
        let next = page.next_continuation_token.filter(|_| is_truncated);
        if is_truncated && next.is_none() {
            return Err(StoreError::other(format!("list `{folder}`: the service ends too early")));
        }
        if next.is_some() && next == token {
            return Err(StoreError::other(format!("list `{folder}`: the service repeats a page")));
        }
        Ok(next)
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), StoreError> {
        // S3 calls the deletion of nothing a success.
        if self.stat(name)?.is_none() {
            return Err(StoreError::missing(name));
        }
        let operation = self.operation("delete", name);
        self.run(&operation, 0, async {
            let request = self.client.delete_object().bucket(&self.bucket).key(self.key(name));
            request.send().await.map_err(|error| failure(&operation, error))
        })
        .map(drop)
    }
}

impl Drop for S3Store {
    fn drop(&mut self) {
        // Waiting for the runtime would panic in asynchronous code. No request runs any more: each
        // borrows the store.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn client_config(config: &S3Config) -> Result<Config, StoreError> {
    let timeouts = TimeoutConfig::builder().connect_timeout(config.timeout.0).build();
    let stalled = StalledStreamProtectionConfig::enabled().grace_period(config.timeout.0).build();
    let mut builder = Config::builder();
    builder.set_endpoint_url(config.endpoint.clone());
    Ok(builder
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .force_path_style(config.path_style)
        .credentials_provider(credentials::load(config.credentials_file.as_deref())?)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(stalled)
        .build())
}

fn arrival(time: Option<&DateTime>) -> SystemTime {
    // Unknown counts as new: what looks old may be deleted.
    time.and_then(|time| SystemTime::try_from(*time).ok()).unwrap_or_else(SystemTime::now)
}

fn is_past_the_end<E>(
    error: &aws_sdk_s3::error::SdkError<E, aws_sdk_s3::config::http::HttpResponse>,
) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 416)
}

/// A service that ignores the range sends the whole object.
fn check_range(
    operation: &Operation<'_>,
    object: &GetObjectOutput,
    offset: u64,
) -> Result<(), StoreError> {
    let range = object.content_range().unwrap_or("no range");
    if range.starts_with(&format!("bytes {offset}-")) {
        return Ok(());
    }
    let what = operation.what();
    Err(StoreError::other(format!("{what}: asked for bytes from {offset}, got {range}")))
}

/// Reads a body, never more than `length_max` bytes whatever the service says its length is.
async fn collect(
    operation: &Operation<'_>,
    object: GetObjectOutput,
    length_max: u64,
) -> Result<Vec<u8>, StoreError> {
    let too_large = |length: u64| {
        let what = operation.what();
        StoreError::other(format!("{what}: {length} bytes are more than the {length_max} allowed"))
    };
    let length = object.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
    if length > length_max {
        return Err(too_large(length));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    let mut body = object.body;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| StoreError::unreachable(operation.what(), error))?;
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > length_max {
            return Err(too_large(bytes.len() as u64));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<S3Store, StoreError> {
        let config = chassis::config::parse(text, text).unwrap();
        S3Store::open(&config, UploadLimit::default())
    }

    #[test]
    fn a_prefix_is_a_folder_of_the_bucket() {
        let keys = tempfile::NamedTempFile::new().unwrap();
        let text = "aws_access_key_id = \"a\"\naws_secret_access_key = \"b\"\n";
        std::fs::write(keys.path(), text).unwrap();
        let check = |prefix: &str, expected: &str| {
            let keys = keys.path().display();
            let text = format!("bucket = 'b'\nprefix = '{prefix}'\ncredentials-file = '{keys}'");
            assert_eq!(open(&text).unwrap().key("depot.toml"), expected);
        };
        check("", "depot.toml");
        check("site", "site/depot.toml");
        check("/a/b/", "a/b/depot.toml");
    }
}
