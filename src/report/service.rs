// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service, as `status` shows it.

use std::io;

use super::status::ago;
use super::{Screen, Tone, span};
use crate::assess::plan::stood_in_for;
use crate::service::{BackedOff, Installed, Repair, Service, State};

/// How many of the last changes are shown.
const SHOWN: usize = 3;

/// Shows the service, in a line or a block. `now` is in seconds since boot, and none for an image;
/// `tone` is how bad what was found of it is.
///
/// # Errors
/// Those of writing.
pub(super) fn show(service: &Service, now: Option<u64>, tone: Tone, screen: &mut Screen) -> io::Result<()> {
    let word = match (service.installed, service.running) {
        (Installed::Masked, Some(true)) => "running, and masked",
        (_, Some(true)) => "running",
        (Installed::No, _) => "not installed",
        (Installed::Masked, _) => "masked",
        (Installed::Yes, Some(false)) => "not running",
        (Installed::Yes, None) if now.is_none() => "installed",
        (Installed::Yes, None) => "unknown",
    };
    // That it is not there, or not meant to run here, is not good news either.
    let tone = if tone == Tone::Good && service.running != Some(true) { Tone::Faint } else { tone };
    screen.line(format!("{} {}", screen.tint(Tone::Strong, "service"), screen.tint(tone, word)))?;
    let (Some(state), Some(now)) = (&service.state, now) else { return Ok(()) };
    for (label, text) in rows(state, now, service.running == Some(true)) {
        super::row(label, &text, screen)?;
    }
    Ok(())
}

/// What there is to tell, each with its label; one without belongs to the one above it.
fn rows(state: &State, now: u64, lives: bool) -> Vec<(&'static str, String)> {
    let since = |then: u64| ago(now.saturating_sub(then));
    let mut rows = Vec::new();
    if lives {
        rows.push(("started", format!("{}, version {}", since(state.started), state.version)));
    }
    rows.push(("last look", since(state.last_look)));
    let changes = match state.repairs {
        0 => "none".to_owned(),
        1 => "1 change".to_owned(),
        many => format!("{many} changes"),
    };
    rows.push(("repairs", format!("{changes} since boot")));
    // That a stand-in goes again explains nothing.
    let explains = |repair: &&Repair| repair.action != "retire" || stood_in_for(&repair.handler).is_none();
    rows.extend(state.recent.iter().rev().filter(explains).take(SHOWN).map(|repair| ("", tell(repair, now))));
    // What a dead service was about to do, nobody does.
    if !lives {
        return rows;
    }
    for backed_off in &state.backed_off {
        let (about, BackedOff { repairs, failing, until, .. }) = (backed_off.about(), backed_off);
        let next = span(until.saturating_sub(now));
        let what = if *failing { "failures" } else { "repairs" };
        rows.push(("backed off", format!("{about}, after {repairs} {what} in a row: tries again in {next}")));
    }
    if state.config_error.is_some() {
        rows.push(("config", "that of before, since the new one is broken".to_owned()));
    }
    rows
}

fn tell(repair: &Repair, now: u64) -> String {
    let Repair { boot_seconds, subject, action, handler, why, .. } = repair;
    let what = match action.as_str() {
        "mount" => "mounted binfmt_misc",
        "enable_all" => "turned handlers on",
        "register" => "registered",
        "enable" => "enabled",
        "retire" => "took back",
        "restore" => "registered again",
        "disable_capturing" => "disabled",
        "write_fragment" => "wrote",
        "remove_fragment" => "removed",
        other => other,
    };
    let what = if handler.is_empty() { what.to_owned() } else { format!("{what} {handler}") };
    let of = subject.as_ref().map_or(String::new(), |subject| format!(" for {subject}"));
    format!("{}: {what}{of}, because {why}", ago(now.saturating_sub(*boot_seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::Page;

    fn shown(service: &Service, now: Option<u64>) -> String {
        let page = Page::default();
        show(service, now, Tone::Good, &mut Screen::plain(page.clone())).unwrap();
        page.text()
    }

    fn busy() -> Service {
        let repair = |boot_seconds, subject: Option<&str>, action: &str, handler: &str| Repair {
            boot_seconds,
            unix_time: 1,
            subject: subject.map(Into::into),
            action: action.into(),
            handler: handler.into(),
            why: "no handler is registered\u{1b}".into(),
        };
        let state = State {
            version: "0.1.0".into(),
            started: 5,
            last_look: 7_195,
            look_every: 60,
            repairs: 5,
            recent: vec![
                repair(10, None, "mount", ""),
                repair(20, None, "enable_all", ""),
                repair(30, Some("linux/amd64"), "register", "qemu-x86_64"),
                repair(7_000, Some("linux/amd64"), "unheard_of", "qemu-x86_64"),
                repair(7_001, Some("linux/amd64"), "retire", "persist-x86_64"),
            ],
            backed_off: vec![BackedOff {
                subject: "linux/386".into(),
                file: None,
                repairs: 6,
                failing: false,
                until: 7_500,
            }],
            config_error: Some("no".into()),
            ..State::default()
        };
        Service {
            installed: Installed::Yes,
            selftest_timer: true,
            running: Some(true),
            state: Some(state),
            silent: None,
        }
    }

    #[test]
    fn what_it_did_is_told_the_newest_first() {
        let expected = "\
service running
  started      1 hour ago, version 0.1.0
  last look    5 seconds ago
  repairs      5 changes since boot
               3 minutes ago: unheard_of qemu-x86_64 for linux/amd64, because no
               handler is registered\\u{1b}
               1 hour ago: registered qemu-x86_64 for linux/amd64, because no
               handler is registered\\u{1b}
               1 hour ago: turned handlers on, because no handler is
               registered\\u{1b}
  backed off   linux/386, after 6 repairs in a row: tries again in 5 minutes
  config       that of before, since the new one is broken
";
        assert_eq!(shown(&busy(), Some(7_200)), expected);
    }

    #[test]
    fn a_dead_one_is_about_to_do_nothing() {
        let mut service = busy();
        service.running = Some(false);
        let text = shown(&service, Some(7_200));
        assert!(
            text.starts_with("service not running\n") && text.contains("repairs      5 changes since boot"),
            "{text}"
        );
        for absent in ["started", "backed off", "config"] {
            assert!(!text.contains(absent), "{text}");
        }
    }

    #[test]
    fn without_a_state_a_line_tells_it() {
        for (installed, running, now, word) in [
            (Installed::No, Some(false), Some(1), "not installed"),
            (Installed::No, None, None, "not installed"),
            (Installed::No, Some(true), Some(1), "running"),
            (Installed::Masked, Some(false), Some(1), "masked"),
            (Installed::Masked, Some(true), Some(1), "running, and masked"),
            (Installed::Masked, None, None, "masked"),
            (Installed::Yes, Some(false), Some(1), "not running"),
            (Installed::Yes, Some(true), Some(1), "running"),
            (Installed::Yes, None, Some(1), "unknown"),
            (Installed::Yes, None, None, "installed"),
        ] {
            let service = Service { installed, running, ..Service::default() };
            assert_eq!(shown(&service, now), format!("service {word}\n"));
        }
    }
}
