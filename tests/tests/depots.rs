//! The whole way with all kinds of depots at once: a real daemon backs up files and a real MariaDB into a directory,
//! over SFTP and to S3, and `restore` brings each back from each. One depot is down and is caught up; a password, a
//! host key or a secret is wrong.
#![expect(clippy::unwrap_used, reason = "the helpers are parts of tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use depot::names::SnapshotId;
use serde_json::Value;
use tests::program::Said;
use tests::servers::sshd::{Account, Login, Sshd};
use tests::shop::{Shop, check_copy};
use tests::site::{DEPOTS, Site};
use tests::tree::{Dice, Tree, change, describe, differences, make};

const SEED: u64 = 20_261_123;

/// The new backup of a run that was reported with `--json`.
fn id_of(said: &Said) -> SnapshotId {
    said.json()[0]["snapshot"].as_str().unwrap().parse().unwrap()
}

/// The depots of a report that have the backup, and the errors of the others.
fn depots_of(said: &Said) -> (Vec<String>, Vec<String>) {
    let report = said.json();
    let depots = report[0]["depots"].as_array().unwrap().clone();
    let text = |depot: &Value, key: &str| depot[key].as_str().map(str::to_owned);
    let good = depots.iter().filter(|depot| depot["error"].is_null());
    let good = good.filter_map(|depot| text(depot, "name")).collect();
    (good, depots.iter().filter_map(|depot| text(depot, "error")).collect())
}

fn assert_restores(site: &Site, depot: &str, id: &SnapshotId, source: &Tree) {
    let target = format!("restored-{depot}-{id}");
    site.restore(depot, id, &target, &["--no-sync"]).expect(0);
    let found = differences(source, &describe(&site.path(&target)).unwrap());
    assert!(found.is_empty(), "{depot}:\n{}", found.join("\n"));
    fs::remove_dir_all(site.path(&target)).unwrap();
}

#[test]
fn files_and_a_database_go_to_all_depots_and_come_back_from_each() {
    let shop = Shop::open().unwrap();
    let mut site = Site::new().unwrap();
    fs::remove_file(site.path("www/index.php")).unwrap();
    let mut made = make(&site.path("www"), SEED).unwrap();
    let jobs = format!(
        "{}{}{}",
        site.lab.site(""),
        shop.job("db", "", "").unwrap(),
        shop.job("chain", "", "mode = 'lsn'").unwrap()
    );
    site.configure(&jobs).unwrap();
    site.lab.ctl(&["check"]).expect(0);
    site.start();
    site.lab.ctl(&["now"]).expect(0);
    change(&mut made, 20, SEED).unwrap();
    let source = describe(&site.path("www")).unwrap();
    let site_id = id_of(&site.lab.ctl(&["now", "site", "--json"]).expect(0));
    let backups = ["db", "chain"].map(|job| {
        let (said, orders) = shop.while_open(|| site.lab.ctl(&["now", job, "--json"])).unwrap();
        assert_eq!(depots_of(&said.clone().expect(0)).0.len(), 3, "{said:?}");
        (id_of(&said), orders)
    });
    let identity = site.lab.identity();
    site.keeper_ctl(&["verify", "--deep", "--identity", &identity]).expect(0);
    for depot in DEPOTS {
        assert_restores(&site, depot, &site_id, &source);
        for (id, orders) in &backups {
            let target = format!("{depot}-{}", id.job);
            site.restore(depot, id, &target, &["--prepare", "--no-sync"]).expect(0);
            check_copy(&site.path(&target), *orders).unwrap();
        }
    }
}

