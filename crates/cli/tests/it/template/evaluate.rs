//! Resolves a template with given parameters: what would be deployed, resource by resource, nested deployments opened.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::expression::{Expression, Text, kind_of, parse};
use super::functions::call;

/// What there is in Azure before the deployment.
#[derive(Clone)]
pub(super) struct Azure {
    pub(super) resource_group: String,
    /// The app settings that the function app has.
    pub(super) existing: Map<String, Value>,
}

/// What a template comes to.
#[derive(Default)]
pub(super) struct Deployed {
    /// Every resource that is not left out by its condition; those of nested deployments too, not these themselves.
    pub(super) resources: Vec<Value>,
    /// Where those stand that a condition leaves out.
    pub(super) left_out: Vec<String>,
    /// What nested deployments are handed in parameters that are not secure, and so can be read afterwards.
    pub(super) readable: Vec<Value>,
    pub(super) outputs: Value,
    /// What could not be resolved, with where it stands.
    pub(super) errors: Vec<String>,
}

impl Deployed {
    /// The resources of a type whose name ends so.
    pub(super) fn find(&self, kind: &str, name_end: &str) -> Vec<&Value> {
        let is_wanted = |resource: &&Value| {
            let name = resource["name"].as_str().unwrap_or_default();
            resource["type"] == kind && name.ends_with(name_end)
        };
        self.resources.iter().filter(is_wanted).collect()
    }
}

/// Resolves all of `template`.
pub(super) fn deploy(
    template: &Value,
    parameters: &BTreeMap<String, Value>,
    azure: &Azure,
) -> Deployed {
    let mut deployed = Deployed::default();
    let scope = Scope::open(template, parameters, azure, "", &mut deployed);
    scope.resources(template, &mut deployed);
    let outputs = template.get("outputs").cloned().unwrap_or(json!({}));
    deployed.outputs = scope.resolve(&outputs, "outputs", &mut deployed.errors);
    deployed
}

struct Scope<'a> {
    template: &'a Value,
    parameters: BTreeMap<String, Value>,
    azure: Azure,
    path: String,
}

impl<'a> Scope<'a> {
    fn open(
        template: &'a Value,
        given: &BTreeMap<String, Value>,
        azure: &Azure,
        path: &str,
        deployed: &mut Deployed,
    ) -> Self {
        let mut scope = Self {
            template,
            parameters: given.clone(),
            azure: azure.clone(),
            path: path.to_owned(),
        };
        let empty = Map::new();
        let declared = template["parameters"].as_object().unwrap_or(&empty);
        for name in given.keys().filter(|name| !declared.contains_key(*name)) {
            let error = format!("{path}parameters: `{name}` is handed over and not declared");
            deployed.errors.push(error);
        }
        for (name, declaration) in declared {
            let path = format!("{path}parameters/{name}");
            if !scope.parameters.contains_key(name) {
                match declaration.get("defaultValue") {
                    Some(default) => {
                        let value = scope.resolve(default, &path, &mut deployed.errors);
                        scope.parameters.insert(name.clone(), value);
                    }
                    None => deployed.errors.push(format!("{path}: has no value")),
                }
            }
            if let Some(value) = scope.parameters.get(name)
                && let Err(error) = is_of_type(value, declaration)
            {
                deployed.errors.push(format!("{path}: {error}"));
            }
        }
        // Each on its own, so that one which nothing uses is resolved as well.
        for name in template["variables"].as_object().unwrap_or(&empty).keys() {
            if let Err(error) = scope.variable(name) {
                deployed
                    .errors
                    .push(format!("{path}variables/{name}: {error}"));
            }
        }
        scope
    }

    fn resources(&self, template: &Value, deployed: &mut Deployed) {
        for (index, resource) in template["resources"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            let path = format!("{}resources[{index}]", self.path);
            let is_nested = resource["type"] == "Microsoft.Resources/deployments";
            let mut plain = resource.clone();
            let condition = plain.get("condition").cloned().unwrap_or(json!(true));
            let is_deployed = self.resolve(&condition, &path, &mut deployed.errors) == true;
            if let Some(map) = plain.as_object_mut()
                && !is_deployed
            {
                // Azure does not resolve the properties of what it does not deploy, only where it would be.
                map.remove("properties");
            } else if is_nested && let Some(map) = plain["properties"].as_object_mut() {
                map.remove("template");
            }
            let plain = self.resolve(&plain, &path, &mut deployed.errors);
            if !is_deployed {
                deployed.left_out.push(path);
            } else if is_nested {
                self.nested(resource, &plain, &path, deployed);
            } else {
                deployed.resources.push(plain);
            }
        }
    }

