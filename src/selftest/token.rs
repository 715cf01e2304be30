// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names of what a run of the self-test leaves with an engine while it runs.
//!
//! A name says on which boot it was given and until when the run that gave it can last, in seconds
//! of the boot's own clock. What a killed run has left behind is recognised by that alone, and a run
//! beside this one is left in peace.

use std::fmt;
use std::time::Duration;

use crate::platform::Platform;
use crate::record::boot_seconds;

/// The repository of the private images. `localhost` is no registry of anybody's, and all engines
/// keep the name as it is.
pub const REPOSITORY: &str = "localhost/qemu-persist/selftest";
/// What the names of the containers start with.
pub const CONTAINER_PREFIX: &str = "qemu-persist-selftest-";
/// The label that both carry, with the value `1`.
pub const LABEL: &str = "qemu-persist.selftest";

/// Where the kernel gives a random UUID (random(4)).
const UUID: &str = "/proc/sys/kernel/random/uuid";

/// Sixteen hexadecimal digits that nobody guesses.
///
/// # Errors
/// Where /proc does not give them.
pub fn nonce() -> std::io::Result<String> {
    let uuid = std::fs::read_to_string(UUID).map_err(|e| std::io::Error::new(e.kind(), format!("{UUID}: {e}")))?;
    let digits: String = uuid.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    if digits.len() == 16 { Ok(digits) } else { Err(std::io::Error::other(format!("{UUID}: not a UUID"))) }
}

/// One container of the self-test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    arch: String,
    boot: String,
    until: u64,
    /// What the probe has to repeat.
    pub nonce: String,
}

impl Token {
    /// A new one for `platform` on the boot `boot_id`, for a run that is over after `limit`.
    ///
    /// # Errors
    /// As [`nonce`].
    pub fn new(platform: &Platform, boot_id: &str, limit: Duration) -> std::io::Result<Self> {
        let boot: String = boot_id.chars().filter(char::is_ascii_hexdigit).take(8).collect();
        Ok(Self {
            arch: platform.oci.to_owned(),
            boot: format!("{boot:0>8}"),
            until: boot_seconds() + limit.as_secs(),
            nonce: nonce()?,
        })
    }

    /// Reads the part of a name that [`Token`] shows; none where it is no such name.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let (arch, boot, until, nonce) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let hex = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
        let fits = fields.next().is_none() && hex(boot, 8) && hex(nonce, 16);
        Platform::named(arch).filter(|p| p.oci == arch && fits)?;
        Some(Self { arch: arch.to_owned(), boot: boot.to_owned(), until: until.parse().ok()?, nonce: nonce.to_owned() })
    }

    /// Whether the run that it is of must be over, seen from second `now` of the boot `boot_id`.
    pub fn is_over(&self, boot_id: &str, now: u64) -> bool {
        !boot_id.starts_with(&self.boot) || now > self.until
    }

    /// The name of the container.
    pub fn container(&self) -> String {
        format!("{CONTAINER_PREFIX}{self}")
    }

    /// The name of the image.
    pub fn image(&self) -> String {
        format!("{REPOSITORY}:{self}")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.arch, self.boot, self.until, self.nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_not_ours() {
        let platform = Platform::named("arm64").unwrap();
        let boot = "0f3c6a52-b1a2-4a5e-8d8c-111111111111";
        let token = Token::new(platform, boot, Duration::from_secs(60)).unwrap();
        assert_eq!(Token::parse(&token.to_string()), Some(token.clone()));
        assert!(!token.is_over(boot, boot_seconds()));
        assert!(token.is_over(boot, boot_seconds() + 62));
        assert!(token.is_over("1f3c6a52-b1a2-4a5e-8d8c-111111111111", 0));
        for other in [
            "",
            "latest",
            "arm64",
            "arm64-0f3c6a52-12",
            "vax-0f3c6a52-12-0123456789abcdef",
            "arm64-0f3c6a52-x-0123456789abcdef",
            "arm64-0f3c6a52-1-0123456789abcdef-2",
        ] {
            assert_eq!(Token::parse(other), None, "{other}");
        }
    }
}
