//! The functions of a template's expressions, as far as ours uses them. What Azure would answer at run time (keys, an
//! identity, existing app settings) is made up, and recognizable wherever it ends up.

use serde_json::{Map, Value, json};

use super::evaluate::Azure;

pub(super) const SUBSCRIPTION: &str = "5a0d1a52-1f43-4d5e-9f0c-5f7f4f7b9b11";
pub(super) const TENANT: &str = "bf8d32d3-1c13-4487-af02-80dba2236485";
pub(super) const PRINCIPAL: &str = "0c8fbc2c-63a4-4ae4-8f4e-0b38e2ee40f5";
/// A storage account's key: a secret that is no parameter.
pub(super) const STORAGE_KEY: &str = "YS1zZWNyZXQta2V5LW9mLXRoZS1zdG9yYWdlLWFjY291bnQ=";

/// The value of a function that takes its arguments resolved. `parameters`, `variables` and `if` are not among them.
pub(super) fn call(name: &str, arguments: &[Value], azure: &Azure) -> Result<Value, String> {
    let texts = || arguments.iter().map(plain).collect::<Result<Vec<_>, _>>();
    let text = |index: usize| {
        let value = arguments
            .get(index)
            .ok_or_else(|| format!("{name} lacks an argument"))?;
        value
            .as_str()
            .ok_or_else(|| format!("{name} is given {value}, wants a text"))
    };
    let number = |index: usize| {
        let value = arguments.get(index).and_then(Value::as_i64);
        value.ok_or_else(|| format!("{name} wants a number as argument {}", index + 1))
    };
    let truth = |value: &Value| {
        value
            .as_bool()
            .ok_or_else(|| format!("{name} is given {value}, wants true or false"))
    };
    Ok(match name {
        "concat" => json!(texts()?.concat()),
        "format" => json!(format(text(0)?, &arguments[1..])?),
        "string" => match arguments {
            [Value::String(text)] => json!(text),
            [value] => json!(value.to_string()),
            _ => return Err("string takes one argument".to_owned()),
        },
        "toLower" => json!(text(0)?.to_lowercase()),
        "split" => json!(text(0)?.split(text(1)?).collect::<Vec<_>>()),
        "substring" => {
            let (from, length) = (number(1)?, number(2)?);
            let part = usize::try_from(from).ok().zip(usize::try_from(length).ok());
            let part = part.and_then(|(from, length)| text(0).ok()?.get(from..from + length));
            json!(part.ok_or_else(|| "substring is out of the text".to_owned())?)
        }
        "indexOf" => {
            let at = text(0)?.find(text(1)?);
            json!(at.map_or(-1, |at| i64::try_from(at).unwrap()))
        }
        "uniqueString" => json!(unique(&texts()?.join("|"))),
        "guid" => json!(guid(&texts()?.join("|"))),
        "last" => match arguments {
            [Value::Array(items)] if !items.is_empty() => items[items.len() - 1].clone(),
            _ => return Err("last wants an array that is not empty".to_owned()),
        },
        "empty" => match arguments {
            [Value::String(text)] => json!(text.is_empty()),
            [Value::Array(items)] => json!(items.is_empty()),
            [Value::Object(map)] => json!(map.is_empty()),
            _ => return Err("empty wants a text, an array or an object".to_owned()),
        },
        "add" => json!(number(0)? + number(1)?),
        "mul" => json!(number(0)? * number(1)?),
        "div" => json!(
            number(0)?
                .checked_div(number(1)?)
                .ok_or("division by nothing")?
        ),
        "mod" => json!(
            number(0)?
                .checked_rem(number(1)?)
                .ok_or("division by nothing")?
        ),
        "equals" => match arguments {
            [a, b] => json!(a == b),
            _ => return Err("equals takes two arguments".to_owned()),
        },
        "not" => match arguments {
            [value] => json!(!truth(value)?),
            _ => return Err("not takes one argument".to_owned()),
        },
        "and" => {
            let all = arguments.iter().map(truth).collect::<Result<Vec<_>, _>>()?;
            json!(all.into_iter().all(|is| is))
        }
        "or" => {
            let all = arguments.iter().map(truth).collect::<Result<Vec<_>, _>>()?;
            json!(all.into_iter().any(|is| is))
        }
        "createObject" => {
            let mut map = Map::new();
            let (pairs, []) = arguments.as_chunks::<2>() else {
                return Err("createObject wants pairs".to_owned());
            };
            for [key, value] in pairs {
                let key = key.as_str().ok_or("createObject wants texts for names")?;
                map.insert(key.to_owned(), value.clone());
            }
            Value::Object(map)
        }
        "createArray" => json!(arguments),
        "union" => {
            let mut all = Map::new();
            for value in arguments {
                let map = value
                    .as_object()
                    .ok_or_else(|| format!("union is given {value}, wants objects"))?;
                all.extend(map.clone());
            }
            Value::Object(all)
        }
        "subscription" => json!({ "subscriptionId": SUBSCRIPTION, "tenantId": TENANT }),
        "resourceGroup" => json!({
            "id": group_id(SUBSCRIPTION, &azure.resource_group),
            "name": azure.resource_group,
            "location": "westeurope",
        }),
        "environment" => json!({ "suffixes": { "storage": "core.windows.net" } }),
        "resourceId" => {
            let texts = texts()?;
            let group = group_id(SUBSCRIPTION, &azure.resource_group);
            json!(format!("{group}{}", provider_path(&texts)?))
        }
        "subscriptionResourceId" => {
            let path = provider_path(&texts()?)?;
            json!(format!("/subscriptions/{SUBSCRIPTION}{path}"))
        }
        "reference" => reference(text(0)?, text(1)?, arguments.get(2))?,
        "listKeys" => {
            text(0)?;
            text(1)?;
            json!({ "keys": [{ "keyName": "key1", "value": STORAGE_KEY }] })
        }
        "list" => {
            let (id, _) = (text(0)?, text(1)?);
            if !id.ends_with("/config/appsettings") {
                return Err(format!("list of {id}"));
            }
            json!({ "properties": azure.existing })
        }
        _ => return Err(format!("there is no function {name}")),
    })
}

