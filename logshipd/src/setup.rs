//! `logshipd setup`: makes a store ready for what is shipped to it: templates, data streams, lifecycle, and says
//! first what it would change.
//!
//! What kind of store it is, and what it can do, is told by what it answers to, not by a version number. All names
//! begin with `logshipd`; what has such a name and is not ours is not touched. Safe to repeat.

pub mod datasets;
pub mod fields;
pub mod lifecycle;
mod store;
pub mod template;

use std::fmt::{self, Write};

use anyhow::{Result, bail};
use chassis::failure::{Exit, Failure};
use serde::Serialize;
use serde_json::{Value, json};

use datasets::{DATASETS, Module};
use lifecycle::Lifecycle;
pub use store::{Answer, Engine, Store};
use template::Lacking;

/// How often a template is changed for a field type that the store does not know.
const SUBSTITUTIONS_MAX: usize = 4;

/// What is asked for, as on the command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many days documents are kept
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub keep_days: u32,
    /// Print the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace templates of our names that somebody else made
    #[arg(long)]
    pub force: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep_days: 30, dry_run: false, force: false }
    }
}

/// What is done with an object of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// There is none of this name.
    Create,
    /// There is one of an earlier run, with another content.
    Replace,
    /// It is there as it should be.
    Keep,
}

/// One object of the store.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Where.
    pub path: String,
    #[serde(skip)]
    content: Value,
}

/// What will be done, in order.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The store, in words.
    pub store: String,
    /// How old documents are deleted, in words.
    pub lifecycle: String,
    /// Field types that the store does not know, for which older ones are taken.
    pub replaced_types: Vec<&'static str>,
    /// All objects.
    pub steps: Vec<Step>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "store      {}", self.store)?;
        writeln!(f, "lifecycle  {}", self.lifecycle)?;
        for name in &self.replaced_types {
            writeln!(
                f,
                "note       it does not know the field type {name}: an older one is taken"
            )?;
        }
        for step in &self.steps {
            let action = match step.action {
                Action::Create => "create",
                Action::Replace => "replace",
                Action::Keep => "keep",
            };
            writeln!(f, "{action:<10} {}", step.path)?;
        }
        Ok(())
    }
}

/// Plans, shows the plan, and does it unless it is a dry run.
pub fn run(
    store: &Store<impl Fn(&str, &str, Option<&[u8]>) -> Result<Answer>>,
    options: &Options,
    show: impl FnOnce(&Plan) -> Result<()>,
) -> Result<Plan> {
    let plan = plan(store, options)?;
    show(&plan)?;
    if !options.dry_run {
        for step in plan.steps.iter().filter(|step| step.action != Action::Keep) {
            store.put(&step.path, &step.content)?;
        }
    }
    Ok(plan)
}

/// What has to be done. Nothing is changed: templates are tried by a simulation.
pub fn plan(
    store: &Store<impl Fn(&str, &str, Option<&[u8]>) -> Result<Answer>>,
    options: &Options,
) -> Result<Plan> {
    let identity = store.identify()?;
    let lifecycle = store.lifecycle(identity.engine, options.keep_days)?;
    let lacking = find_lacking(store)?;
    let mut steps = Vec::new();
    if let Some((path, content)) = lifecycle.policy(options.keep_days) {
        let action = store.policy_action(&path, &content)?;
        steps.push(Step { action, path, content });
    }
    let components = [("logshipd-base", template::base(&lacking, &lifecycle))].into_iter().chain(
        Module::ALL.map(|module| (module.component(), template::component(module, &lacking))),
    );
    for (name, content) in components {
        steps.push(step(store, options, format!("/_component_template/{name}"), content)?);
    }
    for dataset in DATASETS {
        let path = format!("/_index_template/logshipd-{}", dataset.name);
        steps.push(step(store, options, path, template::index(dataset, &lacking, &lifecycle))?);
    }
    let replaced_types = lacking.types().collect();
    let lifecycle = lifecycle.describe().to_owned();
    Ok(Plan { store: identity.to_string(), lifecycle, replaced_types, steps })
}

/// One template: marked as ours, with a checksum by which the next run knows it.
fn step(
    store: &Store<impl Fn(&str, &str, Option<&[u8]>) -> Result<Answer>>,
    options: &Options,
    path: String,
    mut content: Value,
) -> Result<Step> {
    let checksum = format!("{:08x}", crc32fast::hash(content.to_string().as_bytes()));
    content["_meta"] = json!({"managed_by": "logshipd", "checksum": checksum});
    let found = store.template(&path)?;
    let action = match found.as_ref().map(|found| &found["_meta"]) {
        None => Action::Create,
        Some(meta) if meta["managed_by"] != "logshipd" && !options.force => {
            return Err(foreign(&path));
        }
        Some(meta) if meta["checksum"] == checksum => Action::Keep,
        Some(_) => Action::Replace,
    };
    Ok(Step { action, path, content })
}

fn foreign(path: &str) -> anyhow::Error {
    Failure::new(Exit::Failed, format!("{path} is there and was not made by logshipd"))
        .hint("look at it, and let `setup --force` replace it")
        .into()
}

/// Asks the store to try the mappings until it knows all their types.
fn find_lacking(
    store: &Store<impl Fn(&str, &str, Option<&[u8]>) -> Result<Answer>>,
) -> Result<Lacking> {
    let mut lacking = Lacking::default();
    for _ in 0..SUBSTITUTIONS_MAX {
        let mut probe = template::base(&lacking, &Lifecycle::None);
        probe["index_patterns"] = json!(["logshipd-probe-*"]);
        probe["priority"] = json!(9999);
        match store.simulate(&probe)? {
            None => return Ok(lacking),
            Some(refusal) if lacking.note(&refusal) => {}
            Some(refusal) => bail!("the store refuses the mappings: {refusal}"),
        }
    }
    bail!("the store refuses the mappings, whatever is left out")
}

/// The fields as a table in Markdown, for the documentation.
pub fn field_table() -> String {
    let mut text = String::from("| field | type |\n|---|---|\n");
    let lists = Module::ALL.into_iter().flat_map(|module| fields::of(module).iter().copied());
    let mut seen = std::collections::BTreeSet::new();
    for (name, kind) in std::iter::once(fields::BASE).chain(lists).flatten() {
        if seen.insert(*name) {
            writeln!(text, "| `{name}` | {kind:?} |").expect("a string takes all");
        }
    }
    text
}
