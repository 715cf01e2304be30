// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which rule a target should have.

use std::path::{Path, PathBuf};

use super::Unmet;
use crate::assess::emulator::{Choice, choose};
use crate::assess::look::Look;
use crate::assess::vet::{Defect, vet};
use crate::assess::{advice, checks};
use crate::binfmt::rule::{Flags, Rule};
use crate::config::Emulator;
use crate::emulator;
use crate::qemu;
use crate::snapshot::Snapshot;
use crate::target::Target;

/// The rule that a target should have, and whether a fragment of others restores it at boot.
pub(in crate::assess) fn desired(snapshot: &Snapshot, look: &Look<'_>) -> Result<Rule, Unmet> {
    let target = look.target;
    let fits = |rule: &Rule| {
        let credentials = rule.flags.credentials && !snapshot.config.credentials && target.rule.is_none();
        !credentials && !vet(snapshot, target, rule).iter().any(Defect::keeps_from_registering)
    };
    if let Some(rule) = &target.rule {
        return if fits(rule) { Ok(rule.clone()) } else { Err(refuse(snapshot, target, rule, true)) };
    }
    if let Some(path) = snapshot.config.interpreter_of(target.platform) {
        let rule = made_rule(snapshot, target, path);
        return if fits(&rule) { Ok(rule) } else { Err(refuse(snapshot, target, &rule, true)) };
    }
    if let Choice::Preferred { rule, .. } = choose(snapshot, look) {
        return Ok(rule);
    }
    let others = snapshot.fragments.iter().filter(|fragment| !fragment.content.ours);
    let overridden = snapshot.fragments.iter().flat_map(|f| &f.overridden).map(|o| &o.content);
    let written = others.map(|fragment| &fragment.content).chain(overridden).flat_map(|content| &content.rules);
    let named = |rule: &&Rule| rule.name == target.name && target.heads.iter().all(|head| rule.pattern.matches(head));
    if let Some(rule) = written.filter(named).find(|rule| fits(rule)) {
        return Ok(rule.clone());
    }
    let Some(platform) = target.platform else { return Err(no_qemu(snapshot, target)) };
    let ignored = |path: &PathBuf| snapshot.config.emulator == Emulator::Never && emulator::has(path);
    let paths = qemu::candidates(platform).into_iter().filter(|path| !ignored(path));
    let rules: Vec<_> = paths.map(|path| made_rule(snapshot, target, &path)).collect();
    if let Some(rule) = rules.iter().find(|rule| fits(rule)) {
        return Ok(rule.clone());
    }
    let present = |rule: &&Rule| snapshot.interpreters.get(&rule.interpreter).is_some_and(Result::is_ok);
    Err(match rules.iter().find(present) {
        Some(rule) => refuse(snapshot, target, rule, false),
        None => no_qemu(snapshot, target),
    })
}

/// The first kernel that tells an interpreter by AT_FLAGS whether its handler has `P` (binfmt_misc, Linux 5.12).
const TELLS_FLAGS: (u32, u32) = (5, 12);

/// The rule by which `interpreter` would run `target`.
pub(in crate::assess) fn made_rule(snapshot: &Snapshot, target: &Target, interpreter: &Path) -> Rule {
    // The package's QEMU takes the flag as it is told, by whatever name it is started; of others this is not known.
    let told = emulator::has(interpreter) && !snapshot.facts.has_kernel_before(TELLS_FLAGS);
    let flags = Flags {
        preserve_argv0: told || qemu::needs_preserve_argv0(interpreter),
        open_binary: true,
        credentials: snapshot.config.credentials,
        fix_binary: true,
    };
    Rule { name: target.name.clone(), pattern: target.pattern.clone(), interpreter: interpreter.to_owned(), flags }
}

/// `by_configuration` is whether the configuration names the interpreter of `rule`.
fn refuse(snapshot: &Snapshot, target: &Target, rule: &Rule, by_configuration: bool) -> Unmet {
    let defects = vet(snapshot, target, rule);
    let defect = defects.iter().find(|d| d.keeps_from_registering());
    let (id, message, advice) = defect.map_or_else(
        || ("credentials-flag", "its flag C is not asked for by the configuration".to_owned(), String::new()),
        |defect| {
            let (id, message, advice) = checks::describe_defect(snapshot, target, &rule.interpreter, defect);
            (id, format!("{}: {message}", rule.interpreter.display()), advice)
        },
    );
    // Another package would not be used where the configuration names a file.
    let file = ["interpreter-missing", "interpreter-dynamic", "interpreter-wrong-machine"];
    let advice = if by_configuration && file.contains(&id) {
        format!(
            "Name another in the configuration ({} tells the file), then {}.",
            advice::command(snapshot, "config show"),
            advice::apply(snapshot)
        )
    } else {
        advice
    };
    Unmet { subject: target.subject.clone(), id, message, advice }
}

fn no_qemu(snapshot: &Snapshot, target: &Target) -> Unmet {
    Unmet {
        subject: target.subject.clone(),
        id: "no-qemu",
        message: format!("no QEMU that can run {} programs is installed", target.subject),
        advice: advice::install_qemu(snapshot),
    }
}