    fn nested(&self, resource: &Value, plain: &Value, path: &str, deployed: &mut Deployed) {
        // An inner template that is evaluated outside would put its secrets into the history of deployments.
        if plain["properties"]["expressionEvaluationOptions"]["scope"] != "inner" {
            deployed
                .errors
                .push(format!("{path}: is not evaluated in its own scope"));
        }
        let inner = &resource["properties"]["template"];
        let mut given = BTreeMap::new();
        for (name, parameter) in plain["properties"]["parameters"]
            .as_object()
            .into_iter()
            .flatten()
        {
            given.insert(name.clone(), parameter["value"].clone());
            let kind = inner["parameters"][name]["type"]
                .as_str()
                .unwrap_or_default();
            if !kind.starts_with("secure") {
                deployed.readable.push(parameter["value"].clone());
            }
        }
        let mut azure = self.azure.clone();
        if let Some(group) = plain["resourceGroup"].as_str() {
            azure.resource_group = group.to_owned();
        }
        let mut opened = Deployed::default();
        let path = format!("{path}/properties/template/");
        let scope = Scope::open(inner, &given, &azure, &path, &mut opened);
        scope.resources(inner, &mut opened);
        deployed.errors.append(&mut opened.errors);
        deployed.readable.append(&mut opened.readable);
        deployed.left_out.append(&mut opened.left_out);
        deployed.resources.append(&mut opened.resources);
    }

    /// A value with every expression in it resolved. One that cannot be becomes nothing, and is reported.
    fn resolve(&self, value: &Value, path: &str, errors: &mut Vec<String>) -> Value {
        match value {
            Value::String(text) => self.resolve_text(text).unwrap_or_else(|error| {
                errors.push(format!("{path}: {error}"));
                Value::Null
            }),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.resolve(item, &format!("{path}[{index}]"), errors))
                .collect(),
            Value::Object(map) => map
                .iter()
                .map(|(key, item)| {
                    let item = self.resolve(item, &format!("{path}/{key}"), errors);
                    (key.clone(), item)
                })
                .collect::<Map<_, _>>()
                .into(),
            other => other.clone(),
        }
    }

    fn resolve_text(&self, text: &str) -> Result<Value, String> {
        match kind_of(text) {
            Text::Plain(text) => Ok(Value::String(text)),
            Text::Expression(inside) => self.value_of(&parse(inside)?),
        }
    }

    fn variable(&self, name: &str) -> Result<Value, String> {
        match self.template["variables"].get(name) {
            Some(Value::String(text)) => self.resolve_text(text),
            Some(value) => Ok(value.clone()),
            None => Err(format!("there is no variable `{name}`")),
        }
    }

    fn value_of(&self, expression: &Expression) -> Result<Value, String> {
        match expression {
            Expression::Text(text) => Ok(json!(text)),
            Expression::Number(number) => Ok(json!(number)),
            Expression::Property(of, name) => {
                let of = self.value_of(of)?;
                let value = of.get(name).cloned();
                value.ok_or_else(|| format!("{expression:?} has no {name}"))
            }
            Expression::Index(of, at) => {
                let (of, at) = (self.value_of(of)?, self.value_of(at)?);
                let index = at.as_u64().and_then(|at| usize::try_from(at).ok());
                let value = index.and_then(|at| of.get(at)).cloned();
                value.ok_or_else(|| format!("nothing at {at} in {expression:?}"))
            }
            // Only the branch that is taken is resolved, as in Azure.
            Expression::Call(name, arguments) if name == "if" => {
                let [condition, yes, no] = arguments.as_slice() else {
                    return Err("if takes three arguments".to_owned());
                };
                match self.value_of(condition)? {
                    Value::Bool(true) => self.value_of(yes),
                    Value::Bool(false) => self.value_of(no),
                    other => Err(format!("if is given {other}, wants true or false")),
                }
            }
            Expression::Call(name, arguments) => {
                let values = arguments
                    .iter()
                    .map(|argument| self.value_of(argument))
                    .collect::<Result<Vec<_>, _>>()?;
                match (name.as_str(), values.as_slice()) {
                    ("parameters", [Value::String(name)]) => self
                        .parameters
                        .get(name)
                        .cloned()
                        .ok_or_else(|| format!("there is no parameter `{name}`")),
                    ("variables", [Value::String(name)]) => self.variable(name),
                    _ => call(name, &values, &self.azure),
                }
            }
        }
    }
}

fn is_of_type(value: &Value, declaration: &Value) -> Result<(), String> {
    let kind = declaration["type"].as_str().unwrap_or_default();
    let is_fine = match kind {
        "string" | "securestring" => value.is_string(),
        "int" => value.is_i64(),
        "bool" => value.is_boolean(),
        "array" => value.is_array(),
        "object" | "secureObject" => value.is_object(),
        _ => return Err(format!("there is no type `{kind}`")),
    };
    if !is_fine {
        return Err(format!("{value} is no {kind}"));
    }
    match declaration["allowedValues"].as_array() {
        Some(allowed) if !allowed.contains(value) => Err(format!("{value} is not allowed")),
        _ => Ok(()),
    }
}
