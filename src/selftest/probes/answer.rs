// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a probe's answer must look like.

use super::NONCE_MAX;

/// The most bytes that an answer can have: a tester that reads one more knows that it is none.
pub const ANSWER_MAX: usize = VERSION.len() + MACHINE_MAX + " ".len() + NONCE_MAX + "\n".len();

const VERSION: &str = "qemu-persist-probe 1 ";

/// `struct new_utsname` has fields of 65 bytes, of which the last is zero.
const MACHINE_MAX: usize = 64;

/// Why some bytes are not the answer of the probe that was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The nonce could not have come back as it was: it is empty, too long, or has other
    /// characters than printable ASCII without spaces.
    #[error("the nonce is not 1 to {NONCE_MAX} printable ASCII characters without spaces")]
    Unaskable,
    /// Nothing was written.
    #[error("the probe wrote nothing")]
    Empty,
    /// More was written than an answer can have.
    #[error("the output is longer than an answer of the probe can be ({ANSWER_MAX} bytes)")]
    TooLong,
    /// Something wrote that is not this version of the probe.
    #[error("the output is not that of this probe")]
    Foreign,
    /// The line is not complete.
    #[error("the probe's answer breaks off")]
    BreaksOff,
    /// Something stands after the line.
    #[error("there is more output than the probe's one line")]
    More,
    /// It answers somebody else's question.
    #[error("the answer does not carry the nonce that the probe was given")]
    WrongNonce,
    /// What stands for the machine is no name of one.
    #[error("the machine in the probe's answer is not 1 to {MACHINE_MAX} printable ASCII characters without spaces")]
    BadMachine,
}

