// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths in JSON. JSON is text, and the names of files need not be: what is none is shown as U+FFFD,
//! as people are shown it, instead of the whole object being refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

/// Paths that can be shown as text.
pub trait Paths {
    /// Their text.
    type Text: Serialize;

    /// Their text.
    fn text(&self) -> Self::Text;
}

impl Paths for PathBuf {
    type Text = String;

    fn text(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}

impl<P: Paths> Paths for Option<P> {
    type Text = Option<P::Text>;

    fn text(&self) -> Self::Text {
        self.as_ref().map(P::text)
    }
}

impl<P: Paths> Paths for Vec<P> {
    type Text = Vec<P::Text>;

    fn text(&self) -> Self::Text {
        self.iter().map(P::text).collect()
    }
}

impl<P: Paths> Paths for BTreeMap<String, P> {
    type Text = BTreeMap<String, P::Text>;

    fn text(&self) -> Self::Text {
        self.iter().map(|(key, path)| (key.clone(), path.text())).collect()
    }
}

/// Writes paths as text, for `serialize_with`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<P: Paths, S: Serializer>(paths: &P, serializer: S) -> Result<S::Ok, S::Error> {
    paths.text().serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    #[derive(Serialize)]
    struct Shown {
        #[serde(serialize_with = "super::serialize")]
        paths: Vec<Option<PathBuf>>,
    }

    #[test]
    fn what_is_no_text_is_shown_all_the_same() {
        let odd = PathBuf::from(OsStr::from_bytes(b"/opt/\xff"));
        let shown = Shown { paths: vec![Some("/a".into()), None, Some(odd)] };
        assert_eq!(serde_json::to_string(&shown).unwrap(), "{\"paths\":[\"/a\",null,\"/opt/\u{fffd}\"]}");
    }
}
