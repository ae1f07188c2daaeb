//! The `Key: value` pairs in the head of a slow log entry, in any order and on any line.
//!
//! Each server and each of its settings writes others: MySQL 5.7 to 9 with `log_slow_extra`, Percona
//! Server with `log_slow_verbosity=full` and a rate limit, MariaDB 10 and 11 with `engine`.

use crate::document::Document;

use super::scan::{nanos, number};

/// What a value is.
#[derive(Clone, Copy)]
enum Kind {
    /// A whole number.
    Long,
    /// Seconds or milliseconds with a fraction, kept as they are.
    Decimal,
    /// `Yes` or `No`.
    Flag,
    Text,
    /// Written by the caller.
    Own,
}

struct Key {
    /// As the log has it, without regard to case: `QC_Hit` and `QC_hit` are one.
    name: &'static [u8],
    field: &'static str,
    kind: Kind,
}

const fn key(name: &'static str, field: &'static str, kind: Kind) -> Key {
    Key { name: name.as_bytes(), field, kind }
}

pub(super) const QUERY_TIME: usize = 0;
pub(super) const ROWS_SENT: usize = 1;
pub(super) const ROWS_EXAMINED: usize = 2;
pub(super) const THREAD: usize = 3;
pub(super) const SCHEMA: usize = 4;
pub(super) const RATE_LIMIT: usize = 5;
pub(super) const ID: usize = 6;

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key("Query_time", "", Kind::Own),
    key("Rows_sent", "mysql.slowlog.rows_sent", Kind::Long),
    key("Rows_examined", "mysql.slowlog.rows_examined", Kind::Long),
    key("Thread_id", "", Kind::Own),
    key("Schema", "", Kind::Own),
    key("Log_slow_rate_limit", "mysql.slowlog.log_slow_rate_limit", Kind::Long),
    key("Id", "", Kind::Own),
    key("Lock_time", "mysql.slowlog.lock_time.sec", Kind::Decimal),
    key("Rows_affected", "mysql.slowlog.rows_affected", Kind::Long),
    key("Bytes_sent", "mysql.slowlog.bytes_sent", Kind::Long),
    key("Bytes_received", "mysql.slowlog.bytes_received", Kind::Long),
    key("QC_hit", "mysql.slowlog.query_cache_hit", Kind::Flag),
    key("Full_scan", "mysql.slowlog.full_scan", Kind::Flag),
    key("Full_join", "mysql.slowlog.full_join", Kind::Flag),
    key("Tmp_table", "mysql.slowlog.tmp_table", Kind::Flag),
    key("Tmp_table_on_disk", "mysql.slowlog.tmp_table_on_disk", Kind::Flag),
    key("Filesort", "mysql.slowlog.filesort", Kind::Flag),
    key("Filesort_on_disk", "mysql.slowlog.filesort_on_disk", Kind::Flag),
    key("Priority_queue", "mysql.slowlog.priority_queue", Kind::Flag),
    key("Tmp_tables", "mysql.slowlog.tmp_tables", Kind::Long),
    key("Tmp_disk_tables", "mysql.slowlog.tmp_disk_tables", Kind::Long),
    key("Tmp_table_sizes", "mysql.slowlog.tmp_table_sizes", Kind::Long),
    key("Created_tmp_tables", "mysql.slowlog.created_tmp_tables", Kind::Long),
    key("Created_tmp_disk_tables", "mysql.slowlog.created_tmp_disk_tables", Kind::Long),
    key("Merge_passes", "mysql.slowlog.merge_passes", Kind::Long),
    key("Killed", "mysql.slowlog.killed", Kind::Long),
    key("Last_errno", "mysql.slowlog.last_errno", Kind::Long),
    key("Errno", "mysql.slowlog.last_errno", Kind::Long),
    key("Log_slow_rate_type", "mysql.slowlog.log_slow_rate_type", Kind::Text),
    key("Stored_routine", "mysql.slowlog.stored_routine", Kind::Text),
    key("Read_first", "mysql.slowlog.read_first", Kind::Long),
    key("Read_last", "mysql.slowlog.read_last", Kind::Long),
    key("Read_key", "mysql.slowlog.read_key", Kind::Long),
    key("Read_next", "mysql.slowlog.read_next", Kind::Long),
    key("Read_prev", "mysql.slowlog.read_prev", Kind::Long),
    key("Read_rnd", "mysql.slowlog.read_rnd", Kind::Long),
    key("Read_rnd_next", "mysql.slowlog.read_rnd_next", Kind::Long),
    key("Sort_merge_passes", "mysql.slowlog.sort_merge_passes", Kind::Long),
    key("Sort_range_count", "mysql.slowlog.sort_range_count", Kind::Long),
    key("Sort_rows", "mysql.slowlog.sort_rows", Kind::Long),
    key("Sort_scan_count", "mysql.slowlog.sort_scan_count", Kind::Long),
    key("Start", "", Kind::Own),
    key("End", "", Kind::Own),
    key("InnoDB_trx_id", "mysql.slowlog.innodb.trx_id", Kind::Text),
    key("InnoDB_IO_r_ops", "mysql.slowlog.innodb.io_r_ops", Kind::Long),
    key("InnoDB_IO_r_bytes", "mysql.slowlog.innodb.io_r_bytes", Kind::Long),
    key("InnoDB_IO_r_wait", "mysql.slowlog.innodb.io_r_wait.sec", Kind::Decimal),
    key("InnoDB_rec_lock_wait", "mysql.slowlog.innodb.rec_lock_wait.sec", Kind::Decimal),
    key("InnoDB_queue_wait", "mysql.slowlog.innodb.queue_wait.sec", Kind::Decimal),
    key("InnoDB_pages_distinct", "mysql.slowlog.innodb.pages_distinct", Kind::Long),
    key("Pages_accessed", "mysql.slowlog.engine.pages_accessed", Kind::Long),
    key("Pages_read", "mysql.slowlog.engine.pages_read", Kind::Long),
    key("Pages_prefetched", "mysql.slowlog.engine.pages_prefetched", Kind::Long),
    key("Pages_updated", "mysql.slowlog.engine.pages_updated", Kind::Long),
    key("Old_rows_read", "mysql.slowlog.engine.old_rows_read", Kind::Long),
    key("Pages_read_time", "mysql.slowlog.engine.pages_read_time.ms", Kind::Decimal),
    key("Engine_time", "mysql.slowlog.engine.time.ms", Kind::Decimal),
];

