//! nginx's access log, of any `log_format`: the format is compiled once to the variables and the
//! literals between them; a line is then read from literal to literal.
//!
//! Source: `ngx_http_log_module.c` of nginx 1.22 to 1.29 (the format `combined` and both escapes).

mod fields;
mod line;

use std::collections::BTreeSet;

pub(super) use fields::Field;

/// How nginx escapes the values of variables: the parameter `escape` of `log_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `\xHH` for quotes, backslashes, control characters and all that is not ASCII; `-` for no value.
    #[default]
    Default,
    /// As in JSON strings.
    Json,
    /// Not at all.
    None,
}

/// A format has this many bytes at most.
pub const FORMAT_BYTES_MAX: usize = 16 * 1024;

/// Why a `log_format` cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatProblem {
    /// Nothing tells where the first ends and the second begins.
    #[error("nothing is between `${0}` and `${1}`, so their values cannot be told apart")]
    Adjacent(String, String),
    /// A format of literals only.
    #[error("it holds no variable")]
    NoVariable,
    /// Longer than any that is written by people.
    #[error("it is longer than {FORMAT_BYTES_MAX} bytes")]
    TooLong,
}

/// A compiled `log_format`.
#[derive(Clone, Debug)]
pub struct AccessFormat {
    leading: Box<[u8]>,
    pieces: Vec<Piece>,
    escape: Escape,
    /// Of a host whose configuration was not found: a host before the line and a tail after it are taken.
    is_guess: bool,
    /// Variables that this program has no field for; they become `nginx.access.variable.<name>`.
    pub unknown: Vec<String>,
}

#[derive(Clone, Debug)]
struct Piece {
    field: Field,
    /// What follows the value.
    literal: Box<[u8]>,
}

impl AccessFormat {
    /// nginx's own, with what is often put before and behind it.
    pub fn combined() -> Self {
        let text = "$remote_addr - $remote_user [$time_local] \"$request\" $status \
                    $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";
        let format = Self::compile(text, Escape::Default).expect("a test compiles it");
        Self { is_guess: true, ..format }
    }

    /// Compiles the text of a `log_format`, its parts already joined.
    pub fn compile(text: &str, escape: Escape) -> Result<Self, FormatProblem> {
        if text.len() > FORMAT_BYTES_MAX {
            return Err(FormatProblem::TooLong);
        }
        let (leading, parts) = split(text);
        let Some(((last, _), before)) = parts.split_last() else {
            return Err(FormatProblem::NoVariable);
        };
        if let Some(index) = before
            .iter()
            .position(|(name, literal)| literal.is_empty() && !Field::of(name).is_told_from_next())
        {
            let next = parts.get(index + 1).map_or(*last, |part| part.0);
            return Err(FormatProblem::Adjacent(parts[index].0.to_owned(), next.to_owned()));
        }
        let unknown: BTreeSet<&str> = parts
            .iter()
            .filter_map(|(name, _)| matches!(Field::of(name), Field::Other(_)).then_some(*name))
            .collect();
        let mut fields: Vec<Field> = parts.iter().map(|(name, _)| Field::of(name)).collect();
        fields::keep_one_of_each(&mut fields);
        let pieces = fields
            .into_iter()
            .zip(&parts)
            .map(|(field, (_, literal))| Piece { field, literal: literal.as_bytes().into() })
            .collect();
        let unknown = unknown.into_iter().map(str::to_owned).collect();
        Ok(Self { leading: leading.as_bytes().into(), pieces, escape, is_guess: false, unknown })
    }
}

/// The literal before the first variable, and each variable with the literal behind it.
fn split(text: &str) -> (&str, Vec<(&str, &str)>) {
    let mut parts = Vec::new();
    let first = text.find('$').unwrap_or(text.len());
    let mut rest = &text[first..];
    while let Some(variable) = rest.strip_prefix('$') {
        let braced = variable.strip_prefix('{').and_then(|name| name.split_once('}'));
        let (name, behind) = braced.unwrap_or_else(|| {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let end = variable.bytes().position(|b| !is_name(b)).unwrap_or(variable.len());
            variable.split_at(end)
        });
        let (literal, next) = behind.split_at(behind.find('$').unwrap_or(behind.len()));
        parts.push((name, literal));
        rest = next;
    }
    (&text[..first], parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_split_at_its_variables() {
        assert_eq!(split("a $b-${c}d $e"), ("a ", vec![("b", "-"), ("c", "d "), ("e", "")]));
        assert_eq!(split("no variable"), ("no variable", vec![]));
        assert_eq!(split("${open"), ("", vec![("", "{open")]));
    }

    #[test]
    fn a_format_that_cannot_be_read_back_is_refused() {
        let problem = |text: &str| AccessFormat::compile(text, Escape::Default).unwrap_err();
        assert_eq!(
            problem("$http_a$http_b"),
            FormatProblem::Adjacent("http_a".to_owned(), "http_b".to_owned())
        );
        assert_eq!(problem("x"), FormatProblem::NoVariable);
        assert_eq!(problem(&"x".repeat(FORMAT_BYTES_MAX + 1)), FormatProblem::TooLong);
        assert!(AccessFormat::compile("$status$request_method", Escape::Default).is_ok());
    }

    #[test]
    fn variables_without_a_field_are_named() {
        let format = AccessFormat::compile("$geoip_city $status $foo", Escape::Default).unwrap();
        assert_eq!(format.unknown, ["foo", "geoip_city"]);
    }
}
