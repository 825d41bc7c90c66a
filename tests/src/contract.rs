//! Holds real requests and answers to an OpenAPI document, and the document to them: what stands in one and not in the other
//! is a fault.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::http::Response;

/// A document, and what of it was seen.
#[derive(Debug)]
pub struct Contract {
    document: Value,
    statuses: BTreeSet<String>,
    codes: BTreeSet<String>,
    fields: BTreeSet<String>,
}

impl Contract {
    /// A document that nothing was held to yet.
    pub fn new(document: Value) -> Self {
        Self { document, statuses: BTreeSet::new(), codes: BTreeSet::new(), fields: BTreeSet::new() }
    }

    /// The operations as `(METHOD, path)`.
    pub fn operations(&self) -> BTreeSet<(String, String)> {
        let methods = |(path, item): (&String, &Value)| {
            let methods = object(item).keys().filter(|key| *key != "parameters");
            methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
        };
        object(&self.document["paths"]).iter().flat_map(methods).collect()
    }

    /// The schema of an operation's body.
    pub fn request_schema(&self, method: &str, path: &str) -> Option<&Value> {
        self.operation(method, path).pointer("/requestBody/content/application~1json/schema")
    }

    /// Whether a body is as the document wants it.
    pub fn allows(&self, method: &str, path: &str, body: &Value) -> bool {
        let schema = self.request_schema(method, path).unwrap_or_else(|| panic!("{method} {path} has no body"));
        self.validator(schema).is_valid(body)
    }

    /// Takes an answer in, which must be as the document says.
    ///
    /// # Panics
    /// When it is not, with what is wrong.
    pub fn check(&mut self, method: &str, path: &str, response: &Response) {
        let place = format!("{method} {path} {}", response.status);
        let described = &self.operation(method, path)["responses"][response.status.to_string()];
        assert!(described.is_object(), "{place} is not in the document: {}", response.body);
        let described = self.resolve(described).clone();
        let (media_type, schema) = content(&described);
        // Parameters of the type, such as a version, are not the document's.
        let said = response.headers.get("content-type").and_then(|said| said.split(';').next());
        assert_eq!(said, Some(media_type), "{place}");
        self.check_headers(&place, &described, response);
        self.check_body(&place, schema, &response.body);
        self.statuses.insert(place);
    }

    /// Takes in an answer that no operation gives, such as to another method: it is an error like all others.
    ///
    /// # Panics
    /// When it is none.
    pub fn check_error(&mut self, response: &Response) {
        let schema = json!({"$ref": "#/components/schemas/Error"});
        self.check_body(&response.status.to_string(), &schema, &response.body);
    }

    /// Everything in the document that no answer has shown.
    pub fn unseen(&self) -> Vec<String> {
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        let mut fields = BTreeSet::new();
        for (method, path) in self.operations() {
            for (status, response) in object(&self.operation(&method, &path)["responses"]) {
                wanted.insert(format!("{method} {path} {status}"));
                let (_, schema) = content(self.resolve(response));
                self.fields_of(schema, &mut fields, &mut BTreeSet::new());
            }
        }
        let code = &self.document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
        let codes: BTreeSet<_> = code.as_array().expect("the codes").iter().map(text).collect();
        let missing = wanted.difference(&self.statuses).chain(codes.difference(&self.codes));
        missing.chain(fields.difference(&self.fields)).cloned().collect()
    }

    /// What a schema, its own or a referred one, stands for.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let Some(reference) = schema["$ref"].as_str() else { return schema };
        let pointer = reference.strip_prefix('#').expect("a reference into the document");
        self.document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    /// Every reference in the document.
    pub fn references(&self) -> usize {
        fn walk(contract: &Contract, value: &Value) -> usize {
            let own = usize::from(value["$ref"].is_string());
            contract.resolve(value);
            own + match value {
                Value::Object(map) => map.values().map(|value| walk(contract, value)).sum(),
                Value::Array(list) => list.iter().map(|value| walk(contract, value)).sum(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
            }
        }
        walk(self, &self.document)
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        &self.document["paths"][path][method.to_lowercase()]
    }

    fn validator(&self, schema: &Value) -> Validator {
        // References lead into the components, which stand beside.
        let whole = json!({"allOf": [schema], "components": self.document["components"]});
        jsonschema::draft202012::new(&whole).expect("the schema is one")
    }

    fn check_headers(&self, place: &str, described: &Value, response: &Response) {
        let named = described["headers"].as_object().cloned().unwrap_or_default();
        for (name, header) in &named {
            let value = response.headers.get(&name.to_lowercase());
            let value = value.unwrap_or_else(|| panic!("{place} lacks the header {name}"));
            assert!(
                self.validator(&self.resolve(header)["schema"]).is_valid(&json!(value)),
                "{place}: {name}: {value}"
            );
        }
        for name in ["www-authenticate", "retry-after", "allow", "location"] {
            let documented = named.keys().any(|key| key.eq_ignore_ascii_case(name));
            assert_eq!(response.headers.contains_key(name), documented, "{place}: the header {name}");
        }
    }

    fn check_body(&mut self, place: &str, schema: &Value, body: &Value) {
        if let Err(error) = self.validator(schema).validate(body) {
            panic!("{place}: {error} at {}: {body}", error.instance_path());
        }
        let mut seen = BTreeSet::new();
        self.fields_in(schema, body, &mut seen);
        self.fields.append(&mut seen);
        self.codes.extend(body["error"]["code"].as_str().map(str::to_owned));
    }

    /// The fields that a body shows, by schema.
    fn fields_in(&self, schema: &Value, body: &Value, seen: &mut BTreeSet<String>) {
        let resolved = self.resolve(schema);
        for (name, field) in body.as_object().into_iter().flatten() {
            if let Some(schema) = resolved["properties"].get(name) {
                seen.insert(field_name(resolved, name));
                self.fields_in(schema, field, seen);
            }
        }
        for item in body.as_array().into_iter().flatten() {
            self.fields_in(&resolved["items"], item, seen);
        }
    }

    /// The fields that a schema has.
    fn fields_of(&self, schema: &Value, fields: &mut BTreeSet<String>, been: &mut BTreeSet<String>) {
        let resolved = self.resolve(schema);
        if !been.insert(resolved.to_string()) {
            return;
        }
        for (name, field) in resolved["properties"].as_object().into_iter().flatten() {
            fields.insert(field_name(resolved, name));
            self.fields_of(field, fields, been);
        }
        if resolved["items"].is_object() {
            self.fields_of(&resolved["items"], fields, been);
        }
    }
}

/// The one media type of an answer, and its schema.
fn content(response: &Value) -> (&str, &Value) {
    let (media_type, content) = object(&response["content"]).iter().next().expect("an answer has a schema");
    (media_type, &content["schema"])
}

/// A field by the fields that it stands beside.
fn field_name(schema: &Value, name: &str) -> String {
    let beside: Vec<_> = object(&schema["properties"]).keys().map(String::as_str).collect();
    format!("{name} of {{{}}}", beside.join(", "))
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("an object: {value}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
