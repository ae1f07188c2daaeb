//! The key pair for S3, from a private file or the environment. It never prints itself.

use std::path::Path;

use aws_sdk_s3::config::Credentials;
use chassis::config::read_secret;

use super::StoreError;

const KEYS: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];

/// From the file if there is one, else from `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
/// `AWS_SESSION_TOKEN`.
pub(super) fn load(file: Option<&Path>) -> Result<Credentials, StoreError> {
    let [id, secret, token] = match file {
        Some(path) => {
            let text = read_secret(path).map_err(|error| StoreError::from_config(&error))?;
            KEYS.map(|key| find(text.expose(), key))
        }
        None => KEYS.map(from_environment),
    };
    let (Some(id), Some(secret)) = (id, secret) else {
        return Err(StoreError::setup(
            match file {
                Some(path) => format!("no key pair for S3 in {}", path.display()),
                None => "no credentials-file for S3, nor a key pair in the environment".to_owned(),
            },
            format!("set {} and {} there", KEYS[0], KEYS[1]),
        ));
    };
    Ok(Credentials::new(id, secret, token, None, "holdfast"))
}

#[expect(clippy::disallowed_methods, reason = "every S3 tool takes its keys from there")]
fn from_environment(key: &str) -> Option<String> {
    std::env::var(key.to_ascii_uppercase()).ok()
}

/// The first `key = value` of a TOML or INI text; quotes are taken off, sections and comments
/// passed over.
fn find(text: &str, key: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(found, _)| found.trim().eq_ignore_ascii_case(key))
        .map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned())
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_of_file_are_read() {
        fn check(text: &str) {
            assert_eq!(find(text, KEYS[0]).as_deref(), Some("AK"), "{text}");
            assert_eq!(find(text, KEYS[1]).as_deref(), Some("s=/+"), "{text}");
            assert_eq!(find(text, KEYS[2]), None, "{text}");
        }
        check("aws_access_key_id = \"AK\"\naws_secret_access_key = 's=/+'\n");
        check("# mine\n[default]\naws_access_key_id=AK\naws_secret_access_key=s=/+\n");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "aws_access_key_id=AK\n").unwrap();
        let error = load(Some(file.path())).unwrap_err();
        assert!(error.to_string().contains("no key pair"), "{error}");
        let shared = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(file.path(), shared).unwrap();
        let error = load(Some(file.path())).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("chmod 600")), "{error}");
    }
}