fn plain(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(format!("{value} where a text is wanted")),
    }
}

/// `{0}` and so on; every argument must be used, or one is missing in the text.
fn format(pattern: &str, arguments: &[Value]) -> Result<String, String> {
    let mut text = pattern.to_owned();
    for (index, argument) in arguments.iter().enumerate() {
        let place = format!("{{{index}}}");
        if !pattern.contains(&place) {
            return Err(format!("`{pattern}` has no {place}"));
        }
        text = text.replace(&place, &plain(argument)?);
    }
    if (0..10).any(|index| text.contains(&format!("{{{index}}}"))) {
        return Err(format!("`{pattern}` wants more arguments"));
    }
    Ok(text)
}

fn group_id(subscription: &str, group: &str) -> String {
    format!("/subscriptions/{subscription}/resourceGroups/{group}")
}

/// A resource's path below its scope: a type of n parts behind the provider, and n names.
fn provider_path(texts: &[String]) -> Result<String, String> {
    let (kind, names) = texts.split_first().ok_or("resourceId without a type")?;
    let parts: Vec<_> = kind.split('/').collect();
    if parts.len() != names.len() + 1 || names.iter().any(String::is_empty) {
        return Err(format!("{kind} wants {} names", parts.len() - 1));
    }
    let path: String = parts[1..]
        .iter()
        .zip(names)
        .map(|(part, name)| format!("/{part}/{name}"))
        .collect();
    Ok(format!("/providers/{}{path}", parts[0]))
}

fn reference(id: &str, _version: &str, full: Option<&Value>) -> Result<Value, String> {
    let parts: Vec<_> = id.split('/').collect();
    let [.., kind, name] = parts.as_slice() else {
        return Err(format!("reference to {id}"));
    };
    let properties = match *kind {
        "sites" => json!({ "defaultHostName": format!("{name}.azurewebsites.net") }),
        "storageAccounts" => {
            json!({ "primaryEndpoints": { "blob": format!("https://{name}.blob.core.windows.net/") } })
        }
        _ => return Err(format!("reference to {id}")),
    };
    match full {
        None => Ok(properties),
        Some(Value::String(full)) if full == "full" => Ok(json!({
            "properties": properties,
            "identity": { "type": "SystemAssigned", "principalId": PRINCIPAL, "tenantId": TENANT },
        })),
        Some(other) => Err(format!("reference with {other}")),
    }
}

/// Thirteen of the characters that Azure's own has, another hash behind them.
pub(super) fn unique(seed: &str) -> String {
    let mut hash = hash(seed);
    let mut text = String::new();
    for _ in 0..13 {
        let digit = usize::try_from(hash & 31).unwrap();
        text.push(char::from(b"abcdefghijklmnopqrstuvwxyz234567"[digit]));
        hash >>= 5;
    }
    text
}

fn guid(seed: &str) -> String {
    let (a, b) = (hash(seed), hash(&format!("{seed}|")));
    uuid::Uuid::from_u64_pair(a, b).to_string()
}

/// FNV-1a with a last mix, so that near names do not get near offsets.
fn hash(seed: &str) -> u64 {
    let hash = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}