#[test]
fn a_depot_that_is_down_is_caught_up_and_restores() {
    let mut site = Site::new().unwrap();
    site.configure(&site.lab.site("")).unwrap();
    site.start();
    let write = |content: &str| {
        fs::write(site.path("www/index.php"), content).unwrap();
        describe(&site.path("www")).unwrap()
    };
    let whole = write("everything is up");
    let mut expected = vec![(id_of(&site.lab.ctl(&["now", "--json"]).expect(0)), whole)];
    for (down, others) in [("sftp", ["s3", "vault"]), ("s3", ["sftp", "vault"])] {
        let source = describe(&site.path("www")).unwrap();
        match down {
            "sftp" => site.sshd.stop(),
            _ => site.s3.stop(),
        }
        fs::write(site.path("www/index.php"), down).unwrap();
        let missed = describe(&site.path("www")).unwrap();
        assert!(!differences(&source, &missed).is_empty());
        let said = site.lab.ctl(&["now", "--json"]).expect(3);
        let (good, errors) = depots_of(&said);
        assert_eq!(good, others, "{said:?}");
        assert!(errors[0].contains(&format!("open depot `{down}`")), "{errors:?}");
        site.lab.ctl(&["status"]).expect(1).expect_out(&format!("{down} (down)"));
        expected.push((id_of(&said), missed));
        match down {
            "sftp" => site.sshd.start_again().unwrap(),
            _ => site.s3.start_again().unwrap(),
        }
        let source = describe(&site.path("www")).unwrap();
        let said = site.lab.ctl(&["now", "--json"]).expect(0);
        expected.push((id_of(&said), source));
        assert_eq!(depots_of(&said).0.len(), 3);
        for (id, source) in &expected {
            assert_restores(&site, down, id, source);
        }
    }
    site.keeper_ctl(&["verify"]).expect(0);
    for depot in DEPOTS {
        assert_eq!(site.committed(depot).unwrap().len(), expected.len(), "{depot}");
    }
}

/// Nothing that anybody could read holds a secret: what the command said, and all that the daemon has written.
fn assert_kept_secret(site: &Site, said: &Said, secrets: &[&str]) {
    let mut texts = vec![said.stdout.clone(), said.stderr.clone(), site.daemon().log()];
    add_texts(&site.path("state"), &mut texts);
    for secret in secrets {
        let is_told = texts.iter().any(|text| text.contains(secret));
        assert!(!is_told, "`{secret}` is told in {texts:?}");
    }
}

fn add_texts(dir: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add_texts(&path, texts);
        } else {
            texts.push(String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
        }
    }
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A run with one depot that refuses us: the others are good, and everybody is told what to do. A job that goes only
/// there fails.
fn refuse(site: &mut Site, tables: &str, depot: &str, words: &str, hint: &str, secrets: &[&str]) {
    let only = site.lab.site(&format!("depots = ['{depot}']")).replace("jobs.site", "jobs.only");
    let logs = format!("[log]\nlevel = 'debug'\ndir = '{}'\n", site.path("state/log").display());
    site.lab.configure(&format!("{logs}{tables}{}{only}", site.lab.site("")));
    site.start();
    let said = site.lab.ctl(&["now", "site", "--json"]).expect(3);
    let (good, errors) = depots_of(&said);
    assert_eq!(good.len(), 2, "{said:?}");
    assert!(errors[0].contains(words), "{errors:?}");
    assert_kept_secret(site, &said, secrets);
    let said = site.lab.ctl(&["now", "only"]).expect(1).expect_error(words).expect_error(hint);
    assert_kept_secret(site, &said, secrets);
    let named = format!("depot {depot}: reachable ... FAILED");
    let said = site.lab.ctl(&["check"]).expect(1).expect_out(&named).expect_out(hint);
    assert_kept_secret(site, &said, secrets);
    let said = site.lab.ctl(&["depot", "init", depot]).expect(1).expect_error(hint);
    assert_kept_secret(site, &said, secrets);
    let target = site.path("nowhere");
    let target = target.to_str().unwrap();
    let said = site.lab.restore(&["--depot", depot, "--target", target]);
    let said = said.expect(1).expect_error(words).expect_error(hint);
    assert_kept_secret(site, &said, secrets);
    assert!(!Path::new(target).exists());
    let more = said.stderr.lines().filter(|line| line.starts_with("hint: ")).count();
    assert_eq!(more, 1, "{}", said.stderr);
    site.keeper_ctl(&["verify"]).expect(0);
}

