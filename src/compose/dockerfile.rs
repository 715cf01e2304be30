// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which images a Dockerfile builds on (docs.docker.com/reference/dockerfile; moby/buildkit,
//! frontend/dockerfile/dockerfile2llb/convert.go).

use std::collections::{BTreeMap, BTreeSet};

use parse_dockerfile::{Flag, Instruction};

use super::Base;
use super::interpolate::{Dialect, Interpolation};
use super::yaml::Budget;
use crate::oci::platform::ImagePlatform;

/// What a Dockerfile is read with.
pub(super) struct Recipe<'a> {
    pub(super) args: &'a BTreeMap<String, String>,
    pub(super) contexts: &'a BTreeMap<String, String>,
    pub(super) target: Option<&'a str>,
    /// What is built for.
    pub(super) platform: ImagePlatform,
    /// The machine that builds.
    pub(super) host: ImagePlatform,
}

/// What a name in `FROM` or `--from=` turned out to be.
enum Source {
    Stage(usize),
    Image(String),
    /// Nothing that is pulled, or not known.
    Other,
}

struct Stage {
    name: Option<String>,
    line: usize,
    from: Source,
    platform: Option<String>,
    /// What it takes files from, and in which line.
    copies: Vec<(Source, usize)>,
}

/// The images that `text` builds on, in the order of its lines. Only stages that the target needs count. What cannot be
/// told goes to `notes`, each beginning with its line.
///
/// # Errors
/// Where `text` is no Dockerfile, or has no such target.
pub(super) fn bases(
    text: &str,
    recipe: &Recipe<'_>,
    budget: &mut Budget,
    notes: &mut Vec<String>,
) -> Result<Vec<Base>, String> {
    let lines: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line_of = |at: usize| 1 + lines.partition_point(|end| *end < at);
    let mut reading = Reading { recipe, globals: platform_args(recipe), stages: Vec::new(), budget, notes };
    let parsed = parse_dockerfile::parse_iter(text).map_err(|error| error.to_string())?;
    for instruction in parsed {
        let instruction = instruction.map_err(|error| error.to_string())?;
        match &instruction {
            Instruction::Arg(arg) if reading.stages.is_empty() => {
                reading.arg(&arg.arguments.value, line_of(arg.arg.span.start));
            }
            Instruction::From(from) => {
                let line = line_of(from.from.span.start);
                let platform = option(&from.options, "platform").next();
                let name = from.as_.as_ref().map(|(_, name)| name.value.to_ascii_lowercase());
                reading.from(&from.image.value, platform, name, line);
            }
            Instruction::Copy(copy) => {
                let line = line_of(copy.copy.span.start);
                option(&copy.options, "from").for_each(|name| reading.copy(name, line));
            }
            Instruction::Run(run) => {
                let line = line_of(run.run.span.start);
                for mount in option(&run.options, "mount") {
                    let from = mount.split(',').filter_map(|part| part.strip_prefix("from="));
                    from.for_each(|name| reading.copy(name, line));
                }
            }
            _ => {}
        }
    }
    reading.needed()
}

fn option<'a>(options: &'a [Flag<'_>], name: &'a str) -> impl Iterator<Item = &'a str> {
    options.iter().filter(move |flag| flag.name.value == name).filter_map(|flag| Some(&*flag.value.as_ref()?.value))
}

/// What BuildKit sets by itself.
fn platform_args(recipe: &Recipe<'_>) -> BTreeMap<String, String> {
    let mut args = BTreeMap::new();
    for (head, platform) in [("TARGET", &recipe.platform), ("BUILD", &recipe.host)] {
        for (tail, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os().to_owned()),
            ("ARCH", platform.architecture().to_owned()),
            ("VARIANT", platform.variant().to_owned()),
        ] {
            args.insert(format!("{head}{tail}"), value);
        }
    }
    for (name, value) in &mut args {
        if let Some(given) = recipe.args.get(name) {
            value.clone_from(given);
        }
    }
    args
}

struct Reading<'a> {
    recipe: &'a Recipe<'a>,
    globals: BTreeMap<String, String>,
    stages: Vec<Stage>,
    budget: &'a mut Budget,
    notes: &'a mut Vec<String>,
}

