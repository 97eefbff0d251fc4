//! JSON Schema, the part of it that a grammar can hold, written out as EBNF.
//!
//! | understood | means |
//! |---|---|
//! | `type` | `object`, `array`, `string`, `number`, `integer`, `boolean`, `null`, or a list of these |
//! | `properties`, `required` | these members in this order; those that are not required may be missing. None given: any object |
//! | `additionalProperties` | true or false; members that are not listed are never written |
//! | `items` | what an array holds; not given: anything |
//! | `enum`, `const` | one of these values; beside `type` those that are of it |
//! | `anyOf` | one of these schemas |
//! | `$ref` | `#`, `#/$defs/NAME` or `#/definitions/NAME` |
//!
//! Remarks (`title`, `description`, `default`, ...) change nothing. Every other keyword is refused by its name: text that only
//! looks as asked for is worse than none.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Write as _};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use super::grammar::JSON_VALUES;
use crate::limits;

/// A schema that no grammar is made of; the author's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schema at {at}: {what}")]
pub struct BadSchema {
    /// Where in the schema, as a JSON pointer.
    pub at: String,
    /// What is wrong, and what to write instead.
    pub what: String,
}

/// A schema as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Schema {
    #[serde(rename = "type")]
    kinds: Option<OneOrMany>,
    properties: Option<InOrder<Schema>>,
    required: Vec<String>,
    #[serde(rename = "additionalProperties")]
    additional: Option<Value>,
    items: Option<Box<Schema>>,
    #[serde(rename = "enum")]
    values: Option<Vec<Value>>,
    #[serde(rename = "const", deserialize_with = "even_null")]
    value: Option<Value>,
    #[serde(rename = "anyOf")]
    any_of: Option<Vec<Schema>>,
    #[serde(rename = "$ref")]
    reference: Option<String>,
    #[serde(rename = "$defs")]
    defs: InOrder<Schema>,
    definitions: InOrder<Schema>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn all(&self) -> &[String] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

/// Members in the order in which they are written, which is the one that answers keep.
#[derive(Debug)]
struct InOrder<T>(Vec<(String, T)>);

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        InOrder(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for InOrder<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = InOrder<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of schemas")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder<T>, A::Error> {
                let mut members: Vec<(String, T)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if members.len() == limits::GRAMMAR_RULES_MAX || members.iter().any(|(n, _)| *n == name) {
                        return Err(A::Error::custom(format!("{name:?} is there twice, or too many are")));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(InOrder(members))
            }
        }
        from.deserialize_map(Members(std::marker::PhantomData))
    }
}

/// `"const": null` is a value too.
fn even_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// Keywords that say nothing about what is written.
const REMARKS: [&str; 10] = [
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
];

impl Schema {
    /// The grammar of the values that satisfy it, for [`Grammar::ebnf`](super::Grammar::ebnf).
    pub fn ebnf(&self) -> Result<String, BadSchema> {
        let mut writer =
            Writer { root: self, rules: String::new(), count: 0, names: HashMap::new(), depth: 0 };
        let root = writer.reference("#", "#")?;
        Ok(format!("root ::= {root}\n{}{JSON_VALUES}", writer.rules))
    }

    fn bad<T>(at: &str, what: impl Into<String>) -> Result<T, BadSchema> {
        Err(BadSchema { at: at.to_owned(), what: what.into() })
    }

    /// Every keyword is understood, and no two say what another one says otherwise.
    fn check(&self, at: &str) -> Result<(), BadSchema> {
        if let Some(other) = self.others.keys().find(|key| !REMARKS.contains(&key.as_str())) {
            return Schema::bad(
                at,
                format!("{other} is not supported; leave it out and check the answer for it"),
            );
        }
        let is_typed = self.properties.is_some() || self.items.is_some() || !self.required.is_empty();
        let said = [
            ("$ref", self.reference.is_some()),
            ("anyOf", self.any_of.is_some()),
            ("enum", self.values.is_some()),
            ("const", self.value.is_some()),
            ("properties, required or items", is_typed),
        ];
        let said: Vec<&str> =
            said.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect();
        let is_choice = self.reference.is_some() || self.any_of.is_some();
        match said[..] {
            [one, other, ..] => {
                Schema::bad(at, format!("{one} and {other} can't stand together; keep one of them"))
            }
            [one] if is_choice && self.kinds.is_some() => {
                Schema::bad(at, format!("{one} and type can't stand together; write the type within"))
            }
            _ => Ok(()),
        }
    }
}

/// Writes rules, one for every schema.
struct Writer<'a> {
    root: &'a Schema,
    rules: String,
    count: usize,
    /// Of schemas that can be referred to.
    names: HashMap<String, String>,
    /// Schemas within schemas, at work.
    depth: usize,
}

