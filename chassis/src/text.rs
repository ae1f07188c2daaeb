//! Texts of others on their way to a terminal or a log.
//!
//! A file name may hold any byte but `/` and zero. Printed as it is, a newline in it forges a line of the log, and an
//! escape sequence moves the cursor of whoever looks.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with control characters, line ends and marks of direction written as escapes such as `\n` and `\u{1b}`; all
/// else stays, letters of any language too.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unfit) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unfit(c) {
            write!(shown, "{}", c.escape_default()).expect("a string takes any text");
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

fn is_unfit(c: char) -> bool {
    let is_directing = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || is_directing || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_the_cursor_or_ends_a_line_gets_through() {
        fn check(text: &str, expected: &str) {
            assert_eq!(escaped(text), expected);
        }
        check("wp-content/Größe 1.jpg", "wp-content/Größe 1.jpg");
        check("a\nerror: all is lost", "a\\nerror: all is lost");
        check("\x1b[2J\r\t\x07", "\\u{1b}[2J\\r\\t\\u{7}");
        check("\u{9b}2J \u{202e}gpj.exe", "\\u{9b}2J \\u{202e}gpj.exe");
        check("", "");
    }
}
