//! From an entry of a log to the fields of a document. No I/O, no clock, no configuration file.
