// SPDX-License-Identifier: MIT OR Apache-2.0
//! Causes: what the errors of foreign programs mean, how likely each is on this host, and its cure.
//!
//! One table, for the self-test and for `explain`: [`CAUSES`](table::CAUSES). What a text says is
//! matched by [`Sign`]s; what a [`Host`] shows makes a cause likely or rules it out.

pub mod table;
#[cfg(test)]
mod tests;
mod weigh;

use serde::Serialize;

use crate::assess::Assessment;
use crate::assess::look::Look;
use crate::finding::Finding;
use crate::host::cpu;
use crate::snapshot::Snapshot;

/// The host, as far as causes depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// What was read.
    pub snapshot: &'a Snapshot,
    /// What was seen of each wanted target.
    pub looks: &'a [Look<'a>],
    /// What was found.
    pub findings: &'a [Finding],
    /// How many bits addresses have here, where that is known.
    pub address_bits: Option<u32>,
}

impl<'a> Host<'a> {
    /// The host that `snapshot` is of, and what was found there.
    pub fn new(snapshot: &'a Snapshot, assessment: &'a Assessment<'a>) -> Self {
        let Assessment { looks, findings, .. } = assessment;
        Self { snapshot, looks, findings, address_bits: cpu::address_bits().ok() }
    }
}

/// How likely a cause is, by what the host shows. The order is that in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Chance {
    /// The host shows what brings it about.
    Likely,
    /// Nothing here speaks for it or against it.
    Possible,
    /// The host shows the contrary.
    Unlikely,
}

/// A chance, and what on this host speaks for it; empty where nothing does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// The chance.
    pub chance: Chance,
    /// One sentence without its full stop.
    pub because: String,
}

/// By what a cause is recognised.
#[derive(Clone, Copy, Debug)]
pub enum Sign {
    /// A line that has all of these, in lower case and in any order.
    Line(&'static [&'static str]),
    /// An exit code, as engines and shells tell it: 128 and the signal's number for a signal.
    Exit(u8),
    /// The number of a signal, as programs tell it that others are ended by: `signal 4`.
    Signal(u8),
    /// A text that is this and nothing else, in lower case: what is too common in logs to be a sign there.
    Alone(&'static str),
}

/// Something that goes wrong with foreign programs.
#[derive(Debug)]
pub struct Cause {
    /// Stable name, in kebab case.
    pub id: &'static str,
    /// What it is, in one sentence without its full stop.
    pub title: &'static str,
    /// By what it is recognised, the most telling first.
    pub signs: &'static [Sign],
    /// How likely it is on a host.
    pub weigh: fn(&Host<'_>) -> Weight,
    /// What to do about it on a host, in one or a few sentences.
    pub cure: fn(&Host<'_>) -> String,
}

/// A cause that fits a text.
#[derive(Debug)]
pub struct Fit {
    /// The cause.
    pub cause: &'static Cause,
    /// The line of the text by which it was recognised.
    pub said: String,
    /// How likely it is here.
    pub weight: Weight,
    /// Which of the cause's signs it was: the first ones tell more.
    rank: usize,
}

/// How much of a line is looked at and shown, in characters.
const LONGEST_LINE: usize = 2000;

/// The exit code that a line in lower case tells: `exited with code 139`, `exit status 132`,
/// `Exited (133)`, `exit code: 127`.
fn exit_code(line: &str) -> Option<u8> {
    number_behind_word(line, "exit")
}

fn number_behind_word(line: &str, word: &str) -> Option<u8> {
    line.match_indices(word).find_map(|(at, _)| number_behind(&line[at..]))
}

fn number_behind(behind: &str) -> Option<u8> {
    let digits = behind.find(|c: char| c.is_ascii_digit())?;
    // Only a few words may stand in between.
    let between = &behind[..digits];
    let plain = |c: char| c.is_ascii_alphabetic() || " :=(\"'_".contains(c);
    if between.len() > 24 || !between.chars().all(plain) {
        return None;
    }
    let number = &behind[digits..];
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

impl Sign {
    /// Whether it is in `line`, one of `lines` in the text.
    fn is_in(self, line: &str, lines: usize) -> bool {
        match self {
            Self::Line(parts) => parts.iter().all(|part| line.contains(part)),
            Self::Exit(code) => exit_code(line) == Some(code),
            Self::Signal(number) => number_behind_word(line, "signal") == Some(number),
            Self::Alone(text) => lines == 1 && line.trim_end_matches('.') == text,
        }
    }
}

/// The likeliest cause that fits `text`, unless this host speaks against all of them.
pub fn likeliest(text: &str, host: &Host<'_>) -> Option<&'static Cause> {
    let fit = explain(text, host).into_iter().next()?;
    (fit.weight.chance != Chance::Unlikely).then_some(fit.cause)
}

/// The causes that fit `text`, the likeliest first.
pub fn explain(text: &str, host: &Host<'_>) -> Vec<Fit> {
    let lines: Vec<(String, String)> = text
        .lines()
        .map(|line| line.trim().chars().take(LONGEST_LINE).collect::<String>())
        .filter(|line| !line.is_empty())
        .map(|line| (line.to_lowercase(), line))
        .collect();
    let mut fits: Vec<Fit> = Vec::new();
    for cause in table::CAUSES {
        let found = cause.signs.iter().enumerate().find_map(|(rank, sign)| {
            let line = lines.iter().find(|(lower, _)| sign.is_in(lower, lines.len()));
            line.map(|(_, line)| (rank, line.clone()))
        });
        if let Some((rank, said)) = found {
            fits.push(Fit { cause, said, weight: (cause.weigh)(host), rank });
        }
    }
    fits.sort_by_key(|fit| (fit.weight.chance, fit.rank));
    fits
}
