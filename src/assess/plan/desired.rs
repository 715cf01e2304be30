// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which rule a target should have.

use std::path::Path;

use super::Unmet;
use crate::assess::look::Look;
use crate::assess::vet::{Defect, vet};
use crate::assess::{advice, checks};
use crate::binfmt::rule::{Flags, Rule};
use crate::qemu;
use crate::snapshot::Snapshot;
use crate::target::Target;

/// The rule that a target should have, and whether a fragment of others restores it at boot.
pub(super) fn desired(snapshot: &Snapshot, look: &Look<'_>) -> Result<Rule, Unmet> {
    let target = look.target;
    let fits = |rule: &Rule| {
        let credentials = rule.flags.credentials && !snapshot.config.credentials && target.rule.is_none();
        !credentials && vet(snapshot, target, rule).iter().all(|defect| !defect.is_blocking() && !is_doubt(defect))
    };
    if let Some(rule) = &target.rule {
        return if fits(rule) { Ok(rule.clone()) } else { Err(refuse(snapshot, target, rule, true)) };
    }
    if let Some(path) = snapshot.config.interpreter_of(target.platform) {
        let rule = make_rule(snapshot, target, path);
        return if fits(&rule) { Ok(rule) } else { Err(refuse(snapshot, target, &rule, true)) };
    }
    let others = snapshot.fragments.iter().filter(|fragment| !fragment.content.ours);
    let overridden = snapshot.fragments.iter().flat_map(|f| &f.overridden).map(|o| &o.content);
    let written = others.map(|fragment| &fragment.content).chain(overridden).flat_map(|content| &content.rules);
    let named = |rule: &&Rule| rule.name == target.name && target.heads.iter().all(|head| rule.pattern.matches(head));
    if let Some(rule) = written.filter(named).find(|rule| fits(rule)) {
        return Ok(rule.clone());
    }
    let Some(platform) = target.platform else { return Err(no_qemu(snapshot, target)) };
    let rules = qemu::candidates(platform).map(|path| make_rule(snapshot, target, &path));
    if let Some(rule) = rules.iter().find(|rule| fits(rule)) {
        return Ok(rule.clone());
    }
    let present = |rule: &&Rule| snapshot.interpreters.get(&rule.interpreter).is_some_and(Result::is_ok);
    Err(match rules.iter().find(present) {
        Some(rule) => refuse(snapshot, target, rule, false),
        None => no_qemu(snapshot, target),
    })
}

/// Whether a defect leaves open whether the interpreter is safe: enough not to register it.
pub(super) fn is_doubt(defect: &Defect) -> bool {
    matches!(defect, Defect::InterpreterTrustUnknown(_))
}

fn make_rule(snapshot: &Snapshot, target: &Target, interpreter: &Path) -> Rule {
    let flags = Flags {
        preserve_argv0: qemu::needs_preserve_argv0(interpreter),
        open_binary: true,
        credentials: snapshot.config.credentials,
        fix_binary: true,
    };
    Rule { name: target.name.clone(), pattern: target.pattern.clone(), interpreter: interpreter.to_owned(), flags }
}

/// `by_configuration` is whether the configuration names the interpreter of `rule`.
fn refuse(snapshot: &Snapshot, target: &Target, rule: &Rule, by_configuration: bool) -> Unmet {
    let defects = vet(snapshot, target, rule);
    let defect = defects.iter().find(|d| d.is_blocking() || is_doubt(d));
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