/// The values of an entry, each the first that the log has.
pub(super) struct Values<'a> {
    values: [Option<&'a [u8]>; KEYS.len()],
}

impl Default for Values<'_> {
    fn default() -> Self {
        Self { values: [None; KEYS.len()] }
    }
}

impl<'a> Values<'a> {
    /// Takes the pairs of a line. A value is one word or none: `Schema:   QC_hit: No`.
    pub fn read(&mut self, line: &'a [u8]) {
        let mut current = None;
        for word in line.split(|&byte| byte == b' ' || byte == b'\t') {
            if word.is_empty() {
                continue;
            }
            if let Some(name) = word.strip_suffix(b":")
                && let Some(index) = KEYS.iter().position(|key| key.name.eq_ignore_ascii_case(name))
            {
                current = Some(index);
            } else if let Some(index) = current.take() {
                self.values[index].get_or_insert(word);
            }
        }
    }

    /// The value of a key.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.values[index]
    }

    /// A value that is a number.
    pub fn number(&self, index: usize) -> Option<i64> {
        self.get(index).and_then(number)
    }

    /// How long the query took, in nanoseconds.
    pub fn duration(&self) -> Option<i64> {
        self.get(QUERY_TIME).and_then(nanos)
    }

    /// Writes what needs no second look. What is not of its kind is left out.
    pub fn write(&self, to: &mut Document) {
        let mut errno_is_written = false;
        for (key, value) in KEYS.iter().zip(self.values) {
            let Some(value) = value else { continue };
            match key.kind {
                Kind::Long if key.field == "mysql.slowlog.last_errno" => {
                    if let Some(value) = number(value)
                        && !std::mem::replace(&mut errno_is_written, true)
                    {
                        to.long(key.field, value);
                    }
                }
                Kind::Long => {
                    if let Some(value) = number(value) {
                        to.long(key.field, value);
                    }
                }
                Kind::Decimal => {
                    to.decimal(key.field, value);
                }
                Kind::Flag => to.flag(key.field, value.eq_ignore_ascii_case(b"yes")),
                Kind::Text => to.text(key.field, value),
                Kind::Own => {}
            }
        }
    }
}
