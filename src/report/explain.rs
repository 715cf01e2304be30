// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `explain` shows.

use std::io;

use serde::Serialize;

use super::{Screen, Tone, escape};
use crate::causes::{self, Chance, Fit, Host};
use crate::finding::Finding;
use crate::selftest::ended::{Ended, EndedContainer};

/// How far the text of a cause stands to the right.
const INDENT: usize = 10;

/// What fits, for scripts.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Report {
    /// The version of this form: 1.
    pub schema: u32,
    /// The causes that fit, the likeliest first; empty where the text is not recognised.
    pub causes: Vec<Told>,
    /// With `--last`: the containers that have ended so, the last one first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<Vec<Container>>,
    /// With `--last`: what of the containers could not be found out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// A container that has ended, and what that means.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Container {
    /// The container.
    #[serde(flatten)]
    pub container: EndedContainer,
    /// The causes that fit, the likeliest first; empty where nothing is recognised.
    pub causes: Vec<Told>,
}

/// A cause that fits.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Told {
    /// Its stable name, in kebab case.
    pub id: &'static str,
    /// How likely it is here.
    pub chance: Chance,
    /// What it is: one sentence without its full stop.
    pub message: &'static str,
    /// The line of the text by which it was recognised.
    pub said: String,
    /// What on this host speaks for it or against it; empty where nothing does.
    pub because: String,
    /// What to do.
    pub advice: String,
}

impl Report {
    /// What `fits` say of `host`.
    pub fn new(fits: Vec<Fit>, host: &Host<'_>) -> Self {
        Self { schema: 1, causes: Self::tell(fits, host), containers: None, findings: Vec::new() }
    }

    /// What `ended` containers say of `host`.
    pub fn of_containers(ended: Ended, host: &Host<'_>) -> Self {
        let explain = |container: EndedContainer| Container {
            causes: Self::tell(causes::explain(&container.log, host), host),
            container,
        };
        let containers = ended.containers.into_iter().map(explain).collect();
        Self { schema: 1, causes: Vec::new(), containers: Some(containers), findings: ended.findings }
    }

    /// Whether there is no container of which nothing is recognised.
    pub fn knows_all(&self) -> bool {
        self.containers.iter().flatten().all(|container| !container.causes.is_empty())
    }

    fn tell(fits: Vec<Fit>, host: &Host<'_>) -> Vec<Told> {
        let tell = |fit: Fit| Told {
            id: fit.cause.id,
            chance: fit.weight.chance,
            message: fit.cause.title,
            said: fit.said,
            because: fit.weight.because,
            advice: (fit.cause.cure)(host),
        };
        fits.into_iter().map(tell).collect()
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
    if let Some(containers) = &report.containers {
        return show_containers(containers, &report.findings, screen);
    }
    if report.causes.is_empty() {
        screen.paragraph(
            "",
            0,
            "Nothing in this text is known. Whether foreign containers work on this host at all, `sudo qemu-persist \
             selftest` shows.",
        )?;
    }
    show_causes(&report.causes, screen)?;
    screen.flush()
}

fn show_containers(containers: &[Container], findings: &[Finding], screen: &mut Screen) -> io::Result<()> {
    if containers.is_empty() {
        screen.paragraph("", 0, "No container is known to have ended as foreign ones do that do not run here.")?;
    }
    for (number, Container { container, causes }) in containers.iter().enumerate() {
        if number > 0 {
            screen.line("")?;
        }
        let EndedContainer { engine, name, image, exit_code, finished, .. } = container;
        let head = format!("{engine}: {name} ({image}) ended with {exit_code}, {finished}");
        screen.paragraph("", 0, &escape(&head))?;
        if causes.is_empty() {
            screen.paragraph("", 0, "Nothing in what it wrote is known.")?;
        }
        show_causes(causes, screen)?;
    }
    for finding in findings {
        super::finding(finding, screen)?;
    }
    screen.flush()
}

fn show_causes(causes: &[Told], screen: &mut Screen) -> io::Result<()> {
    for (number, told) in causes.iter().enumerate() {
        if number > 0 {
            screen.line("")?;
        }
        let (word, tone) = match told.chance {
            Chance::Likely => ("likely", Tone::Bad),
            Chance::Possible => ("possible", Tone::Warning),
            Chance::Unlikely => ("unlikely", Tone::Faint),
        };
        let first = format!("{}{}", screen.tint(tone, word), " ".repeat(INDENT - word.len()));
        screen.paragraph(&first, INDENT, &format!("{}. [{}]", told.message, told.id))?;
        let mut row = |label: &str, text: &str| {
            let first = format!("  {label:<w$}", w = INDENT - 2);
            if text.is_empty() { Ok(()) } else { screen.paragraph(&first, INDENT, &escape(text)) }
        };
        row("text", &told.said)?;
        row("here", &told.because)?;
        row("do", &told.advice)?;
    }
    Ok(())
}
