// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `compose check` shows.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

use super::image::{ToldAlternative, word, worst};
use super::{Screen, Tone, escape};
use crate::compose::check::{Remark, Row};
use crate::compose::{Place, Project, ReadBy};
use crate::image::host::{Emulation, Host};
use crate::image::verdict::Verdict;
use crate::registry::Quota;

/// How wide the names of services may become.
const SERVICE: usize = 24;
/// How wide a verdict is.
const VERDICT: usize = 10;
/// What stands between two columns.
const GAP: usize = 2;

/// What was found of a Compose project.
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
    /// By what the files were read: Docker Compose and its version, or this program.
    pub read_by: String,
    /// The files.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    pub files: Vec<PathBuf>,
    /// The images that the services need, in the order of the files.
    pub images: Vec<Told>,
    /// What could not be resolved, or should be known: sentences.
    pub notes: Vec<String>,
    /// What registries said of how often they may still be asked, by host.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub quotas: BTreeMap<String, Quota>,
}

/// What is told of one image of a service.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Told {
    /// The service.
    pub service: String,
    /// The image, as the file has it; empty where there is none.
    pub image: String,
    /// Whether it is what something is built from, not what is run as it is.
    pub is_base: bool,
    /// What happens on the host, as the file stands.
    pub verdict: Verdict,
    /// The platform of the image that runs.
    pub platform: Option<String>,
    /// How emulation of it fares.
    pub emulation: Option<Emulation>,
    /// What keeps some of its programs from starting.
    pub danger: Option<String>,
    /// What there is to know: one sentence without its full stop; may be empty.
    pub because: String,
    /// The `platform:` that the service should have; none where it is right as it is.
    pub wanted_platform: Option<String>,
    /// What to know, and to do.
    pub remarks: Vec<ToldRemark>,
    /// Every platform that the image has.
    pub platforms: Vec<String>,
    /// Why nothing is known: a stable name, in kebab case.
    pub error: Option<&'static str>,
    /// What runs natively in its place.
    pub alternatives: Vec<ToldAlternative>,
}

/// Something to know of a service.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct ToldRemark {
    /// Its stable name, in kebab case: `platform-needed`, `platform-wrong`, `platform-needless`, `unfit-workload`.
    pub id: &'static str,
    /// What to do: one or two sentences.
    pub text: String,
    /// The file and line that it is about, as `FILE:LINE`.
    pub place: Option<String>,
}

impl From<&Remark> for ToldRemark {
    fn from(remark: &Remark) -> Self {
        Self { id: remark.id(), text: remark.text(), place: remark.place().map(Place::to_string) }
    }
}

impl From<&Row> for Told {
    fn from(row: &Row) -> Self {
        let image = row.checked.as_ref().and_then(|checked| checked.image.as_ref().ok());
        let trouble = row.checked.as_ref().and_then(|checked| checked.image.as_ref().err());
        let alternatives = row.checked.as_ref().map_or(&[][..], |checked| checked.alternatives.as_slice());
        // What runs natively with another line needs no other image.
        let is_needless = row.remarks.iter().any(|remark| matches!(remark, Remark::NeedlessPlatform { .. }));
        let outcome = &row.outcome;
        Self {
            service: row.service.clone(),
            image: row.image.clone(),
            is_base: row.is_base,
            verdict: outcome.verdict,
            platform: outcome.platform.as_ref().map(ToString::to_string),
            emulation: outcome.emulation.clone(),
            danger: outcome.danger.clone(),
            because: outcome.because.clone(),
            wanted_platform: row.wanted.as_ref().map(ToString::to_string),
            remarks: row.remarks.iter().map(Into::into).collect(),
            platforms: image.map_or_else(Vec::new, |image| image.platforms.iter().map(ToString::to_string).collect()),
            error: trouble.map(crate::registry::trouble::Trouble::id),
            alternatives: if is_needless { Vec::new() } else { alternatives.iter().map(Into::into).collect() },
        }
    }
}

impl Report {
    /// What `rows` come to, which `project` needs on `host`.
    pub fn new(project: &Project, rows: &[Row], host: &Host, quotas: BTreeMap<String, Quota>) -> Self {
        Self {
            schema: 1,
            exit_code: worst(rows.iter().map(|row| row.outcome.exit_code())),
            host: host.label.clone(),
            platform: host.engine.to_string(),
            read_by: reader(&project.read_by),
            files: project.files.clone(),
            images: rows.iter().map(Into::into).collect(),
            notes: project.remarks.iter().map(ToString::to_string).collect(),
            quotas,
        }
    }
}

/// By what files were read, in words.
fn reader(read_by: &ReadBy) -> String {
    match read_by {
        ReadBy::DockerCompose { version } => format!("docker compose {version}"),
        ReadBy::StandaloneCompose { version } => format!("docker-compose {version}"),
        ReadBy::Own => "qemu-persist".to_owned(),
    }
}

/// Shows `report` to people, or as JSON.
///
/// # Errors
/// Those of writing.
pub fn show(report: &Report, json: bool, screen: &mut Screen) -> io::Result<()> {
    if json {
        return screen.json(report);
    }
    let longest = report.images.iter().map(|told| told.service.chars().count());
    let width = longest.chain(["service".len()]).max().unwrap_or(0).min(SERVICE) + GAP;
    let head = format!("{:<width$}{:<w$}image", "service", "here", w = VERDICT + GAP);
    screen.line(screen.tint(Tone::Faint, &head))?;
    for told in &report.images {
        show_image(told, width, screen)?;
    }
    let counts = super::image::counts(&report.images.iter().map(|told| told.verdict).collect::<Vec<_>>());
    screen.line("")?;
    screen.paragraph("", 0, &format!("On {}: {counts}", report.host))?;
    for note in &report.notes {
        screen.line("")?;
        screen.paragraph(&screen.tint(Tone::Faint, "note  "), 6, &escape(note))?;
    }
    screen.flush()
}

/// One row, and below it what there is to know and to do.
fn show_image(told: &Told, width: usize, screen: &mut Screen) -> io::Result<()> {
    let (word, tone) = word(told.verdict, told.danger.is_some());
    let image = match (told.image.as_str(), told.is_base) {
        ("", true) => "(built here)".to_owned(),
        ("", false) => "(none)".to_owned(),
        (image, true) => format!("{image} (base of what is built)"),
        (image, false) => image.to_owned(),
    };
    let service = escape(&told.service);
    let blanks = |text: &str, width: usize| " ".repeat(width.saturating_sub(text.chars().count()).max(1));
    let (after, behind) = (blanks(&service, width), blanks(word, VERDICT + GAP));
    screen.line(format!("{service}{after}{}{behind}{}", screen.tint(tone, word), escape(&image)))?;
    let mut row = |text: &str| screen.paragraph(&" ".repeat(width), width, &escape(text));
    if !told.because.is_empty() {
        row(&sentence(&told.because))?;
    }
    told.remarks.iter().try_for_each(|remark| row(&remark.text))?;
    told.alternatives.iter().try_for_each(|it| row(&format!("Native: {} ({}).", it.image, it.caution)))
}

/// `text` with a capital at its beginning and a full stop at its end.
fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", rest.as_str().trim_end_matches('.'))
}
