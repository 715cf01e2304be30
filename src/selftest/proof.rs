// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what ran to what is remembered of it (see [`crate::record`]).
//!
//! Remembered are passes whose interpreter was seen, and failures. What could not be found out
//! neither makes a proof nor takes one away.

use std::time::{SystemTime, UNIX_EPOCH};

use super::depth::PartResult;
use super::expect::Handler;
use super::judge::Verdict;
use super::masked;
use super::report::{PlatformReport, RunResult};
use super::saying::one_line;
use crate::emulator;
use crate::parts::{FRAGMENT, is_laid_out_for_small_pages};
use crate::record::{FileIdentity, Proof, Proofs, Rejection, RuntimeResult, boot_seconds};

/// What a proof is bound to besides the handler.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The id of this boot.
    pub id: String,
    /// The kernel's release.
    pub kernel_release: String,
}

/// Enters `reports` into `proofs`. `whole` says that every runtime was meant, so that older results
/// of runtimes which are not among them no longer count. Gives whether anything was entered.
pub fn enter(proofs: &mut Proofs, reports: &[PlatformReport], boot: &Boot, whole: bool) -> bool {
    let mut entered = false;
    for report in reports {
        let name = report.platform.to_string();
        if let Some(proof) = proof(report, boot, proofs.get(&name), whole) {
            proofs.insert(name, proof);
            entered = true;
        }
    }
    entered
}

fn counts(result: &RunResult) -> Option<RuntimeResult> {
    let passed = match result.verdict {
        Verdict::Pass | Verdict::Limited => true,
        Verdict::Fail => false,
        Verdict::Unseen | Verdict::Bypassed | Verdict::Unknown => return None,
    };
    let reason = one_line(result.reason.as_bytes());
    let broken = result.parts.iter().filter_map(PartResult::broken).collect();
    let working = result.parts.iter().filter(|part| part.works()).map(|part| part.part.to_owned()).collect();
    Some(RuntimeResult { runtime: result.runtime.to_owned(), passed, reason, broken, working })
}

fn proof(report: &PlatformReport, boot: &Boot, older: Option<&Proof>, whole: bool) -> Option<Proof> {
    let mut results: Vec<_> = report.results.iter().filter_map(counts).collect();
    if results.is_empty() {
        return None;
    }
    let (entry, entry_inode) = match &report.expectation.handler {
        Handler::Wins { rule, inode, .. } => (rule.clone(), *inode),
        _ => (String::new(), 0),
    };
    let passed = report.results.iter().find(|result| result.verdict.works());
    let seen = passed.or_else(|| report.results.iter().find(|result| result.interpreter.is_some()));
    let proof = Proof {
        boot_id: boot.id.clone(),
        kernel_release: boot.kernel_release.clone(),
        unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or_default(),
        boot_seconds: boot_seconds(),
        entry,
        entry_inode,
        interpreter: seen.and_then(|result| result.interpreter.as_ref()).map(|exe| exe.identity.clone()),
        results: Vec::new(),
        rejected: rejected(report, boot, older),
    };
    let older = older.filter(|older| same_binding(older, &proof));
    // What this run did not look at is as it was.
    for result in &mut results {
        let looked_at = report.results.iter().filter(|r| r.runtime == result.runtime).flat_map(|r| &r.parts);
        let looked_at: Vec<_> = looked_at.map(|part| part.part).collect();
        let known = older.and_then(|older| older.results.iter().find(|known| known.runtime == result.runtime));
        let Some(known) = known else { continue };
        let is_kept = |part: &str| !looked_at.contains(&part);
        result.broken.extend(known.broken.iter().filter(|broken| is_kept(&broken.part)).cloned());
        result.working.extend(known.working.iter().filter(|part| is_kept(part)).cloned());
    }
    if let Some(older) = older.filter(|_| !whole) {
        let again =
            |kept: &RuntimeResult| report.results.iter().any(|r| r.runtime == kept.runtime && counts(r).is_some());
        results.extend(older.results.iter().filter(|kept| !again(kept)).cloned());
    }
    Some(Proof { results, ..proof })
}

