//! Making a restored node the first of a new cluster.

use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};
use chassis::failure::{Exit, Failure};
use database::gtid::{GtidSet, Stream};
use database::info::GaleraPosition;

use crate::beneath::Beneath;

const STATE: &str = "grastate.dat";
/// What a node remembers of the last view of its cluster.
const VIEW: &str = "gvwstate.dat";
/// Numbers that are left out, so that what the lost cluster committed last is not used again even if it
/// was never archived.
const NUMBERS_LEFT_OUT: u64 = 100_000;

/// That the backup is not of a node.
pub fn not_galera() -> Failure {
    Failure::new(Exit::Usage, "the backup is not of a node of a Galera cluster")
        .hint("leave --galera-bootstrap away")
}

/// Writes the state that a cluster is bootstrapped from. The number of the last write set is left to be
/// found by `--wsrep-recover`.
pub fn write_state(target: &Beneath, galera: &GaleraPosition) -> Result<()> {
    let text = format!(
        "# GALERA saved state\nversion: 2.1\nuuid:    {}\nseqno:   -1\nsafe_to_bootstrap: 1\n",
        galera.uuid
    );
    for name in [STATE, VIEW] {
        match target.remove(Path::new(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {name}"));
            }
            _ => {}
        }
    }
    let written =
        target.create(Path::new(STATE)).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("write {STATE}"))
}

/// What to run, in this order. The cluster would use the numbers again that were used since the
/// backup, with other transactions: MariaDB keeps the number of a cluster where a replay does not
/// come to.
pub fn steps(archived: &GtidSet) -> Vec<String> {
    let mut steps = vec![
        "# a new cluster: stop all nodes and arbitrators, put the directory in place on one node, there:".to_owned(),
        "galera_new_cluster".to_owned(),
    ];
    for (stream, numbers) in archived.iter() {
        if let (Stream::Domain(domain), Some(last)) = (stream, numbers.last()) {
            let next = last + NUMBERS_LEFT_OUT;
            steps.push(format!(
                "# before anything else writes, in the cluster's domain ({domain}), any write in one session with this:"
            ));
            steps.push(format!(
                "mariadb -e 'SET SESSION wsrep_gtid_seq_no = {next}; CREATE OR REPLACE TABLE mysql.holdfast_restored (at DATETIME) ENGINE=InnoDB; DROP TABLE mysql.holdfast_restored'"
            ));
        }
    }
    steps.push(
        "# the others with empty data directories, one after another: systemctl start mariadb"
            .to_owned(),
    );
    steps
}
