// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `fix` shows.

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use super::{Screen, Tone, escape};
use crate::emulator::PACKAGE;
use crate::host::Facts;
use crate::parts;
use crate::pi::config_txt::Edit;
use crate::pi::{Firmware, Refusal, State};

/// What `fix page-size` found and did, for scripts.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Report {
    /// The version of this form: 1.
    schema: u32,
    /// The exit code that goes with it.
    pub exit_code: u8,
    /// How the host stands.
    state: State,
    /// How large the running kernel's pages are, in bytes; 0 for a system image.
    page_size: u64,
    /// The configuration that says which kernel is started, where there is one.
    #[serde(serialize_with = "super::paths::serialize")]
    path: Option<PathBuf>,
    /// The lines that come, or with `--undo` go; empty where there is nothing to change.
    lines: Vec<String>,
    /// Whether they go.
    takes_back: bool,
    /// Whether the change was made.
    changed: bool,
    /// What it comes to, in one sentence.
    message: String,
    /// What to do; may be empty.
    advice: String,
    /// Whether somebody has seen the change.
    #[serde(skip)]
    shown: bool,
}

impl Report {
    /// That the host which `facts` are of is in `state`.
    pub fn new(state: State, facts: &Facts) -> Self {
        let size = facts.page_size / 1024;
        let (message, advice) = match state {
            State::Small => ("the kernel's pages have 4 KiB: there is nothing to do".to_owned(), String::new()),
            State::TookEffect => {
                ("the change took effect: the kernel's pages have 4 KiB".to_owned(), "To take it back: `sudo qemu-persist fix page-size --undo`.".to_owned())
            }
            State::NeedsReboot => {
                ("the kernel with pages of 4 KiB is started at the next boot".to_owned(), "Reboot.".to_owned())
            }
            State::NoEffect => (
                format!("the host has been booted since the change, and its pages still have {size} KiB"),
                "See whether that file is the one that this host boots with, and whether another line behind ours says otherwise.".to_owned(),
            ),
            State::Large if facts.page_size == 0 => ("the kernel with larger pages may be started".to_owned(), "Make the change: `--yes`.".to_owned()),
            State::Large => (format!("the kernel's pages have {size} KiB"), "Make the change: `sudo qemu-persist fix page-size --yes`.".to_owned()),
            State::NoPi => (
                format!("the kernel's pages have {size} KiB, and this is no Raspberry Pi: the kernel is changed by other means here"),
                parts::kernel_with_small_pages(facts).unwrap_or_default(),
            ),
        };
        let stays =
            matches!(state, State::Large | State::NoPi) && facts.native.first().is_some_and(|p| p.oci == "arm64");
        let advice = if stays {
            format!("{advice} Or keep its pages: the package {PACKAGE} has a QEMU for them.")
        } else {
            advice
        };
        let exit_code = match state {
            State::Small | State::TookEffect | State::NeedsReboot => 0,
            State::NoEffect | State::Large | State::NoPi => 1,
        };
        Self {
            schema: 1,
            exit_code,
            state,
            page_size: facts.page_size,
            path: None,
            lines: Vec::new(),
            takes_back: false,
            changed: false,
            shown: false,
            message,
            advice,
        }
    }

    /// Which file it is about, and what would be changed in it.
    #[must_use]
    pub fn about(mut self, firmware: &Firmware, edit: Option<&Edit>) -> Self {
        self.path = Some(firmware.path());
        if let Some(edit) = edit {
            self.lines.clone_from(&edit.lines);
            self.takes_back = edit.takes_back;
            if edit.takes_back {
                "it is not taken back yet".clone_into(&mut self.message);
                "Take it back: `sudo qemu-persist fix page-size --undo --yes`.".clone_into(&mut self.advice);
                self.exit_code = 1;
            }
        }
        self
    }

    /// The change was made, after which the host is in `state`.
    pub fn made(&mut self, state: State) {
        (self.changed, self.state, self.exit_code) = (true, state, 0);
        let (message, advice) = if self.takes_back {
            ("the change is taken back, from the next boot on", "Reboot.")
        } else {
            (
                "the kernel with pages of 4 KiB is started from the next boot on",
                "Reboot, and run this again to see whether it took effect.",
            )
        };
        message.clone_into(&mut self.message);
        advice.clone_into(&mut self.advice);
    }

    /// Of the change nothing is there.
    pub fn nothing_to_take_back(&mut self) {
        self.exit_code = 0;
        "there is nothing to take back".clone_into(&mut self.message);
        self.advice.clear();
    }

    /// The change cannot be made.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.exit_code = 2;
        self.message = refusal.to_string();
        self.advice.clear();
    }
}

/// Shows the change.
///
/// # Errors
/// Those of writing.
pub fn change(report: &mut Report, screen: &mut Screen) -> io::Result<()> {
    report.shown = true;
    lines(report, screen)
}

fn lines(report: &Report, screen: &mut Screen) -> io::Result<()> {
    if let (Some(path), false) = (&report.path, report.lines.is_empty()) {
        screen.line(format!("{}:", escape(&path.to_string_lossy())))?;
        let (mark, tone) = if report.takes_back { ('-', Tone::Bad) } else { ('+', Tone::Good) };
        for line in &report.lines {
            screen.line(screen.tint(tone, &format!("  {mark} {}", escape(line))))?;
        }
    }
    Ok(())
}

/// Shows `report` to people, or as JSON.
///
/// # Errors
/// Those of writing.
pub fn show(report: &Report, json: bool, screen: &mut Screen) -> io::Result<()> {
    if json {
        return screen.json(report);
    }
    if !report.shown {
        lines(report, screen)?;
    }
    let mut message = report.message.clone();
    if let Some(first) = message.get(..1) {
        message.replace_range(..1, &first.to_uppercase());
    }
    screen.paragraph("", 0, &format!("{}. {}", escape(&message), report.advice))?;
    screen.flush()
}
