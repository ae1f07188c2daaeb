//! The templates as JSON: one component for what all documents share, one for each module, one index template for
//! each dataset.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::datasets::{Dataset, Module};
use super::fields::{self, Field, Kind};
use super::lifecycle::Lifecycle;

/// Higher than what Elasticsearch (100) and its integrations (200) bring for `logs-*`.
const PRIORITY: u32 = 250;
/// Lucene refuses a term of more than 32766 bytes; a character may take four.
const NAME_CHARACTERS_MAX: u32 = 1024;
const LONG_NAME_CHARACTERS_MAX: u32 = 8191;

/// Field types that not every store knows, with what takes their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    types: BTreeSet<&'static str>,
}

/// The newer type, and the older one that does the same at a higher price.
const SUBSTITUTES: [(&str, &str); 2] =
    [("constant_keyword", "keyword"), ("match_only_text", "text")];

impl Lacking {
    /// Notes the type that a store's refusal names. False if it is none that can be replaced, or was noted before.
    pub fn note(&mut self, refusal: &str) -> bool {
        let named = SUBSTITUTES.iter().find(|(name, _)| refusal.contains(&format!("[{name}]")));
        named.is_some_and(|(name, _)| self.types.insert(name))
    }

    /// The names of the types that are replaced.
    pub fn types(&self) -> impl Iterator<Item = &'static str> {
        self.types.iter().copied()
    }

    fn choose(&self, kind: &'static str) -> &'static str {
        let substitute = SUBSTITUTES.iter().find(|(name, _)| *name == kind);
        substitute.filter(|(name, _)| self.types.contains(name)).map_or(kind, |(_, older)| older)
    }

    /// A field with one value for all documents. Where there is no such type the value cannot be in the template.
    fn constant(&self, value: &str) -> Value {
        match self.choose("constant_keyword") {
            "constant_keyword" => json!({"type": "constant_keyword", "value": value}),
            kind => json!({"type": kind}),
        }
    }
}

fn mapping(kind: Kind, lacking: &Lacking) -> Value {
    match kind {
        Kind::Time => json!({"type": "date_nanos"}),
        Kind::Address => json!({"type": "ip", "ignore_malformed": true}),
        Kind::Name => json!({"type": "keyword", "ignore_above": NAME_CHARACTERS_MAX}),
        Kind::LongName => json!({"type": "keyword", "ignore_above": LONG_NAME_CHARACTERS_MAX}),
        Kind::Words => json!({"type": lacking.choose("match_only_text")}),
        Kind::Whole => json!({"type": "long"}),
        Kind::Number => json!({"type": "double"}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Kept => json!({"type": "keyword", "index": false, "doc_values": false}),
    }
}

/// Puts a mapping at its place: `a.b` becomes `b` in the properties of `a`.
fn put(properties: &mut Map<String, Value>, name: &str, mapping: Value) {
    let Some((folder, rest)) = name.split_once('.') else {
        properties.insert(name.to_owned(), mapping);
        return;
    };
    let object = properties.entry(folder).or_insert_with(|| json!({"properties": {}}));
    if let Some(inner) = object.get_mut("properties").and_then(Value::as_object_mut) {
        put(inner, rest, mapping);
    }
}

fn properties<'a>(
    lists: impl IntoIterator<Item = &'a Field>,
    lacking: &Lacking,
) -> Map<String, Value> {
    let mut properties = Map::new();
    for (name, kind) in lists {
        put(&mut properties, name, mapping(*kind, lacking));
    }
    properties
}

/// The component of all datasets.
pub fn base(lacking: &Lacking, lifecycle: &Lifecycle) -> Value {
    let mut properties = properties(fields::BASE, lacking);
    for (name, value) in
        [("data_stream.type", "logs"), ("event.kind", "event"), ("ecs.version", "8.11.0")]
    {
        put(&mut properties, name, lacking.constant(value));
    }
    let mut settings = json!({
        "index.codec": "best_compression",
        "index.refresh_interval": "5s",
        "index.mapping.total_fields.limit": 1000,
        "index.query.default_field": ["message"],
    });
    if let Some((name, value)) = lifecycle.setting() {
        settings[name] = value.into();
    }
    json!({
        "template": {
            "settings": settings,
            "mappings": {"dynamic": false, "date_detection": false, "properties": properties},
        },
    })
}

/// The component of a module.
pub fn component(module: Module, lacking: &Lacking) -> Value {
    let lists = fields::of(module).iter().copied().flatten();
    json!({"template": {"mappings": {"properties": properties(lists, lacking)}}})
}

/// The index template of a dataset.
pub fn index(dataset: &Dataset, lacking: &Lacking, lifecycle: &Lifecycle) -> Value {
    let module = dataset.name.split_once('.').map_or(dataset.name, |(module, _)| module);
    let mut properties = Map::new();
    for (name, value) in [
        ("data_stream.dataset", dataset.name),
        ("event.dataset", dataset.name),
        ("event.module", module),
        ("event.category", dataset.category),
    ] {
        put(&mut properties, name, lacking.constant(value));
    }
    let mut template = json!({"mappings": {"properties": properties}});
    if let Some(lifecycle) = lifecycle.of_stream() {
        template["lifecycle"] = lifecycle;
    }
    json!({
        "index_patterns": [format!("logs-{}-*", dataset.name)],
        "priority": PRIORITY,
        "data_stream": {},
        "composed_of": ["logshipd-base", dataset.module.component()],
        "template": template,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::datasets::DATASETS;

    #[test]
    fn what_a_store_does_not_know_is_replaced_and_only_that() {
        let mut lacking = Lacking::default();
        let full = base(&lacking, &Lifecycle::None);
        let message = "/template/mappings/properties/message/type";
        let stream = "/template/mappings/properties/data_stream/properties/type";
        assert_eq!(full.pointer(message).unwrap(), "match_only_text");
        assert_eq!(full.pointer(stream).unwrap()["value"], "logs");
        assert!(!lacking.note("No handler for type [nonsense] declared on field [x]"));
        assert!(lacking.note("No handler for type [constant_keyword] declared on field [type]"));
        assert!(!lacking.note("No handler for type [constant_keyword] declared on field [type]"));
        let older = base(&lacking, &Lifecycle::None);
        assert_eq!(older.pointer(stream).unwrap(), &json!({"type": "keyword"}));
        assert_eq!(older.pointer(message).unwrap(), "match_only_text");
    }

    #[test]
    fn a_dotted_name_becomes_folders() {
        let made = component(Module::Mysql, &Lacking::default());
        let path = "/template/mappings/properties/mysql/properties/slowlog/properties/lock_time";
        assert_eq!(made.pointer(path).unwrap()["properties"]["sec"]["type"], "double");
    }

    #[test]
    fn a_dataset_says_what_it_is() {
        let made = index(&DATASETS[0], &Lacking::default(), &Lifecycle::None);
        assert_eq!(made["index_patterns"][0], "logs-nginx.access-*");
        let module = made.pointer("/template/mappings/properties/event/properties/module");
        assert_eq!(module.unwrap()["value"], "nginx");
    }
}
