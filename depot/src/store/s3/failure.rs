//! What an S3 service's answers mean here.
//!
//! Services agree on the status and mostly on the code; the code is looked at first.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::StoreError;

/// What was being done, for messages.
pub(super) struct Operation<'a> {
    pub verb: &'static str,
    /// An object or folder; empty for the depot itself.
    pub name: &'a str,
    pub bucket: &'a str,
}

impl Operation<'_> {
    pub fn what(&self) -> String {
        match self.name {
            "" => format!("{} bucket `{}`", self.verb, self.bucket),
            name => format!("{} `{name}` in bucket `{}`", self.verb, self.bucket),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    NoBucket,
    Missing,
    Exists,
    /// Somebody else is writing the same name at this moment; `create` looks whether he succeeded.
    Conflict,
    Full,
    WrongKeys,
    WrongClock,
    WrongRegion,
    Denied,
    Unavailable,
    NotImplemented,
    Unknown,
}

fn meaning(status: u16, code: &str) -> Meaning {
    match (status, code) {
        (_, "NoSuchBucket") => Meaning::NoBucket,
        (_, "QuotaExceeded" | "NoSpaceLeftOnDevice" | "XMinioStorageFull") | (507, _) => {
            Meaning::Full
        }
        (
            _,
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "InvalidSecurity",
        )
        | (401, _) => Meaning::WrongKeys,
        (_, "RequestTimeTooSkewed") => Meaning::WrongClock,
        (_, "AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect")
        | (301 | 307, _) => Meaning::WrongRegion,
        (_, "NotImplemented") | (501, _) => Meaning::NotImplemented,
        (404, _) => Meaning::Missing,
        (409, _) => Meaning::Conflict,
        (412, _) => Meaning::Exists,
        (403, _) => Meaning::Denied,
        (_, "RequestTimeout") | (408 | 429 | 500..=599, _) => Meaning::Unavailable,
        _ => Meaning::Unknown,
    }
}

/// Maps an error of the SDK. It is generic because each operation of the SDK has an error type of
/// its own.
pub(super) fn failure<E>(operation: &Operation<'_>, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    match &error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let code = service.err().code().unwrap_or_default();
            answered(operation, status, code, service.err().message())
        }
        SdkError::ConstructionFailure(_) => StoreError::caused(operation.what(), chain(&error)),
        // No connection, no answer in time, or one that is no answer.
        _ => StoreError::unreachable(operation.what(), chain(&error)),
    }
}

/// The SDK's errors name a cause only when it is asked for.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn answered(
    operation: &Operation<'_>,
    status: u16,
    code: &str,
    message: Option<&str>,
) -> StoreError {
    let Operation { name, bucket, .. } = *operation;
    let what = operation.what();
    let said = format!("{status} {code} {}", message.unwrap_or_default());
    let said = said.trim().to_owned();
    match meaning(status, code) {
        Meaning::NoBucket => no_bucket(bucket),
        Meaning::Missing if name.is_empty() => no_bucket(bucket),
        Meaning::Missing => StoreError::missing(name),
        Meaning::Exists | Meaning::Conflict => StoreError::exists(name),
        Meaning::Full => StoreError::full(name),
        Meaning::WrongKeys => StoreError::refused(
            format!("{what}: the service refused our keys: {said}"),
            "check the key pair in credentials-file (or in the environment), and the endpoint",
        ),
        Meaning::WrongClock => StoreError::refused(
            format!("{what}: {said}"),
            "set this host's clock: S3 refuses requests that are minutes off",
        ),
        Meaning::WrongRegion => StoreError::setup(
            format!("{what}: {said}"),
            "set `region` (and `endpoint`) to those of the bucket",
        ),
        Meaning::NotImplemented => StoreError::setup(
            format!("{what}: {said}"),
            "the service must know conditional writes (If-None-Match) and checksums",
        ),
        Meaning::Denied => StoreError::denied(format!("{what}: {said}")),
        Meaning::Unavailable => StoreError::unreachable(what, said),
        Meaning::Unknown => StoreError::caused(what, said),
    }
}

fn no_bucket(bucket: &str) -> StoreError {
    StoreError::setup(
        format!("bucket `{bucket}` does not exist"),
        "create the bucket, or check `bucket`, `endpoint`, `region` and `path-style`",
    )
}

pub(super) fn timed_out(operation: &Operation<'_>, deadline: Duration) -> StoreError {
    let seconds = deadline.as_secs();
    StoreError::unreachable(operation.what(), format!("no answer within {seconds} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_looked_at_before_the_status() {
        fn check(status: u16, code: &str, expected: Meaning) {
            assert_eq!(meaning(status, code), expected, "{status} {code}");
        }
        check(404, "NoSuchBucket", Meaning::NoBucket);
        check(404, "NoSuchKey", Meaning::Missing);
        check(404, "", Meaning::Missing);
        check(412, "PreconditionFailed", Meaning::Exists);
        check(409, "ConditionalRequestConflict", Meaning::Conflict);
        check(403, "SignatureDoesNotMatch", Meaning::WrongKeys);
        check(403, "AccessDenied", Meaning::Denied);
        check(403, "RequestTimeTooSkewed", Meaning::WrongClock);
        check(400, "RequestTimeout", Meaning::Unavailable);
        check(503, "SlowDown", Meaning::Unavailable);
        check(500, "InternalError", Meaning::Unavailable);
        check(500, "NoSpaceLeftOnDevice", Meaning::Full);
        check(507, "", Meaning::Full);
        check(400, "BadDigest", Meaning::Unknown);
    }
}
