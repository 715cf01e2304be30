// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `image check` shows.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use super::{Screen, Tone, escape, span};
use crate::image::alternatives::{Alternative, Sureness};
use crate::image::check::Checked;
use crate::image::host::{Emulation, Host};
use crate::image::verdict::Verdict;
use crate::registry::{Quota, Source};

/// How far the text of an image stands to the right.
const INDENT: usize = 13;

/// What was found of images.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Report {
    /// The version of this form: 1.
    pub schema: u32,
    /// The exit code: the worst of the images, in the order 2, 1, 3, 0.
    pub exit_code: u8,
    /// The host that it is about: `this host`, `a Raspberry Pi 5 …`.
    pub host: String,
    /// The platform that its engines look for.
    pub platform: String,
    /// The images, in the order in which they were given.
    pub images: Vec<Told>,
    /// What registries said of how often they may still be asked, by host.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub quotas: BTreeMap<String, Quota>,
}

/// What is told of one image.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Told {
    /// The image, as it was given.
    pub image: String,
    /// Its name in full; none where it is no name.
    pub reference: Option<String>,
    /// What happens on the host.
    pub verdict: Verdict,
    /// The platform of the image that runs.
    pub platform: Option<String>,
    /// Whether an engine has to be told that platform, since it would not choose it by itself.
    pub needs_platform: bool,
    /// How emulation of it fares.
    pub emulation: Option<Emulation>,
    /// What keeps some of its programs from starting.
    pub danger: Option<String>,
    /// What there is to know: one sentence without its full stop; may be empty.
    pub because: String,
    /// What to do; may be empty.
    pub advice: String,
    /// Every platform that the image has.
    pub platforms: Vec<String>,
    /// The digest of its manifest.
    pub digest: Option<String>,
    /// Where that is known from.
    pub source: Option<Source>,
    /// Why nothing is known: a stable name, in kebab case.
    pub error: Option<&'static str>,
    /// What runs natively in its place.
    pub alternatives: Vec<ToldAlternative>,
}

/// What is told of an image that runs natively in place of another.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct ToldAlternative {
    /// The image.
    pub image: String,
    /// The platform of it that runs.
    pub platform: String,
    /// How sure it is that it does the same.
    pub sureness: Sureness,
    /// What there is to know before it is used.
    pub caution: &'static str,
}

impl From<&Alternative> for ToldAlternative {
    fn from(alternative: &Alternative) -> Self {
        Self {
            image: alternative.reference.familiar(),
            platform: alternative.platform.to_string(),
            sureness: alternative.sureness,
            caution: alternative.sureness.caution(),
        }
    }
}

impl Told {
    /// What is told of the image that was given as `given`.
    pub fn new(given: &str, checked: &Checked) -> Self {
        let outcome = &checked.outcome;
        let image = checked.image.as_ref().ok();
        Self {
            image: given.to_owned(),
            reference: Some(checked.reference.to_string()),
            verdict: outcome.verdict,
            platform: outcome.platform.as_ref().map(ToString::to_string),
            needs_platform: outcome.needs_platform,
            emulation: outcome.emulation.clone(),
            danger: outcome.danger.clone(),
            because: outcome.because.clone(),
            advice: outcome.advice.clone(),
            platforms: image.map_or_else(Vec::new, |image| image.platforms.iter().map(ToString::to_string).collect()),
            digest: image.map(|image| image.digest.clone()),
            source: image.map(|image| image.source.clone()),
            error: checked.image.as_ref().err().map(crate::registry::trouble::Trouble::id),
            alternatives: checked.alternatives.iter().map(Into::into).collect(),
        }
    }

    /// That `given` is no name of an image.
    pub fn no_name(given: &str, why: &str) -> Self {
        Self {
            image: given.to_owned(),
            reference: None,
            verdict: Verdict::Unknown,
            platform: None,
            needs_platform: false,
            emulation: None,
            danger: None,
            because: format!("this is no name of an image: {why}"),
            advice: String::new(),
            platforms: Vec::new(),
            digest: None,
            source: None,
            error: Some("no-reference"),
            alternatives: Vec::new(),
        }
    }

    /// The exit code that it stands for.
    fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Native => u8::from(self.danger.is_some()),
            Verdict::Emulated => 1,
            Verdict::CannotRun => 2,
            Verdict::Unknown => 3,
        }
    }
}

/// The worst of exit codes, in the order 2, 1, 3, 0.
pub fn worst(codes: impl Iterator<Item = u8>) -> u8 {
    codes.max_by_key(|code| [0, 2, 3, 1].get(usize::from(*code)).copied().unwrap_or(0)).unwrap_or(0)
}

