//! What a dashboard is made of, as data.

/// Which data streams a panel looks at; each is one index pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Everything.
    All,
    /// `nginx.access`
    Access,
    /// `nginx.error`
    NginxError,
    /// `haproxy.log`
    Haproxy,
    /// `mysql.slowlog`
    SlowLog,
    /// `mysql.error`
    MysqlError,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::All, Self::Access, Self::NginxError, Self::Haproxy, Self::SlowLog, Self::MysqlError];

    /// The pattern of the data streams' names.
    pub fn pattern(self) -> &'static str {
        match self {
            Self::All => "logs-*-*",
            Self::Access => "logs-nginx.access-*",
            Self::NginxError => "logs-nginx.error-*",
            Self::Haproxy => "logs-haproxy.log-*",
            Self::SlowLog => "logs-mysql.slowlog-*",
            Self::MysqlError => "logs-mysql.error-*",
        }
    }

    /// The id of the index pattern: fixed, so that a further import replaces it.
    pub fn id(self) -> String {
        format!("logshipd-{}", self.pattern().trim_matches(['-', '*']).replace(['.', '*'], "-"))
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Documents.
    Count,
    /// Sum of a field.
    Sum(&'static str),
    /// Mean of a field.
    Average(&'static str),
    /// Greatest value of a field.
    Max(&'static str),
    /// How many different values.
    Distinct(&'static str),
    /// The median, and what 95 and 99 of a hundred stay below.
    Percentiles(&'static str),
}

impl Metric {
    /// The field, if it has one.
    pub fn field(self) -> Option<&'static str> {
        match self {
            Self::Count => None,
            Self::Sum(field)
            | Self::Average(field)
            | Self::Max(field)
            | Self::Distinct(field)
            | Self::Percentiles(field) => Some(field),
        }
    }
}

/// The most frequent values of a field, or those with the greatest first metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The field.
    pub field: &'static str,
    /// How many values at most.
    pub size: u32,
}

/// How a panel is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Over time, one line for each value of the first split.
    Line,
    /// Over time, stacked.
    Area,
    /// Over time, stacked columns.
    Columns,
    /// Shares of a whole.
    Pie,
    /// A row for each combination of the splits.
    Table,
    /// One number.
    Number,
    /// The documents themselves, newest first, with these columns.
    Documents(&'static [&'static str]),
}

impl Kind {
    /// Whether time is its first axis.
    pub fn is_over_time(self) -> bool {
        matches!(self, Self::Line | Self::Area | Self::Columns)
    }
}

/// One panel.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// The title above it.
    pub title: &'static str,
    /// How it is drawn.
    pub kind: Kind,
    /// What it looks at.
    pub source: Source,
    /// Which documents, in Lucene's syntax; empty for all.
    pub query: &'static str,
    /// What is counted.
    pub metrics: &'static [Metric],
    /// By what.
    pub splits: &'static [Terms],
    /// How wide, of 48 columns.
    pub width: u32,
}

/// One dashboard.
#[derive(Clone, Copy, Debug)]
pub struct Dashboard {
    /// Its id: fixed, so that a further import replaces it.
    pub id: &'static str,
    /// The title in the list.
    pub title: &'static str,
    /// What it answers.
    pub description: &'static str,
    /// From the top, row by row.
    pub panels: &'static [Panel],
}