#[test]
fn a_wrong_password_of_the_sftp_account_is_told_and_kept_secret() {
    let mut site = Site::new().unwrap();
    let password = site.path("wrong-password");
    write_private(&password, "wrong-0123456789\n");
    let good = site.sshd.table(Account::AppendOnly, Login::Password, site.sftp_line.address());
    let is_password = |line: &&str| line.starts_with("password-file");
    let good = good.unwrap();
    let old = good.lines().find(is_password).unwrap();
    let bad = good.replace(old, &format!("password-file = '{}'", password.display()));
    let s3 = site.s3.table(site.s3_line.address());
    let tables = format!("[depots.sftp.sftp]\n{bad}[depots.s3.s3]\n{s3}");
    let right = site.sshd.password().unwrap();
    let secrets = ["wrong-0123456789", &right, site.s3.secret_key()].map(str::to_owned);
    let secrets = secrets.each_ref().map(String::as_str);
    refuse(&mut site, &tables, "sftp", "password", "hint: ", &secrets);
}

#[test]
fn a_changed_host_key_is_told_and_nothing_is_sent() {
    let mut site = Site::new().unwrap();
    let sftp = site.sshd.table(Account::AppendOnly, Login::Password, site.sftp_line.address());
    let s3 = site.s3.table(site.s3_line.address());
    let tables = format!("[depots.sftp.sftp]\n{}[depots.s3.s3]\n{s3}", sftp.unwrap());
    site.sshd.change_host_keys().unwrap();
    let password = site.sshd.password().unwrap();
    refuse(&mut site, &tables, "sftp", "HOST KEY", "hint: ", &[&password]);
}

#[test]
fn a_wrong_secret_of_the_bucket_is_told_and_kept_secret() {
    let mut site = Site::new().unwrap();
    let credentials = site.path("wrong-credentials");
    let text = "[default]\naws_access_key_id = holdfast-test\n\
                aws_secret_access_key = wrong-0123456789\n";
    write_private(&credentials, text);
    let good = site.s3.table(site.s3_line.address());
    let old = good.lines().find(|line| line.starts_with("credentials-file")).unwrap();
    let bad = good.replace(old, &format!("credentials-file = '{}'", credentials.display()));
    let sftp = site.sshd.table(Account::AppendOnly, Login::Password, site.sftp_line.address());
    let tables = format!("[depots.sftp.sftp]\n{}[depots.s3.s3]\n{bad}", sftp.unwrap());
    let right = site.s3.secret_key().to_owned();
    refuse(&mut site, &tables, "s3", "s3", "hint: ", &["wrong-0123456789", &right]);
}

#[test]
fn a_depot_that_is_lost_in_the_middle_of_a_restore_is_no_damage() {
    let (mut site, stranger) = (Site::new().unwrap(), Sshd::start().unwrap());
    let mut dice = Dice::new(SEED);
    for number in 0..12 {
        fs::write(site.path(&format!("www/large-{number}")), dice.bytes(400_000)).unwrap();
    }
    site.configure(&site.lab.site("")).unwrap();
    site.start();
    let id = id_of(&site.lab.ctl(&["now", "--json"]).expect(0));
    let source = describe(&site.path("www")).unwrap();
    for part in [&[][..], &["--path", "large-7"]] {
        let before = site.sftp_line.passed();
        site.restore("sftp", &id, "whole", part).expect(0);
        let passed = site.sftp_line.passed() - before;
        fs::remove_dir_all(site.path("whole")).unwrap();
        let more = [part, &["--keep-going", "--json"]].concat();
        for eighth in 1..8 {
            // Whoever answers on the new connection is somebody else: that ends it at once.
            site.sftp_line.lead_astray(passed * eighth / 8, stranger.address());
            let said = site.restore("sftp", &id, "target", &more).expect(1);
            assert!(site.sftp_line.mend(), "the line was not cut: {said:?}");
            site.sftp_line.lead_to(site.sshd.address());
            let said = said.expect_error("HOST KEY").expect_error("\"hint\":\"");
            assert!(!said.stderr.contains("hurts"), "{said:?}");
        }
        let said = site.restore("sftp", &id, "target", &more).expect(0);
        assert_eq!(said.json()["damage"].as_array().map(Vec::len), Some(0), "{said:?}");
        if part.is_empty() {
            let found = differences(&source, &describe(&site.path("target")).unwrap());
            assert!(found.is_empty(), "{}", found.join("\n"));
        }
        fs::remove_dir_all(site.path("target")).unwrap();
    }
}
