//! Names of databases, tables and partitions as the names of their files, and back.
//!
//! Letters, digits and `_` stand for themselves; some letters of Latin, Greek, Cyrillic and
//! Armenian become `@` and two characters, everything else `@` and four hexadecimal digits. The
//! table of the two-character codes was taken from a MariaDB 10.11 (`CONVERT(… USING filename)` of
//! every character), and a test compares it with the server again. The encoding is the same in
//! MySQL since 5.1.

mod codes;

use std::fmt::Write;

use self::codes::SHORT_CODES;

/// The prefix of a name that is to be taken as it is (databases from before MySQL 5.1).
const RAW_PREFIX: &str = "#mysql50#";

/// Names of devices on Windows; as a table they get `@@@` appended, on all systems.
const DEVICES: &[&str] = &[
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
    "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9", "clock$",
];

/// The name of the file (without extension) or directory of a table, database or partition.
///
/// Characters beyond U+FFFF cannot be in the name of a table; they give `None`, as does a raw name
/// that is a path.
pub fn tablename_to_filename(name: &str) -> Option<String> {
    if let Some(raw) = name.strip_prefix(RAW_PREFIX) {
        return (!raw.contains(['/', '\0']) && raw != "..").then(|| raw.to_owned());
    }
    let mut encoded = String::with_capacity(name.len());
    for character in name.chars() {
        if character.is_ascii_alphanumeric() || character == '_' {
            encoded.push(character);
            continue;
        }
        let code = u16::try_from(u32::from(character)).ok()?;
        encoded.push('@');
        match short_code(code) {
            Some(pair) => encoded.push_str(pair),
            None => write!(encoded, "{code:04x}").expect("a string takes everything"),
        }
    }
    if DEVICES.contains(&name.to_ascii_lowercase().as_str()) {
        encoded.push_str("@@@");
    }
    Some(encoded)
}

/// The name of the table, database or partition of a file or directory name without extension.
///
/// A name that is not encoded comes back with the prefix `#mysql50#`, as the server shows it.
pub fn filename_to_tablename(filename: &str) -> String {
    decode(filename).unwrap_or_else(|| format!("{RAW_PREFIX}{filename}"))
}

fn decode(filename: &str) -> Option<String> {
    let mut name = String::with_capacity(filename.len());
    let mut rest = filename.strip_suffix("@@@").unwrap_or(filename);
    while let Some(character) = rest.chars().next() {
        if character != '@' {
            if !character.is_ascii_alphanumeric() && character != '_' {
                return None;
            }
            name.push(character);
            rest = &rest[1..];
        } else if let Some(code) = rest.get(1..3).and_then(code_of) {
            name.push(char::from_u32(code)?);
            rest = &rest[3..];
        } else {
            let digits =
                rest.get(1..5).filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()))?;
            name.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
            rest = &rest[5..];
        }
    }
    Some(name)
}

fn short_code(code: u16) -> Option<&'static str> {
    SHORT_CODES.iter().find_map(|(first, pairs)| {
        let index = usize::from(code.checked_sub(*first)?) * 2;
        pairs.get(index..index + 2)
    })
}

fn code_of(pair: &str) -> Option<u32> {
    SHORT_CODES.iter().find_map(|(first, pairs)| {
        let index = pairs.as_bytes().chunks_exact(2).position(|known| known == pair.as_bytes())?;
        Some(u32::from(*first) + index as u32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_filenames_and_come_back() {
        let check = |name: &str, filename: &str| {
            assert_eq!(tablename_to_filename(name).as_deref(), Some(filename));
            assert_eq!(filename_to_tablename(filename), name);
        };
        check("wp_posts", "wp_posts");
        check("odd-db 1", "odd@002ddb@00201");
        check("a.b/c ü€#x$y", "a@002eb@002fc@0020@1o@20ac@0023x@0024y");
        check("Ü", "@1O");
        check("CON", "CON@@@");
        check("@", "@0040");
        check("表", "@8868");
    }

    #[test]
    fn every_character_comes_back() {
        for code in (1..=0xffff_u32).filter_map(char::from_u32) {
            let name = code.to_string();
            let filename = tablename_to_filename(&name).expect("is in the basic plane");
            assert_eq!(filename_to_tablename(&filename), name, "{filename}");
        }
        assert_eq!(tablename_to_filename("😀"), None);
    }

    #[test]
    fn names_that_are_not_encoded_are_marked() {
        for filename in ["old-name", "@zz", "@12", "@", "ü", "@é", "@d800", "#sql-1"] {
            let name = filename_to_tablename(filename);
            assert_eq!(name, format!("#mysql50#{filename}"));
            assert_eq!(tablename_to_filename(&name).as_deref(), Some(filename));
        }
    }
}
