// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing an override file.

use std::fmt::Write as _;

/// An override file (`compose.override.yaml`) that gives services their platforms: pairs of a service and its platform,
/// such as `linux/amd64`. Of two lines of one service the last counts.
pub fn override_file(lines: &[(String, String)]) -> String {
    let services: std::collections::BTreeMap<_, _> =
        lines.iter().map(|(service, platform)| (service, platform)).collect();
    if services.is_empty() {
        return "services: {}\n".to_owned();
    }
    let mut text = "services:\n".to_owned();
    for (service, platform) in services {
        // A `$` would begin a variable, but not in a key. A string can be written to another without fail.
        let _ = write!(text, "  {}:\n    platform: {}\n", written(service), written(&platform.replace('$', "$$")));
    }
    text
}

/// `text` as a YAML scalar that is read as this very text: in quotes unless it needs none.
fn written(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    // Also in the words of YAML 1.1, which other readers know.
    let special = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    if is_word && !special.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    // Every JSON string is one of YAML.
    serde_json::Value::String(text.to_owned()).to_string()
}
