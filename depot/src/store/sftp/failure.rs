//! What libssh2's and an SFTP server's errors mean here.
//!
//! The numbers are those of `libssh2.h` and `libssh2_sftp.h`, which the `ssh2` crate takes but does
//! not name.

use ssh2::{Error, ErrorCode};

use super::StoreError;
use super::connection::Connection;

const FX_EOF: i32 = 1;
const FX_NO_SUCH_FILE: i32 = 2;
const FX_PERMISSION_DENIED: i32 = 3;
const FX_FAILURE: i32 = 4;
const FX_NO_CONNECTION: i32 = 6;
const FX_CONNECTION_LOST: i32 = 7;
const FX_OP_UNSUPPORTED: i32 = 8;
const FX_NO_SUCH_PATH: i32 = 10;
const FX_FILE_ALREADY_EXISTS: i32 = 11;
const FX_WRITE_PROTECT: i32 = 12;
const FX_NO_SPACE_ON_FILESYSTEM: i32 = 14;
const FX_QUOTA_EXCEEDED: i32 = 15;

const ERROR_KEX_FAILURE: i32 = -5;
const ERROR_KEY_EXCHANGE_FAILURE: i32 = -8;
const ERROR_FILE: i32 = -16;
const ERROR_METHOD_NONE: i32 = -17;
const ERROR_AUTHENTICATION_FAILED: i32 = -18;
/// For errors of our own in logging in.
pub(super) const AUTHENTICATION_FAILED: ErrorCode = ErrorCode::Session(ERROR_AUTHENTICATION_FAILED);
const ERROR_PUBLICKEY_UNVERIFIED: i32 = -19;
const ERROR_KEYFILE_AUTH_FAILED: i32 = -48;

pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error.code(), ErrorCode::SFTP(FX_NO_SUCH_FILE | FX_NO_SUCH_PATH))
}

/// "Failure": OpenSSH's answer to a name that is taken, a full disk, and all else that has no code
/// of its own.
pub(super) fn is_unspecific(error: &Error) -> bool {
    error.code() == ErrorCode::SFTP(FX_FAILURE)
}

/// How the crate tells that all entries of a folder were read.
pub(super) fn is_end_of_listing(error: &Error) -> bool {
    matches!(error.code(), ErrorCode::Session(ERROR_FILE) | ErrorCode::SFTP(FX_EOF))
}

/// The two sides found no algorithms in common, or the line was cut while they looked.
pub(super) fn is_key_exchange(error: &Error) -> bool {
    let codes = [ERROR_KEX_FAILURE, ERROR_KEY_EXCHANGE_FAILURE, ERROR_METHOD_NONE];
    codes.iter().any(|code| error.code() == ErrorCode::Session(*code))
}

/// The server, or our own key file, said no to this way to log in.
pub(super) fn is_login_refused(error: &Error) -> bool {
    let codes = [
        ERROR_AUTHENTICATION_FAILED,
        ERROR_PUBLICKEY_UNVERIFIED,
        ERROR_KEYFILE_AUTH_FAILED,
        ERROR_FILE,
        ERROR_METHOD_NONE,
    ];
    codes.iter().any(|code| error.code() == ErrorCode::Session(*code))
}

pub(super) fn failure(step: &str, name: &str, error: Error) -> StoreError {
    let what = format!("{step} `{name}`");
    match error.code() {
        ErrorCode::SFTP(code) => match code {
            FX_NO_SUCH_FILE | FX_NO_SUCH_PATH => StoreError::missing(name),
            FX_FILE_ALREADY_EXISTS => StoreError::exists(name),
            FX_NO_SPACE_ON_FILESYSTEM | FX_QUOTA_EXCEEDED => StoreError::full(name),
            FX_PERMISSION_DENIED | FX_WRITE_PROTECT => StoreError::denied(what),
            FX_NO_CONNECTION | FX_CONNECTION_LOST => StoreError::unreachable(what, error),
            _ => StoreError::caused(what, error),
        },
        // The state of the connection is unknown: it is made again.
        ErrorCode::Session(_) => StoreError::unreachable(what, error),
    }
}

/// A server that cannot flush is refused: an object would only seem to be safe.
pub(super) fn not_flushed(connection: &Connection, name: &str, error: Error) -> StoreError {
    if error.code() == ErrorCode::SFTP(FX_OP_UNSUPPORTED) {
        return StoreError::setup(
            format!("flush `{name}`: the server does not know fsync@openssh.com"),
            "use OpenSSH 6.5 or newer on the server, or a server that knows this extension",
        );
    }
    connection.failure("flush", name, error)
}
