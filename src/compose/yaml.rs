// SPDX-License-Identifier: MIT OR Apache-2.0
//! YAML as Compose reads it: nodes that know where they stand, within bounds that no file passes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag as Written};

use super::{ComposeError, Place};

/// How deep a node may lie, what aliases repeat counted with it. Code that goes down a tree calls itself.
const DEEPEST: usize = 100;
/// How many nodes one reading may make, what aliases, merge keys and `extends` repeat counted with it: as many as
/// compose-go allows (`defaultMaxNodeVisits`, loader/reset.go).
const MOST_NODES: usize = 100_000;
/// How many bytes of text they may hold.
const MOST_TEXT: usize = 16 << 20;

/// What one reading may still take.
#[derive(Debug)]
pub(super) struct Budget {
    nodes: usize,
    text: usize,
}

/// A reading would take more memory than any real project needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooLarge;

impl Budget {
    pub(super) fn new() -> Self {
        Self { nodes: MOST_NODES, text: MOST_TEXT }
    }

    pub(super) fn take(&mut self, size: Size) -> Result<(), TooLarge> {
        self.nodes = self.nodes.checked_sub(size.nodes).ok_or(TooLarge)?;
        self.take_text(size.text)
    }

    pub(super) fn take_text(&mut self, text: usize) -> Result<(), TooLarge> {
        self.text = self.text.checked_sub(text).ok_or(TooLarge)?;
        Ok(())
    }
}

/// How much a node holds, itself and all below it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    nodes: usize,
    text: usize,
    depth: usize,
}

/// A tag of the Compose specification (docs.docker.com/reference/compose-file/merge).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    None,
    /// `!reset`: what earlier files say is taken away.
    Reset,
    /// `!override`: what earlier files say is replaced, not merged.
    Override,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) tag: Tag,
    /// Where it stands; of a value in a mapping: its key.
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    /// `plain`: written without quotes, so that it may be a number or a truth.
    Text {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
}

pub(super) type Map = BTreeMap<String, Node>;

impl Node {
    pub(super) fn text(text: impl Into<String>, place: Place) -> Self {
        Self { value: Value::Text { text: text.into(), plain: false }, tag: Tag::None, place }
    }

    pub(super) fn as_map(&self) -> Option<&Map> {
        if let Value::Map(map) = &self.value { Some(map) } else { None }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// In a word, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Text { .. } => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    pub(super) fn size(&self) -> Size {
        let mut size = Size { nodes: 1, text: 0, depth: 1 };
        let mut add = |below: Size| {
            size.nodes += below.nodes;
            size.text += below.text;
            size.depth = size.depth.max(below.depth + 1);
        };
        match &self.value {
            Value::Null => {}
            Value::Text { text, .. } => size.text = text.len(),
            Value::List(list) => list.iter().for_each(|node| add(node.size())),
            Value::Map(map) => {
                for (key, node) in map {
                    add(node.size());
                    add(Size { nodes: 0, text: key.len(), depth: 0 });
                }
            }
        }
        size
    }
}

/// What is open while reading.
enum Open {
    List(Vec<Node>),
    Map { map: Map, key: Option<(String, usize)>, merged: Vec<Node> },
}

struct Frame {
    open: Open,
    tag: Tag,
    anchor: usize,
    place: Place,
}

struct Builder<'a> {
    file: Arc<Path>,
    budget: &'a mut Budget,
    frames: Vec<Frame>,
    anchors: BTreeMap<usize, (Node, Size)>,
    done: Vec<Node>,
}

/// The documents in `text`, which is the content of `file`.
///
/// # Errors
/// With file and line, for what is no YAML, for what Compose does not take (a key twice, a key that is no text), and for
/// what would pass the bounds.
pub(super) fn parse(text: &str, file: &Arc<Path>, budget: &mut Budget) -> Result<Vec<Node>, ComposeError> {
    let mut builder =
        Builder { file: Arc::clone(file), budget, frames: Vec::new(), anchors: BTreeMap::new(), done: Vec::new() };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error: ScanError| {
            let place = Place { file: Arc::clone(file), line: error.marker().line() };
            ComposeError::wrong(&place, format!("this is no YAML: {}", error.info()))
        })?;
        builder.take(event, span)?;
    }
    Ok(builder.done)
}

fn tag_of(written: Option<&Written>) -> Tag {
    match written.map(|tag| (tag.handle.as_str(), tag.suffix.as_str())) {
        Some(("!", "reset")) => Tag::Reset,
        Some(("!", "override")) => Tag::Override,
        _ => Tag::None,
    }
}

