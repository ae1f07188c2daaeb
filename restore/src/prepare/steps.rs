//! What the user can do after a restore: commands for a shell, statements for a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use chassis::cli::quoted;
use database::info::Positions;
use database::scratch::ScratchServer;
use database::settings::SETTINGS_FILE;
use database::tablespace::{ExportedTable, import_steps};
use database::tool::{self, BackupTool, PrepareRequest, ToolAt};

use crate::plan::place_of;
use crate::prepare::Preparation;
use crate::report::Report;
use crate::target::INCREMENTS;

/// The steps that bring the tables into a running server.
pub fn import(prepared: &Path, preparation: &Preparation, report: &mut Report) -> Result<()> {
    let found: Vec<ExportedTable> = preparation
        .tables
        .iter()
        .map(|table| ExportedTable::find(prepared, table))
        .collect::<Result<_>>()?;
    let server = ScratchServer::start(&preparation.server, prepared);
    for table in &found {
        if table.has_triggers() {
            report.notices.push(format!("{} has triggers: make them anew", table.name));
        }
        let create = server.as_ref().map(|server| server.create_statement(&table.name));
        report.next_steps.push(format!("-- {}", table.name));
        match create {
            Ok(Ok(create)) => {
                let steps = import_steps(table, &create, &table.name)?;
                report.next_steps.extend(steps.iter().map(|step| format!("{step}")));
            }
            Ok(Err(error)) => note_files(table, &error, report),
            Err(error) => note_files(table, error, report),
        }
    }
    Ok(())
}

/// Without the statement that made the table, the files at least.
fn note_files(table: &ExportedTable, error: &anyhow::Error, report: &mut Report) {
    report.notices.push(format!("how {} was made could not be asked: {error:#}", table.name));
    let name = table.name.quoted();
    let steps = [
        format!("-- make {name} as it was (the same columns and indexes), then"),
        format!("ALTER TABLE {name} DISCARD TABLESPACE;"),
        "-- copy these into the server's data directory, owned by mysql".to_owned(),
    ];
    report.next_steps.extend(steps);
    report.next_steps.extend(table.files().map(|file| format!("--   {}", file.display())));
    report.next_steps.push(format!("ALTER TABLE {name} IMPORT TABLESPACE;"));
}

/// What comes after a whole server was prepared.
pub fn start(target: &Path, tool: BackupTool) -> Vec<String> {
    let target = std::path::absolute(target).unwrap_or_else(|_| target.to_owned());
    let (program, unit) = match tool {
        BackupTool::MariaDb => ("mariadbd", "mariadb"),
        BackupTool::Percona => ("mysqld", "mysql"),
    };
    let dir = quoted(&target.to_string_lossy());
    let settings = quoted(&target.join(SETTINGS_FILE).to_string_lossy());
    vec![
        format!("chown -R mysql:mysql {dir}"),
        "# look at it with a server of its own; end it with Ctrl-C".to_owned(),
        format!(
            "{program} --defaults-file={settings} --datadir={dir} --socket=/tmp/restored.sock \
             --skip-networking --user=mysql"
        ),
        "# or put it in the place of the lost one".to_owned(),
        format!("systemctl stop {unit}; mv /var/lib/mysql /var/lib/mysql.lost"),
        format!("mv {dir} /var/lib/mysql && systemctl start {unit}"),
    ]
}

/// What comes after a database was restored and not prepared.
pub fn before_start(target: &Path, links: usize, positions: &Positions) -> Vec<String> {
    let facts = positions.tool.facts();
    let at = ToolAt {
        tool: positions.tool,
        path: PathBuf::from(facts.programs[0]),
        version: facts.version_min,
        server: facts.version_min,
    };
    let request = PrepareRequest {
        full: target.to_owned(),
        increments: (1..links).map(|link| target.join(place_of(link))).collect(),
        ..PrepareRequest::default()
    };
    let mut steps = vec!["# no server can start on it yet: --prepare does this".to_owned()];
    let commands = tool::prepare_commands(&at, &request).unwrap_or_default();
    steps.extend(commands.iter().map(command_line));
    if links > 1 {
        steps.push(format!("rm -r {}", quoted(&target.join(INCREMENTS).to_string_lossy())));
    }
    steps
}

/// A command as it is typed.
pub fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}