impl<'a> Writer<'a> {
    /// The rule of the schema that a reference names, which is written when it is first asked for.
    fn reference(&mut self, to: &str, at: &str) -> Result<String, BadSchema> {
        if let Some(name) = self.names.get(to) {
            return Ok(name.clone());
        }
        let root = self.root;
        let within = |defs: &'a InOrder<Schema>, name: &str| {
            defs.0.iter().find(|(known, _)| known == name).map(|(_, schema)| schema)
        };
        let found = match to.strip_prefix("#/") {
            None if to == "#" => Some(root),
            Some(path) => match path.split_once('/') {
                Some(("$defs", name)) => within(&root.defs, name),
                Some(("definitions", name)) => within(&root.definitions, name),
                _ => None,
            },
            None => None,
        };
        let Some(schema) = found else {
            return Schema::bad(at, format!("there is no {to:?} in this schema; put it under $defs"));
        };
        let name = self.name(at)?;
        self.names.insert(to.to_owned(), name.clone());
        self.define(&name, schema, to)?;
        Ok(name)
    }

    /// The rule of a schema that nothing refers to.
    fn rule(&mut self, schema: &'a Schema, at: &str) -> Result<String, BadSchema> {
        let name = self.name(at)?;
        self.define(&name, schema, at)?;
        Ok(name)
    }

    fn define(&mut self, name: &str, schema: &'a Schema, at: &str) -> Result<(), BadSchema> {
        self.depth += 1;
        if self.depth > limits::GRAMMAR_DEPTH_MAX {
            return Schema::bad(
                at,
                format!("more than {} schemas within each other", limits::GRAMMAR_DEPTH_MAX),
            );
        }
        let body = self.body(schema, at)?;
        self.put(name, &body);
        self.depth -= 1;
        Ok(())
    }

    fn name(&mut self, at: &str) -> Result<String, BadSchema> {
        self.count += 1;
        if self.count > limits::GRAMMAR_RULES_MAX || self.rules.len() > limits::GRAMMAR_TEXT_BYTES_MAX {
            return Schema::bad(at, "the schema is too large; ask for less at a time");
        }
        Ok(format!("schema-{}", self.count))
    }

    fn put(&mut self, name: &str, body: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.rules, "{name} ::= {body}");
    }

    fn body(&mut self, schema: &'a Schema, at: &str) -> Result<String, BadSchema> {
        schema.check(at)?;
        if let Some(to) = &schema.reference {
            return self.reference(to, at);
        }
        if let Some(options) = &schema.any_of {
            let rule = |(n, option)| self.rule(option, &format!("{at}/anyOf/{n}"));
            return one_of(options.iter().enumerate().map(rule).collect::<Result<_, _>>()?, at);
        }
        let kinds = schema.kinds.as_ref().map(OneOrMany::all);
        if let Some(values) = schema.values.as_deref().or(schema.value.as_ref().map(std::slice::from_ref)) {
            let fits = |value: &&Value| kinds.is_none_or(|kinds| kinds.iter().any(|kind| is_of(value, kind)));
            return one_of(values.iter().filter(fits).map(|value| literal(&value.to_string())).collect(), at);
        }
        match kinds {
            None if schema.properties.is_some() || !schema.required.is_empty() => self.object(schema, at),
            None if schema.items.is_some() => self.array(schema, at),
            None => Ok("value".into()),
            Some(kinds) => {
                let kind = |kind: &String| self.kind(schema, kind, at);
                one_of(kinds.iter().map(kind).collect::<Result<_, _>>()?, at)
            }
        }
    }

    fn kind(&mut self, schema: &'a Schema, kind: &str, at: &str) -> Result<String, BadSchema> {
        match kind {
            "object" => self.object(schema, at),
            "array" => self.array(schema, at),
            "boolean" => Ok("\"true\" | \"false\"".into()),
            "null" => Ok("\"null\"".into()),
            "string" | "number" | "integer" => Ok(kind.into()),
            other => Schema::bad(
                at,
                format!(
                    "there is no type {other:?}; use object, array, string, number, integer, boolean, null"
                ),
            ),
        }
    }

    fn array(&mut self, schema: &'a Schema, at: &str) -> Result<String, BadSchema> {
        let Some(items) = &schema.items else { return Ok("array".into()) };
        let item = self.rule(items, &format!("{at}/items"))?;
        Ok(format!("\"[\" ws ( {item} ws ( \",\" ws {item} ws )* )? \"]\""))
    }

    /// Two rules for each place between members: what may follow where one is written already, and where none is.
    fn object(&mut self, schema: &'a Schema, at: &str) -> Result<String, BadSchema> {
        if !matches!(schema.additional, None | Some(Value::Bool(_))) {
            return Schema::bad(
                at,
                "additionalProperties is true or false here; list the members as properties",
            );
        }
        let members = schema.properties.as_ref().map_or(&[][..], |members| &members.0);
        let known: HashSet<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        let required: HashSet<&str> = schema.required.iter().map(String::as_str).collect();
        if let Some(name) = required.difference(&known).min() {
            return Schema::bad(at, format!("{name:?} is required, but not among the properties"));
        }
        if members.is_empty() {
            let is_closed = schema.additional == Some(Value::Bool(false));
            return Ok(if is_closed { "\"{\" ws \"}\"" } else { "object" }.into());
        }
        let (mut after_one, mut after_none) = (String::new(), String::new());
        for (name, member) in members.iter().rev() {
            let value = self.rule(member, &format!("{at}/properties/{name}"))?;
            let key = literal(&Value::from(name.as_str()).to_string());
            let member = format!("{key} \":\" ws {value} ws");
            let [one, none] = [self.name(at)?, self.name(at)?];
            let (body, body_of_none) = match required.contains(name.as_str()) {
                true => (format!("\",\" ws {member} {after_one}"), format!("{member} {after_one}")),
                false => (
                    format!("( \",\" ws {member} )? {after_one}"),
                    format!("{member} {after_one} | {after_none}"),
                ),
            };
            self.put(&one, &body);
            self.put(&none, &body_of_none);
            (after_one, after_none) = (one, none);
        }
        Ok(format!("\"{{\" ws {after_none} \"}}\""))
    }
}

fn one_of(options: Vec<String>, at: &str) -> Result<String, BadSchema> {
    match options.is_empty() {
        true => Schema::bad(at, "no value satisfies it; give at least one"),
        false => Ok(options.join(" | ")),
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match value {
        Value::Null => kind == "null",
        Value::Bool(_) => kind == "boolean",
        Value::Number(number) => kind == "number" || (kind == "integer" && !number.is_f64()),
        Value::String(_) => kind == "string",
        Value::Array(_) => kind == "array",
        Value::Object(_) => kind == "object",
    }
}

/// A text in EBNF.
fn literal(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
