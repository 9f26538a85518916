//! `config print`: every setting as TOML, each with where it came from.

use super::keys::{Item, Key, Origin, Presence, Setting};

/// Comments stand in one column unless the value is longer than this.
const COMMENT_COLUMN: usize = 60;

/// The keys of the root, with the file's name for those that came from it.
pub(super) fn render(keys: &[Key], file_name: Option<&str>) -> String {
    let mut text = String::new();
    for key in keys {
        match &key.item {
            Item::Setting(setting) => render_setting(&mut text, &key.name, setting, file_name),
            Item::Table {
                is_present: false,
                keys,
            } if keys.is_empty() => {
                text.push_str(&format!("# [{}] is not there.\n\n", key.name));
            }
            Item::Table { keys, .. } => {
                render_table(&mut text, &format!("[{}]", key.name), keys, file_name)
            }
            Item::Tables { elements, .. } => {
                for element in elements {
                    render_table(
                        &mut text,
                        &format!("[[{}]]", key.name),
                        &element.keys,
                        file_name,
                    );
                }
            }
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn render_table(text: &mut String, header: &str, keys: &[Key], file_name: Option<&str>) {
    text.push_str(header);
    text.push('\n');
    for key in keys {
        if let Item::Setting(setting) = &key.item {
            render_setting(text, &key.name, setting, file_name);
        }
    }
    text.push('\n');
}

fn render_setting(text: &mut String, name: &str, setting: &Setting, file_name: Option<&str>) {
    let origin = match (&setting.origin, &setting.presence) {
        (Origin::File { line }, _) => format!("{}:{line}", file_name.unwrap_or_default()),
        (Origin::Variable(variable), _) => variable.clone(),
        (Origin::Setting(name), _) => (*name).to_owned(),
        (Origin::Default, Presence::Optional(otherwise)) => format!("default: {otherwise}"),
        (Origin::Default, Presence::Required | Presence::Default(_)) => "default".to_owned(),
    };
    match &setting.value {
        Some(value) => {
            let line = format!("{name} = {value}");
            text.push_str(&format!("{line:<COMMENT_COLUMN$} # {origin}\n"));
        }
        None => text.push_str(&format!(
            "{:<COMMENT_COLUMN$} # {origin}\n",
            format!("# {name} is not set")
        )),
    }
}