/// Whether QEMU of qemu-persist-emulator is rejected after `report`. What was run through another says nothing of it,
/// and what is known of it stays.
fn rejected(report: &PlatformReport, boot: &Boot, older: Option<&Proof>) -> Option<Rejection> {
    let known = || older.and_then(|older| older.rejected.clone());
    let Handler::Wins { interpreter, file: Ok(file), .. } = &report.expectation.handler else { return known() };
    if !emulator::has(interpreter) {
        return known();
    }
    let ran: Vec<_> = report.results.iter().filter(|result| is_of(result, file) && counts(result).is_some()).collect();
    let reject = |reason: String| {
        let kernel_release = boot.kernel_release.clone();
        Some(Rejection { kernel_release, interpreter: file.clone(), reason })
    };
    let fragment =
        |result: &&RunResult| result.parts.iter().filter_map(PartResult::broken).find(|b| b.part == FRAGMENT);
    if let Some(broken) = ran.iter().find_map(fragment) {
        return reject(format!("{FRAGMENT}: {}", one_line(broken.detail.as_bytes())));
    }
    if ran.iter().any(|result| result.verdict.works()) {
        // That containers run says nothing of what it is there for, where that was not looked at or not found out.
        let confirms = |result: &&RunResult| result.parts.iter().any(|part| part.part == FRAGMENT && part.works());
        let is_open = is_laid_out_for_small_pages(report.platform) && !ran.iter().any(confirms);
        return if is_open { known() } else { None };
    }
    // Where the kernel did not even take the handler, or something else answered, no interpreter would fare better.
    let answered_itself = |result: &RunResult| result.machine.as_deref().is_none_or(|said| said == report.expected);
    let is_its_own =
        |result: &&&RunResult| !result.is_not_taken && result.cause != Some(masked::ID) && answered_itself(result);
    let failed = ran.iter().find(is_its_own);
    match failed {
        Some(result) => reject(format!("{}: {}", result.runtime, one_line(result.reason.as_bytes()))),
        None => known(),
    }
}

/// Whether what ran was `file`, as far as it was seen.
fn is_of(result: &RunResult, file: &FileIdentity) -> bool {
    result.interpreter.as_ref().is_none_or(|exe| !exe.inside && exe.identity.is_same(file))
}

