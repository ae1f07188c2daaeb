//! A restore that is stopped, killed or runs twice: the same command goes on, and nothing half is taken for whole.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests::program::Said;
use tests::tree::{Dice, describe, differences, make};

use crate::lab::Lab;

const SEED: u64 = 7;
const MARKER: &str = "there/.restore-unfinished";

fn lab() -> Lab {
    let mut lab = Lab::new();
    println!("seed {SEED}");
    make(&lab.tree(), SEED).unwrap();
    let mut dice = Dice::new(SEED);
    for number in 0..20 {
        fs::write(lab.tree().join(format!("large-{number}")), dice.bytes(2_000_000)).unwrap();
    }
    lab.back_up();
    lab
}

fn start(lab: &Lab) -> Child {
    let mut command = lab.command(&["--target", "there", "--workers", "1"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn assert_whole(lab: &Lab) {
    let found =
        differences(&describe(&lab.tree()).unwrap(), &describe(&lab.path("there")).unwrap());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn killed_at_any_moment_the_same_command_goes_on() {
    let lab = lab();
    let mut killed = 0;
    for delay in [5, 20, 40, 60, 80, 100, 130, 170] {
        let mut child = start(&lab);
        thread::sleep(Duration::from_millis(delay));
        send(&child, Signal::KILL);
        let status = child.wait().unwrap();
        if status.signal() == Some(9) {
            killed += 1;
        } else {
            // It was quicker: begin again.
            fs::remove_dir_all(lab.path("there")).unwrap();
        }
    }
    assert!(killed > 1, "it was too quick to be killed");
    lab.run(&["--target", "there"]).expect(0);
    assert!(!lab.path(MARKER).exists());
    assert_whole(&lab);
}

#[test]
fn an_interrupt_ends_it_soon_and_says_how_to_go_on() {
    let lab = lab();
    let mut child = start(&lab);
    while !lab.path(MARKER).exists() && child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(1));
    }
    send(&child, Signal::INT);
    let said = Said::of(&child.wait_with_output().unwrap());
    said.expect(130).expect_error("the same command goes on");
    assert!(lab.path(MARKER).exists());
    let said = lab.run(&["--target", "there", "--json"]).expect(0);
    assert_eq!(said.json()["found"], "unfinished");
    assert_whole(&lab);
}

#[test]
fn an_unfinished_restore_of_another_backup_is_not_mixed_with_this_one() {
    let mut lab = lab();
    let mut child = start(&lab);
    while !lab.path(MARKER).exists() && child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(1));
    }
    send(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    fs::write(lab.tree().join("later"), "x").unwrap();
    lab.back_up();
    let said = lab.run(&["--target", "there"]).expect(2);
    said.expect_error("holds an unfinished restore of").expect_error("--snapshot site--");
    lab.run(&["--target", "there", "--delta", "--delete"]).expect(0);
    assert_whole(&lab);
}
