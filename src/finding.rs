// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a look at the system can find, and how bad it is.

use serde::Serialize;

/// How bad a finding is. The order is that in which the worst is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// Could not be found out, which is never taken for good.
    Unknown,
    /// Works, but not as it should, or not proven.
    Warning,
    /// A wanted platform does not work.
    Critical,
}

impl Severity {
    /// The exit code that it stands for (the Nagios convention): 0, 1, 2 or 3.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Note => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

/// One thing found: what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Finding {
    /// Stable name, in kebab case. Scripts may compare it; it is never reused.
    #[cfg_attr(feature = "assets", schemars(with = "crate::report::schema::FindingId"))]
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The platform (`linux/amd64`) or handler that it is about; none for the host as a whole.
    pub subject: Option<String>,
    /// One sentence: what is wrong.
    pub message: String,
    /// One sentence: what to do. Empty for a note that asks for nothing.
    pub advice: String,
}

/// What `findings` come to, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// There is nothing worse than a note.
    Ok,
    /// It works, and something asks for attention.
    Warning,
    /// Something that is wanted does not work.
    Critical,
    /// It could not be found out.
    Unknown,
}

impl Health {
    /// That of the worst of `findings`.
    pub fn of<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Self {
        match findings.into_iter().map(|f| f.severity).max() {
            None | Some(Severity::Note) => Self::Ok,
            Some(Severity::Unknown) => Self::Unknown,
            Some(Severity::Warning) => Self::Warning,
            Some(Severity::Critical) => Self::Critical,
        }
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
        }
    }
}

/// What is found other than by the checks of `status`: each id, and what it is about.
pub const OTHERS: &[(&str, &str)] = &[
    ("containers-unknown", "an engine does not say which containers it runs"),
    ("build-without-handler", "builds of a platform may work although its containers do not run"),
    ("engine-down", "an engine was not tested, since it does not answer"),
    ("selftest-failed", "the container does not work as it must"),
    ("handlers-masked", "the engine's user namespace has handlers of its own, which hide those of the host"),
    ("selftest-unseen", "the answer is right, but the interpreter could not be looked at"),
    (
        "selftest-bypassed",
        "the answer is right, but through an emulator of the engine's own, so that it shows nothing of the handler",
    ),
    ("selftest-unknown", "whether the container works could not be found out"),
    ("selftest-no-probe", "a handler of the configuration's own was not tested"),
    ("selftest-nothing", "no platform is wanted, so that nothing was run"),
    ("selftest-image", "the image to test with cannot be used"),
    ("program-broken", "a program of an image or folder does not start, and others do"),
    ("selftest-leftover", "something that the self-test has left could not be removed"),
    ("registration-not-recorded", "what was registered could not be written down"),
    ("proof-not-recorded", "what the self-test found out could not be written down"),
];

/// The exit code of the worst of `findings`, 0 for none.
pub fn exit_code<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> u8 {
    findings.into_iter().map(|f| f.severity).max().map_or(0, Severity::exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_wins_in_the_order_2_1_3_0() {
        let code = |severities: &[Severity]| severities.iter().max().map_or(0, |s| s.exit_code());
        assert_eq!(code(&[]), 0);
        assert_eq!(code(&[Severity::Note]), 0);
        assert_eq!(code(&[Severity::Note, Severity::Unknown]), 3);
        assert_eq!(code(&[Severity::Unknown, Severity::Warning]), 1);
        assert_eq!(code(&[Severity::Critical, Severity::Warning, Severity::Unknown]), 2);
    }
}