impl Reading<'_> {
    /// `text` with the variables that may stand in `FROM`; none where it cannot be told, and that is noted.
    fn expand(&mut self, text: &str, line: usize) -> Option<String> {
        let mut unset = BTreeSet::new();
        let lookup = |name: &str| self.globals.get(name).cloned();
        let (dialect, budget) = (Dialect::Dockerfile, &mut *self.budget);
        let done = Interpolation { dialect, lookup: &lookup, unset: &mut unset, budget }.apply(text);
        match done {
            Err(fault) => self.notes.push(format!("{line}: `{text}`: {fault}")),
            Ok(_) if !unset.is_empty() => {
                let names = unset.into_iter().collect::<Vec<_>>().join(", ");
                self.notes.push(format!("{line}: `{text}` is not known: no build argument or default for {names}"));
            }
            Ok(done) => return Some(done.trim_matches(['"', '\'']).to_owned()),
        }
        None
    }

    /// `ARG NAME[=DEFAULT]…` before the first `FROM`.
    fn arg(&mut self, arguments: &str, line: usize) {
        for word in words(arguments) {
            let (name, default) = word.split_once('=').map_or((word.as_str(), None), |(name, text)| (name, Some(text)));
            let value = match (self.recipe.args.get(name), default) {
                (Some(given), _) => Some(given.clone()),
                (_, Some(default)) => {
                    let mut unset = BTreeSet::new();
                    let lookup = |name: &str| self.globals.get(name).cloned();
                    let (dialect, budget) = (Dialect::Dockerfile, &mut *self.budget);
                    // A variable that is not set is empty here, which an image's name then shows.
                    Interpolation { dialect, lookup: &lookup, unset: &mut unset, budget }
                        .apply(default)
                        .map_err(|fault| self.notes.push(format!("{line}: `{default}`: {fault}")))
                        .ok()
                }
                (_, None) => None,
            };
            if let Some(value) = value {
                self.globals.insert(name.to_owned(), value.trim_matches(['"', '\'']).to_owned());
            }
        }
    }

    fn from(&mut self, image: &str, platform: Option<&str>, name: Option<String>, line: usize) {
        let from = match self.expand(image, line) {
            None => Source::Other,
            Some(image) if image == "scratch" => Source::Other,
            Some(image) if image.is_empty() => {
                self.notes.push(format!("{line}: FROM names no image"));
                Source::Other
            }
            Some(image) => self.source(&image, false, line),
        };
        let given = platform.and_then(|text| self.expand(text, line)).filter(|text| !text.is_empty());
        let platform = match (given, &from) {
            (Some(platform), _) => Some(platform),
            (None, Source::Stage(at)) => self.stages[*at].platform.clone(),
            (None, _) => None,
        };
        self.stages.push(Stage { name, line, from, platform, copies: Vec::new() });
    }

    fn copy(&mut self, name: &str, line: usize) {
        let source = if name.contains('$') {
            self.notes.push(format!("{line}: `--from={name}` is not known: no variables may stand there"));
            Source::Other
        } else {
            self.source(name, true, line)
        };
        if let Some(stage) = self.stages.last_mut() {
            stage.copies.push((source, line));
        }
    }

    fn source(&mut self, name: &str, may_be_number: bool, line: usize) -> Source {
        let lower = name.to_ascii_lowercase();
        if let Some(context) = self.recipe.contexts.get(&lower).or_else(|| self.recipe.contexts.get(name)) {
            if let Some(image) = context.strip_prefix("docker-image://") {
                return Source::Image(image.to_owned());
            }
            self.notes.push(format!("{line}: `{name}` is the additional context {context}, which is not looked at"));
            return Source::Other;
        }
        let named = self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(&*lower));
        // A stage copies from those before it, not from itself.
        let before = self.stages.len() - usize::from(may_be_number && !self.stages.is_empty());
        let number = name.parse().ok().filter(|number| may_be_number && *number < before);
        match named.or(number) {
            Some(at) => Source::Stage(at),
            None if name == "scratch" => Source::Other,
            None => Source::Image(name.to_owned()),
        }
    }

    /// What the target needs, by going from stage to stage.
    fn needed(self) -> Result<Vec<Base>, String> {
        let Some(last) = self.stages.len().checked_sub(1) else {
            return Err("it has no FROM".to_owned());
        };
        let target = match self.recipe.target {
            None => last,
            Some(name) => {
                let lower = name.to_ascii_lowercase();
                let named = self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(&*lower));
                let number = name.parse().ok().filter(|number| *number <= last);
                named.or(number).ok_or_else(|| format!("it has no stage `{name}`, which is the target"))?
            }
        };
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![(target, true)];
        while let Some((at, is_final)) = open.pop() {
            // What is run goes first, so a stage is never seen as another one before.
            if !seen.insert(at) {
                continue;
            }
            let stage = &self.stages[at];
            let base = |image: &String, line, is_final| Base {
                image: image.clone(),
                platform: stage.platform.clone(),
                line,
                is_final,
            };
            for (source, line) in &stage.copies {
                match source {
                    Source::Stage(from) => open.insert(0, (*from, false)),
                    Source::Image(image) => found.push(base(image, *line, false)),
                    Source::Other => {}
                }
            }
            match &stage.from {
                Source::Stage(from) => open.push((*from, is_final)),
                Source::Image(image) => found.push(base(image, stage.line, is_final)),
                Source::Other => {}
            }
        }
        found.sort_by_key(|base| base.line);
        Ok(found)
    }
}