fn is_word(text: &[u8], limit: usize) -> bool {
    (1..=limit).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

/// The machine that the identity probe, started with `nonce` as its argument, reports in `output`,
/// which is all that it wrote to its standard output. The machine is printable ASCII.
///
/// # Errors
/// Where `output` is not exactly what the probe writes when it has done all that it should.
pub fn parse_answer(output: &[u8], nonce: &str) -> Result<String, AnswerError> {
    if !is_word(nonce.as_bytes(), NONCE_MAX) {
        return Err(AnswerError::Unaskable);
    }
    if output.is_empty() {
        return Err(AnswerError::Empty);
    }
    if output.len() > ANSWER_MAX {
        return Err(AnswerError::TooLong);
    }
    let Some(rest) = output.strip_prefix(VERSION.as_bytes()) else {
        let breaks_off = VERSION.as_bytes().starts_with(output);
        return Err(if breaks_off { AnswerError::BreaksOff } else { AnswerError::Foreign });
    };
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or(AnswerError::BreaksOff)?;
    let (line, after) = rest.split_at(end);
    if after != b"\n" {
        return Err(AnswerError::More);
    }
    let machine = line
        .strip_suffix(nonce.as_bytes())
        .and_then(|before| before.strip_suffix(b" "))
        .ok_or(AnswerError::WrongNonce)?;
    if !is_word(machine, MACHINE_MAX) {
        return Err(AnswerError::BadMachine);
    }
    Ok(machine.iter().copied().map(char::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_answer_and_nothing_but_the_answer() {
        let long = "m".repeat(MACHINE_MAX);
        for machine in ["x86_64", "s390x", "i686", long.as_str()] {
            let output = format!("qemu-persist-probe 1 {machine} n-1\n");
            assert_eq!(parse_answer(output.as_bytes(), "n-1").as_deref(), Ok(machine));
        }
        let too_long = format!("qemu-persist-probe 1 {long}m n-1\n");
        let endless = "x".repeat(ANSWER_MAX + 1);
        let table: &[(&[u8], AnswerError)] = &[
            (b"", AnswerError::Empty),
            (endless.as_bytes(), AnswerError::TooLong),
            (b"\n", AnswerError::Foreign),
            (b"x86_64\n", AnswerError::Foreign),
            (b" qemu-persist-probe 1 x86_64 n-1\n", AnswerError::Foreign),
            (b"qemu-persist-probe 2 x86_64 n-1\n", AnswerError::Foreign),
            (b"qemu-persist-probe 10 x86_64 n-1\n", AnswerError::Foreign),
            (b"qemu-persist-probe 1\tx86_64 n-1\n", AnswerError::Foreign),
            (b"WARNING: platform\nqemu-persist-probe 1 x86_64 n-1\n", AnswerError::Foreign),
            (b"qemu-persist", AnswerError::BreaksOff),
            (b"qemu-persist-probe 1 ", AnswerError::BreaksOff),
            (b"qemu-persist-probe 1 x86_64 n-1", AnswerError::BreaksOff),
            (b"qemu-persist-probe 1 x86_64 n-1\n\n", AnswerError::More),
            (b"qemu-persist-probe 1 x86_64 n-1\nmore", AnswerError::More),
            (b"qemu-persist-probe 1 x86_64\nn-1\n", AnswerError::More),
            (b"qemu-persist-probe 1 x86_64 n-1\r\n", AnswerError::WrongNonce),
            (b"qemu-persist-probe 1 x86_64 n-1 \n", AnswerError::WrongNonce),
            (b"qemu-persist-probe 1 x86_64 n-2\n", AnswerError::WrongNonce),
            (b"qemu-persist-probe 1 x86_64 n-10\n", AnswerError::WrongNonce),
            (b"qemu-persist-probe 1 x86_64n-1\n", AnswerError::WrongNonce),
            (b"qemu-persist-probe 1 x86_64\n", AnswerError::WrongNonce),
            (b"qemu-persist-probe 1 \n", AnswerError::WrongNonce),
            (b"qemu-persist-probe 1 n-1\n", AnswerError::WrongNonce),
            (b"qemu-persist-probe 1  n-1\n", AnswerError::BadMachine),
            (b"qemu-persist-probe 1 x86_64  n-1\n", AnswerError::BadMachine),
            (b"qemu-persist-probe 1 x86 64 n-1\n", AnswerError::BadMachine),
            (b"qemu-persist-probe 1 x86_64\0 n-1\n", AnswerError::BadMachine),
            (b"qemu-persist-probe 1 \x1b[2J n-1\n", AnswerError::BadMachine),
            (b"qemu-persist-probe 1 x86_\xff n-1\n", AnswerError::BadMachine),
            (too_long.as_bytes(), AnswerError::BadMachine),
        ];
        for (output, error) in table {
            assert_eq!(parse_answer(output, "n-1").as_ref(), Err(error), "{}", output.escape_ascii());
        }
    }

    #[test]
    fn a_nonce_that_proves_nothing_is_refused() {
        let output = b"qemu-persist-probe 1 x86_64 \n";
        for nonce in ["", " ", "a b", "a\n", "ä", &"n".repeat(NONCE_MAX + 1)] {
            assert_eq!(parse_answer(output, nonce), Err(AnswerError::Unaskable), "{nonce:?}");
        }
        let nonce = "n".repeat(NONCE_MAX);
        let output = format!("qemu-persist-probe 1 {} {nonce}\n", "m".repeat(MACHINE_MAX));
        assert_eq!(output.len(), ANSWER_MAX);
        assert!(parse_answer(output.as_bytes(), &nonce).is_ok());
    }

    proptest! {
        #[test]
        fn only_a_rendered_answer_is_parsed(output: Vec<u8>, tail: Vec<u8>, machine in "[!-~]{1,64}", nonce in "[!-~]{1,64}") {
            prop_assert!(parse_answer(&output, &nonce).is_err());
            let mut answer = format!("{VERSION}{machine} {nonce}\n").into_bytes();
            prop_assert_eq!(parse_answer(&answer, &nonce), Ok(machine));
            answer.extend(&tail);
            prop_assert_eq!(parse_answer(&answer, &nonce).is_ok(), tail.is_empty());
        }
    }
}