impl Report {
    /// What `images` come to on `host`.
    pub fn new(host: &Host, images: Vec<Told>, quotas: BTreeMap<String, Quota>) -> Self {
        Self {
            schema: 1,
            exit_code: worst(images.iter().map(Told::exit_code)),
            host: host.label.clone(),
            platform: host.engine.to_string(),
            images,
            quotas,
        }
    }
}

/// The word for a verdict, and its tone.
pub(super) fn word(verdict: Verdict, is_endangered: bool) -> (&'static str, Tone) {
    match verdict {
        Verdict::Native if is_endangered => ("native", Tone::Warning),
        Verdict::Native => ("native", Tone::Good),
        Verdict::Emulated => ("emulated", Tone::Warning),
        Verdict::CannotRun => ("cannot run", Tone::Bad),
        Verdict::Unknown => ("unknown", Tone::Unknown),
    }
}

/// Shows `report` to people, or as JSON. With `verbose`, also where everything is known from.
///
/// # Errors
/// Those of writing.
pub fn show(report: &Report, json: bool, verbose: bool, screen: &mut Screen) -> io::Result<()> {
    if json {
        return screen.json(report);
    }
    for told in &report.images {
        show_image(told, verbose, screen)?;
    }
    if report.images.len() > 1 {
        let counts = counts(&report.images.iter().map(|told| told.verdict).collect::<Vec<_>>());
        screen.line("")?;
        screen.paragraph("", 0, &format!("{} images on {}: {counts}", report.images.len(), report.host))?;
    }
    if verbose {
        for (host, quota) in &report.quotas {
            let Quota { limit, remaining, window } = quota;
            screen.paragraph(
                "",
                0,
                &escape(&format!("{host} allows {remaining} more pulls of {limit} in {}", span(*window))),
            )?;
        }
    }
    screen.flush()
}

/// How many of each there are, in words.
pub(super) fn counts(verdicts: &[Verdict]) -> String {
    let all = [Verdict::Native, Verdict::Emulated, Verdict::CannotRun, Verdict::Unknown];
    let counts =
        all.map(|wanted| (verdicts.iter().filter(|&&verdict| verdict == wanted).count(), word(wanted, false).0));
    let counts: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    counts.join(", ")
}

fn show_image(told: &Told, verbose: bool, screen: &mut Screen) -> io::Result<()> {
    let (word, tone) = word(told.verdict, told.danger.is_some());
    let first = format!("{}{}", screen.tint(tone, word), " ".repeat(INDENT - word.len()));
    screen.paragraph(&first, INDENT, &escape(&told.image))?;
    let mut row = |text: &str| screen.paragraph(&" ".repeat(INDENT), INDENT, &escape(text));
    match (&told.platform, told.because.is_empty()) {
        (Some(platform), true) => row(platform)?,
        (Some(platform), false) => row(&format!("{platform}: {}", told.because))?,
        (None, _) => row(&told.because)?,
    }
    let is_all = told.platforms.len() == 1 && told.platforms.first() == told.platform.as_ref();
    if !told.platforms.is_empty() && !is_all {
        row(&format!("it has {}", list(&told.platforms)))?;
    }
    if !told.advice.is_empty() {
        row(&told.advice)?;
    }
    for alternative in &told.alternatives {
        row(&format!("native: {} ({}; {})", alternative.image, alternative.platform, alternative.caution))?;
    }
    if verbose {
        if let Some(source) = &told.source {
            row(&told_of_source(source))?;
        }
        told.digest.iter().try_for_each(|digest| row(digest))?;
    }
    Ok(())
}

/// The platforms, Linux's without the word.
fn list(platforms: &[String]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for platform in platforms {
        let word = platform.strip_prefix("linux/").unwrap_or(platform);
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(", ")
}

fn told_of_source(source: &Source) -> String {
    let Some(host) = &source.host else {
        return source
            .seconds_ago
            .map_or("an image that is here".to_owned(), |age| format!("as it was {} ago", span(age)));
    };
    let mirror = if source.mirror { ", a mirror" } else { "" };
    let pulls = match source.pulls {
        0 => "no pull was counted".to_owned(),
        1 => "counts as one pull".to_owned(),
        many => format!("counts as {many} pulls"),
    };
    let plural = if source.requests == 1 { "" } else { "s" };
    format!("asked {host}{mirror}: {} question{plural}, {pulls}", source.requests)
}