/// Whether both are of one boot, kernel, registration and interpreter.
fn same_binding(one: &Proof, other: &Proof) -> bool {
    one.boot_id == other.boot_id
        && one.kernel_release == other.kernel_release
        && one.entry == other.entry
        && one.entry_inode == other.entry_inode
        && match (&one.interpreter, &other.interpreter) {
            (Some(one), Some(other)) => one.is_same(other),
            // A container that did not run shows none.
            _ => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;
    use crate::platform::Platform;
    use crate::selftest::depth::Found;
    use crate::selftest::expect::Expectation;
    use crate::selftest::sight::Exe;

    fn identity(ino: u64) -> FileIdentity {
        FileIdentity { dev: 1, ino, size: 2, mtime_ns: 3, ctime_ns: 4, build_id: None }
    }

    fn report(results: &[(&'static str, Verdict)]) -> PlatformReport {
        let platform = Platform::named("amd64").unwrap();
        let handler = Handler::Wins {
            name: "q".into(),
            rule: ":q:".into(),
            inode: 5,
            interpreter: "/q".into(),
            fixed: true,
            file: Ok(identity(1)),
        };
        let result = |&(runtime, verdict): &(&'static str, Verdict)| RunResult {
            runtime,
            version: None,
            verdict,
            machine: None,
            interpreter: (verdict == Verdict::Pass).then(|| Exe {
                path: "/q".into(),
                deleted: false,
                identity: identity(1),
                inside: false,
            }),
            package: None,
            programs: Vec::new(),
            parts: Vec::new(),
            seconds: 0.1,
            cause: None,
            is_not_taken: false,
            reason: if verdict == Verdict::Pass { String::new() } else { "x".repeat(1000) },
            advice: String::new(),
        };
        PlatformReport {
            platform,
            expected: platform.uname,
            handler: Some("q".into()),
            expectation: Expectation { platform, host: "aarch64".into(), handler },
            results: results.iter().map(result).collect(),
        }
    }

    fn after(runs: &[(&[(&'static str, Verdict)], bool)]) -> Vec<(String, bool)> {
        let boot = Boot { id: "b".into(), kernel_release: "k".into() };
        let mut proofs = Proofs::new();
        for (results, whole) in runs {
            enter(&mut proofs, &[report(results)], &boot, *whole);
        }
        let Some(proof) = proofs.get("linux/amd64") else { return Vec::new() };
        assert!(proof.results.iter().all(|result| result.reason.chars().count() <= 300));
        proof.results.iter().map(|result| (result.runtime.clone(), result.passed)).collect()
    }

    #[test]
    fn what_is_known_replaces_what_was_known() {
        use Verdict::{Fail, Pass, Unknown, Unseen};
        let kept = |results: &[(&str, bool)]| results.iter().map(|(r, p)| ((*r).to_owned(), *p)).collect::<Vec<_>>();
        assert_eq!(after(&[(&[("docker", Pass)], true)]), kept(&[("docker", true)]));
        assert_eq!(after(&[(&[("docker", Pass)], true), (&[("docker", Fail)], false)]), kept(&[("docker", false)]));
        assert_eq!(after(&[(&[("docker", Unseen)], true)]), kept(&[]));
        assert_eq!(after(&[(&[("docker", Pass)], true), (&[("docker", Unknown)], true)]), kept(&[("docker", true)]));
        let by_one = after(&[(&[("docker", Fail)], true), (&[("builtin", Pass)], false)]);
        assert_eq!(by_one, kept(&[("builtin", true), ("docker", false)]));
        let by_all = after(&[(&[("docker", Fail)], true), (&[("podman", Pass)], true)]);
        assert_eq!(by_all, kept(&[("podman", true)]));
    }

    type Change = fn(&mut PlatformReport);

    /// What a self-test with the interpreter `path` gives: the verdict, and what was found out about one part.
    fn with_interpreter(path: &str, verdict: Verdict, part: Option<(&'static str, Found)>) -> PlatformReport {
        let mut report = report(&[("docker", verdict)]);
        if let Handler::Wins { interpreter, .. } = &mut report.expectation.handler {
            *interpreter = path.into();
        }
        for result in &mut report.results {
            result.reason = "exit code 1".into();
            result.parts = Vec::from_iter(part.map(|(part, found)| PartResult {
                part,
                found,
                detail: "EFAULT".into(),
                advice: String::new(),
                severity: Severity::Warning,
            }));
        }
        report
    }

    #[test]
    fn a_packages_qemu_is_rejected_by_what_ran_through_it_alone() {
        use Verdict::{Fail, Limited, Pass, Unknown};
        const PACKAGES: &str = "/usr/libexec/qemu-persist/qemu-x86_64";
        let broken = Some((FRAGMENT, Found::Broken));
        let works = Some((FRAGMENT, Found::Works));
        let failed = "docker: exit code 1";
        let fragment = "pages.fragment: EFAULT";
        let not_taken = |report: &mut PlatformReport| report.results[0].is_not_taken = true;
        let masked = |report: &mut PlatformReport| report.results[0].cause = Some(masked::ID);
        let other_answered = |report: &mut PlatformReport| report.results[0].machine = Some("aarch64".into());
        let answered = |report: &mut PlatformReport| report.results[0].machine = Some("x86_64".into());
        let through_another = |report: &mut PlatformReport| {
            let exe = Exe { path: "/q".into(), deleted: false, identity: identity(9), inside: false };
            report.results[0].interpreter = Some(exe);
        };
        let as_it_is = |_: &mut PlatformReport| {};
        let other_part = Some(("threads.run", Found::Broken));
        // One after the other: what ran, and what is known after it.
        let rows: [(&str, PlatformReport, Change, Option<&str>); 17] = [
            ("another", with_interpreter("/usr/bin/qemu-x86_64", Limited, broken), as_it_is, None),
            ("it works", with_interpreter(PACKAGES, Pass, works), as_it_is, None),
            ("nothing known", with_interpreter(PACKAGES, Unknown, None), as_it_is, None),
            ("not taken", with_interpreter(PACKAGES, Fail, None), not_taken, None),
            ("masked", with_interpreter(PACKAGES, Fail, None), masked, None),
            ("something else answered", with_interpreter(PACKAGES, Fail, None), other_answered, None),
            ("through another", with_interpreter(PACKAGES, Fail, None), through_another, None),
            ("something else is broken", with_interpreter(PACKAGES, Limited, other_part), as_it_is, None),
            ("it answered, and crashed", with_interpreter(PACKAGES, Fail, None), answered, Some(failed)),
            ("and works again", with_interpreter(PACKAGES, Pass, works), as_it_is, None),
            ("it does not help", with_interpreter(PACKAGES, Limited, broken), as_it_is, Some(fragment)),
            ("the distribution's", with_interpreter("/usr/bin/qemu-x86_64", Pass, works), as_it_is, Some(fragment)),
            ("it does not run", with_interpreter(PACKAGES, Fail, None), as_it_is, Some(failed)),
            ("nothing known of it", with_interpreter(PACKAGES, Fail, None), not_taken, Some(failed)),
            ("it runs", with_interpreter(PACKAGES, Pass, None), as_it_is, Some(failed)),
            (
                "it runs, and may help",
                with_interpreter(PACKAGES, Pass, Some((FRAGMENT, Found::Unknown))),
                as_it_is,
                Some(failed),
            ),
            ("it runs, and helps", with_interpreter(PACKAGES, Pass, works), as_it_is, None),
        ];
        let boot = Boot { id: "b".into(), kernel_release: "6.12".into() };
        let mut proofs = Proofs::new();
        for (case, mut report, change, expected) in rows {
            change(&mut report);
            enter(&mut proofs, &[report], &boot, true);
            let rejected = proofs.get("linux/amd64").and_then(|proof| proof.rejected.as_ref());
            assert_eq!(rejected.map(|rejected| rejected.reason.as_str()), expected, "{case}");
            assert!(rejected.is_none_or(|rejected| rejected.is_of("6.12", &identity(1))), "{case}");
        }
        // One of several runtimes is enough for a pass, and what is broken counts wherever it was seen.
        let mut both = with_interpreter(PACKAGES, Pass, works);
        both.results.extend(with_interpreter(PACKAGES, Fail, None).results);
        enter(&mut proofs, &[both], &boot, true);
        assert_eq!(proofs["linux/amd64"].rejected, None);
        assert_eq!(proofs["linux/amd64"].results[0].working, [FRAGMENT]);
        // Programs of other platforms are laid out for all pages, and that they run is all there is to show.
        let mut arm = with_interpreter("/usr/libexec/qemu-persist/qemu-aarch64", Fail, None);
        arm.platform = Platform::named("arm64").unwrap();
        enter(&mut proofs, &[arm.clone()], &boot, true);
        assert!(proofs["linux/arm64"].rejected.is_some());
        arm.results[0].verdict = Pass;
        enter(&mut proofs, &[arm], &boot, true);
        assert_eq!(proofs["linux/arm64"].rejected, None);
    }
}