/// Words, with quotes kept together.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        if quote.is_none() && c.is_whitespace() {
            words.push(String::new());
            continue;
        }
        match quote {
            Some(open) if open == c => quote = None,
            None if ['"', '\''].contains(&c) => quote = Some(c),
            _ => words.last_mut().into_iter().for_each(|word| word.push(c)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bases as `LINE image@platform`, with `*` where it is final, and the notes.
    fn read(text: &str, args: &[(&str, &str)], target: Option<&str>) -> Result<(Vec<String>, Vec<String>), String> {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let context = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let contexts = [context("img", "docker-image://busybox:1"), context("dir", "/src")].into();
        let platform = ImagePlatform::new("linux", "amd64", "");
        let host = ImagePlatform::new("linux", "arm64", "");
        let mut notes = Vec::new();
        let recipe = Recipe { args: &args, contexts: &contexts, target, platform, host };
        let bases = bases(text, &recipe, &mut Budget::new(), &mut notes)?;
        let show = |base: &Base| {
            let platform = base.platform.as_ref().map(|name| format!("@{name}")).unwrap_or_default();
            format!("{} {}{platform}{}", base.line, base.image, if base.is_final { "*" } else { "" })
        };
        Ok((bases.iter().map(show).collect(), notes))
    }

    fn found(text: &str, args: &[(&str, &str)], target: Option<&str>) -> Vec<String> {
        let (bases, notes) = read(text, args, target).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        bases
    }

    #[test]
    fn stages_are_followed_from_the_target() {
        let text = "# syntax=docker/dockerfile:1\nFROM --platform=$BUILDPLATFORM golang:1 AS Build\nRUN true\n\
                    FROM alpine:3 as base\nFROM unused:1 AS test\nCOPY --from=extra:2 /a /b\nFROM base\n\
                    COPY --from=build /x /y\nCOPY --from=nginx:1 /x /y\nRUN --mount=type=bind,from=tool:1,target=/t \\\n  true\n";
        let all = ["2 golang:1@linux/arm64", "4 alpine:3*", "9 nginx:1", "10 tool:1"];
        assert_eq!(found(text, &[], None), all);
        assert_eq!(found(text, &[], Some("3")), all);
        assert_eq!(found(text, &[], Some("build")), ["2 golang:1@linux/arm64*"]);
        assert_eq!(found(text, &[], Some("TEST")), ["5 unused:1*", "6 extra:2"]);
        assert!(read(text, &[], Some("none")).unwrap_err().contains("no stage `none`"));
        assert_eq!(
            found("FROM a AS x\nFROM scratch\nCOPY --from=0 / /\nCOPY --from=7 / /\n", &[], None),
            ["1 a", "4 7"]
        );
    }

    #[test]
    fn variables_of_the_dockerfile() {
        let text =
            "ARG V=1 W=2\nARG X=${V}.${W}\nARG Y\nARG Q=\"q q\"\nFROM --platform=linux/${TARGETARCH} a:$X${Y:+-y}\n";
        assert_eq!(found(text, &[], None), ["5 a:1.2@linux/amd64*"]);
        assert_eq!(found(text, &[("V", "9"), ("Y", "1")], None), ["5 a:9.2-y@linux/amd64*"]);
        assert_eq!(found("FROM x AS s-amd64\nFROM y AS s-arm64\nFROM s-${TARGETARCH}\n", &[], None), ["1 x*"]);
        assert_eq!(found("FROM a:${T:-3}\n", &[("T", "not declared")], None), ["1 a:3*"]);
        assert_eq!(found("ARG T\nFROM --platform=$TARGETPLATFORM ${T}\n", &[("T", "b")], None), ["2 b@linux/amd64*"]);
        let (bases, notes) = read("ARG T\nFROM a:$T\nCOPY --from=$X / /\n", &[], None).unwrap();
        assert_eq!(bases, Vec::<String>::new());
        assert!(notes[0].starts_with("2: `a:$T` is not known: no build argument or default for T"), "{notes:?}");
        assert!(notes[1].starts_with("3: `--from=$X` is not known"), "{notes:?}");
    }

    #[test]
    fn additional_contexts_and_mistakes() {
        let (bases, notes) = read("FROM img\nCOPY --from=dir / /\n", &[], None).unwrap();
        assert_eq!((bases[0].as_str(), notes.len()), ("1 busybox:1*", 1));
        for text in ["", "RUN x\n", "FROM\n", "ARG x\n", "WHAT is this\n"] {
            assert!(read(text, &[], None).is_err(), "{text:?}");
        }
        assert!(read("FROM a\nWHAT\n", &[], None).unwrap_err().contains("line 2"));
    }

    #[test]
    fn many_stages_take_no_time() {
        let chain =
            (0..8000).fold(String::new(), |text, n| text + &format!("FROM s{n} AS s{}\nCOPY --from=s{n} / /\n", n + 1));
        assert_eq!(found(&format!("FROM a AS s0\n{chain}"), &[], None), ["1 a*"]);
        let args =
            (0..20).fold(String::new(), |text, n| text + &format!("ARG A{}={}\n", n + 1, format!("$A{n}").repeat(8)));
        assert!(read(&format!("ARG A0=xxxxxxxx\n{args}FROM $A20\n"), &[], None).unwrap().1.len() > 1);
    }
}
