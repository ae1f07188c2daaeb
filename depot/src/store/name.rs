//! Which names an object or folder may have, whether a caller or a listing says so.
//!
//! A name that passes means the same on every store and cannot lead out of the depot.

use super::StoreError;

/// No name is longer, in bytes: the limit of S3.
pub const NAME_BYTES_MAX: usize = 1024;

/// No segment is longer, in bytes: file systems take 255.
pub const SEGMENT_BYTES_MAX: usize = 250;

/// Refuses a name that no object can have: not a relative path of segments of `[A-Za-z0-9._-]`, a
/// segment that is empty, begins with a dot or is longer than 250 bytes, or more than 1024 bytes in
/// all.
pub fn check_name(name: &str) -> Result<(), StoreError> {
    if is_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(100).collect();
    Err(StoreError::other(format!("{shown:?} is not the name of an object")))
}

/// As [`check_name`], but `""` is the depot itself.
pub(super) fn check_folder(folder: &str) -> Result<(), StoreError> {
    if folder.is_empty() { Ok(()) } else { check_name(folder) }
}

pub(super) fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && name.split('/').all(is_segment)
}

/// Whether a listing's entry can be an object: a leading dot hides it (so `.` and `..` are none).
pub(super) fn is_segment(segment: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !segment.is_empty()
        && segment.len() <= SEGMENT_BYTES_MAX
        && !segment.starts_with('.')
        && segment.bytes().all(is_plain)
}

/// The name of an entry of a folder.
pub(super) fn join(folder: &str, entry: &str) -> String {
    if folder.is_empty() { entry.to_owned() } else { format!("{folder}/{entry}") }
}

/// The folder that a name is in; `""` is the depot itself.
pub(super) fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_astray_are_refused() {
        fn check(name: &str, expected: bool) {
            assert_eq!(check_name(name).is_ok(), expected, "{name:?}");
        }
        check("depot.toml", true);
        check("log/a--b--0-1-2..0-1-9--20261123T120000Z.age", true);
        check("pack/ab/0123", true);
        check("", false);
        check(".", false);
        check("..", false);
        check("pack/../depot.toml", false);
        check("/etc/passwd", false);
        check("pack//x", false);
        check("pack/", false);
        check("pack/.hidden", false);
        check("a\0b", false);
        check("a\nb", false);
        check("a b", false);
        check("a\\b", false);
        check("é", false);
        check(&"x".repeat(251), false);
        check(&["x"; 600].join("/"), false);
    }
}
