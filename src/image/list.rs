// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of images in texts: lists, Kubernetes' manifests, and what `kubectl get -o json` shows.

use serde_json::Value;

/// The most images that one text may name.
const MOST: usize = 10_000;

/// The keys of Kubernetes' lists of containers (kubernetes.io, API reference, "PodSpec").
const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Reads the names of images of `text`, each once, in their order: of JSON those of its containers; of lines with
/// `image:` what stands behind that; of all else one a line, `#` beginning a comment.
///
/// # Errors
/// What is wrong with it, and in which line.
pub fn read(text: &str) -> Result<Vec<String>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let found = if text.trim_start().starts_with(['{', '[']) {
        let value: Value = serde_json::from_str(text).map_err(|e| format!("line {}: it is no JSON: {e}", e.line()))?;
        let mut found = Vec::new();
        collect(&value, &mut found);
        found
    } else {
        lines(text)?
    };
    let mut names: Vec<String> = Vec::new();
    for name in found {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match names.len() {
        0 => Err("it names no image: one a line is looked for, lines with `image:`, or containers in JSON".to_owned()),
        1..=MOST => Ok(names),
        _ => Err(format!("it names more than {MOST} images")),
    }
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                let containers = value.as_array().filter(|_| LISTS.contains(&key.as_str()));
                let images = containers.into_iter().flatten().filter_map(|container| container.get("image")?.as_str());
                found.extend(images.map(str::to_owned));
                collect(value, found);
            }
        }
        _ => {}
    }
}

fn lines(text: &str) -> Result<Vec<String>, String> {
    let contents = text.lines().enumerate().filter_map(|(number, line)| {
        let is_comment = |(at, c): (usize, char)| c == '#' && (at == 0 || line[..at].ends_with([' ', '\t']));
        let end = line.char_indices().find(|&place| is_comment(place)).map_or(line.len(), |(at, _)| at);
        let content = line[..end].trim();
        (!content.is_empty()).then_some((number + 1, content))
    });
    let contents: Vec<(usize, &str)> = contents.collect();
    let image_of = |content: &str| {
        let content = content.trim_start_matches("- ").trim_start();
        let rest = content.strip_prefix("image:").or(content.strip_prefix("\"image\":"))?;
        let name = rest.trim().trim_end_matches(',').trim_matches(['"', '\'']);
        (!name.is_empty() && rest.starts_with([' ', '\t'])).then(|| name.to_owned())
    };
    let images: Vec<String> = contents.iter().filter_map(|(_, content)| image_of(content)).collect();
    if !images.is_empty() {
        return Ok(images);
    }
    let name = |(number, content): (usize, &str)| {
        let name = content.strip_prefix("- ").unwrap_or(content).trim().trim_matches(['"', '\'']);
        if name.contains(char::is_whitespace) {
            return Err(format!("line {number}: more than the name of an image stands there"));
        }
        Ok(name.to_owned())
    };
    contents.into_iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_found_in_every_form() {
        #[rustfmt::skip]
        let rows: [(&str, &[&str]); 6] = [
            ("nginx\n\n# mine\n- 'a/b:1' # why\nnginx\n", &["nginx", "a/b:1"]),
            ("kind: Pod\nspec:\n  containers:\n  - name: a\n    image: \"nginx:1\"\n  - image: b/c # x\n    imagePullPolicy: Always\n", &["nginx:1", "b/c"]),
            (r#"{"items": [{"spec": {"containers": [{"image": "a"}, {"image": "b"}], "initContainers": [{"image": "c"}]}, "status": {"containerStatuses": [{"image": "docker.io/library/a"}]}}]}"#, &["a", "b", "c"]),
            (r#"{"spec": {"template": {"spec": {"containers": [{"image": "a"}]}}}}"#, &["a"]),
            ("reg:5000/a@sha256:12#x", &["reg:5000/a@sha256:12#x"]),
            ("\u{feff}a\r\nb\r\n", &["a", "b"]),
        ];
        for (text, expected) in rows {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, why) in [
            ("", "it names no image"),
            ("{}", "it names no image"),
            ("{\n\"a\": }", "line 2: it is no JSON"),
            ("a\nb c\n", "line 2: more than the name of an image"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.starts_with(why), "{said}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in any::<String>()) {
            let _ = read(&text);
        }
    }
}