impl Builder<'_> {
    fn wrong(&self, line: usize, what: impl Into<String>) -> ComposeError {
        ComposeError::wrong(&Place { file: Arc::clone(&self.file), line }, what)
    }

    fn spend(&mut self, size: Size, line: usize) -> Result<(), ComposeError> {
        let is_too_deep = self.frames.len() + size.depth > DEEPEST;
        if is_too_deep || self.budget.take(size).is_err() {
            let what = if is_too_deep { "it is nested too deeply" } else { "its aliases make it too large" };
            return Err(self.wrong(line, what));
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), ComposeError> {
        let line = span.start.line();
        let place = Place { file: Arc::clone(&self.file), line };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.spend(Size { nodes: 1, text: text.len(), depth: 1 }, line)?;
                let plain = style == ScalarStyle::Plain && tag.as_ref().is_none_or(|tag| !tag.is_yaml_core_schema());
                let is_null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                // A key is a text whatever it looks like.
                let value = if is_null && !self.awaits_key() {
                    Value::Null
                } else {
                    Value::Text { text: text.into_owned(), plain }
                };
                self.close(Node { value, tag: tag_of(tag.as_deref()), place }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(Open::List(Vec::new()), tag_of(tag.as_deref()), anchor, place)
            }
            Event::MappingStart(anchor, tag) => {
                let open = Open::Map { map: Map::new(), key: None, merged: Vec::new() };
                self.open(open, tag_of(tag.as_deref()), anchor, place)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.frames.pop() else { return Err(self.wrong(line, "this is no YAML")) };
                let value = match frame.open {
                    Open::List(list) => Value::List(list),
                    Open::Map { map, merged, .. } => Value::Map(self.merge_keys(map, merged)?),
                };
                self.close(Node { value, tag: frame.tag, place: frame.place }, frame.anchor)
            }
            Event::Alias(anchor) => {
                let Some((_, size)) = self.anchors.get(&anchor) else {
                    return Err(self.wrong(line, "an alias stands inside of what it names"));
                };
                let size = *size;
                self.spend(size, line)?;
                let node = self.anchors[&anchor].0.clone();
                self.close(node, 0)
            }
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn awaits_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame { open: Open::Map { key: None, .. }, .. }))
    }

    fn open(&mut self, open: Open, tag: Tag, anchor: usize, place: Place) -> Result<(), ComposeError> {
        if self.awaits_key() {
            return Err(self.wrong(place.line, "a key is a text, not a list or mapping"));
        }
        self.spend(Size { nodes: 1, text: 0, depth: 1 }, place.line)?;
        self.frames.push(Frame { open, tag, anchor, place });
        Ok(())
    }

    /// `node` is complete and goes to where it belongs.
    fn close(&mut self, mut node: Node, anchor: usize) -> Result<(), ComposeError> {
        if anchor != 0 {
            let size = node.size();
            // The anchor keeps a copy.
            self.spend(size, node.place.line)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.frames.last_mut().map(|frame| &mut frame.open) {
            None => self.done.push(node),
            Some(Open::List(list)) => list.push(node),
            Some(Open::Map { map, key, merged }) => match key.take() {
                None => {
                    let line = node.place.line;
                    let Value::Text { text, plain } = node.value else {
                        return Err(self.wrong(line, format!("a key is a text, not {}", node.kind())));
                    };
                    if let Some(first) = map.get(&text) {
                        let what = format!("the key `{text}` is here twice, first in line {}", first.place.line);
                        return Err(self.wrong(line, what));
                    }
                    // Quoted, it is a key as any other.
                    *key = Some((if plain && text == "<<" { String::new() } else { text }, line));
                }
                Some((text, _)) if text.is_empty() => merged.push(node),
                Some((text, line)) => {
                    node.place.line = line;
                    map.insert(text, node);
                }
            },
        }
        Ok(())
    }

    /// What `<<` brings in, where the mapping itself does not say it; of several the first
    /// (yaml.org/type/merge.html).
    fn merge_keys(&mut self, mut map: Map, merged: Vec<Node>) -> Result<Map, ComposeError> {
        for node in merged {
            let line = node.place.line;
            let sources = match node.value {
                Value::List(list) => list,
                _ => vec![node],
            };
            for source in sources {
                let Value::Map(source) = source.value else {
                    return Err(self.wrong(line, "`<<` takes in mappings, and this is none"));
                };
                for (key, node) in source {
                    map.entry(key).or_insert(node);
                }
            }
        }
        Ok(map)
    }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
