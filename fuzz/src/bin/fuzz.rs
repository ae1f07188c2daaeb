//! Has libFuzzer look for inputs that break a target:
//! `fuzz [OPTION OF LIBFUZZER...] CORPUS -ignore_remaining_args=1 TARGET`.
//! Use `scripts/fuzz`, which builds it as it must be.
#![no_main]

use std::sync::OnceLock;

use fuzz::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(init: choose(), |data: &[u8]| {
    let target = TARGET.get().expect("it is chosen before the first input");
    (target.run)(data);
});

fn choose() {
    let name = std::env::args().next_back().unwrap_or_default();
    let known = || fuzz::TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    let target = fuzz::find(&name);
    let target = target.unwrap_or_else(|| panic!("no target `{name}`; there are {}", known()));
    TARGET.set(target).expect("it is chosen once");
}
