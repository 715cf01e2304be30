// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `explain` shows.

use std::io;

use serde::Serialize;

use super::{Screen, Tone, escape};
use crate::causes::{Chance, Fit, Host};

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
        let tell = |fit: Fit| Told {
            id: fit.cause.id,
            chance: fit.weight.chance,
            message: fit.cause.title,
            said: fit.said,
            because: fit.weight.because,
            advice: (fit.cause.cure)(host),
        };
        Self { schema: 1, causes: fits.into_iter().map(tell).collect() }
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
    if report.causes.is_empty() {
        screen.paragraph(
            "",
            0,
            "Nothing in this text is known. Whether foreign containers work on this host at all, `sudo qemu-persist \
             selftest` shows.",
        )?;
    }
    for (number, told) in report.causes.iter().enumerate() {
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
    screen.flush()
}
