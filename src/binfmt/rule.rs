// SPDX-License-Identifier: MIT OR Apache-2.0
//! A rule: one handler as it is written to `register` and into binfmt.d files.
//!
//! The form is `:name:M:offset:magic:mask:interpreter:flags`, with the first character as the
//! separator (`Documentation/admin-guide/binfmt-misc.rst`). The parser takes what the kernel's
//! `create_entry()` (fs/binfmt_misc.c) takes, and names what it refuses.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use thiserror::Error;

/// The most that `register` takes in one write (`MAX_REGISTER_LENGTH`, fs/binfmt_misc.c).
pub const MAX_REGISTER_LENGTH: usize = 1920;
/// How many bytes of a program the kernel looks at (`BINPRM_BUF_SIZE`, include/uapi/linux/binfmts.h).
pub const PROGRAM_HEAD: usize = 256;

/// The letters behind a rule, of which the kernel knows `P`, `O`, `C` and `F`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "the kernel's four letters")]
pub struct Flags {
    /// `P`: the interpreter is given the program's own `argv[0]` besides its path.
    pub preserve_argv0: bool,
    /// `O`: the kernel opens the program and hands the open file to the interpreter.
    pub open_binary: bool,
    /// `C`: setuid programs gain their owner's rights; includes `O`.
    pub credentials: bool,
    /// `F`: the interpreter is opened at registration, so that it works in every container.
    pub fix_binary: bool,
}

impl Flags {
    /// Reads flag letters. Unknown ones are kept out and given back, since newer kernels add more.
    pub fn parse_lenient(letters: &str) -> (Self, String) {
        let mut flags = Self::default();
        let mut unknown = String::new();
        for letter in letters.chars() {
            match letter {
                'P' => flags.preserve_argv0 = true,
                'O' => flags.open_binary = true,
                'C' => (flags.credentials, flags.open_binary) = (true, true),
                'F' => flags.fix_binary = true,
                other => unknown.push(other),
            }
        }
        (flags, unknown)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (set, letter) in
            [(self.preserve_argv0, "P"), (self.open_binary, "O"), (self.credentials, "C"), (self.fix_binary, "F")]
        {
            if set {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

impl Serialize for Flags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The bytes by which a rule recognises programs.
#[derive(Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Pattern {
    /// Where in the program the magic is, in bytes.
    pub offset: usize,
    /// The bytes to match.
    #[cfg_attr(feature = "assets", schemars(schema_with = "crate::report::schema::hexadecimal"))]
    pub magic: Vec<u8>,
    /// Which bits of them count; as long as the magic.
    #[cfg_attr(feature = "assets", schemars(schema_with = "crate::report::schema::hexadecimal"))]
    pub mask: Vec<u8>,
}

impl Pattern {
    /// Whether the kernel would take a program that starts with `head` (missing bytes are zero).
    pub fn matches(&self, head: &[u8]) -> bool {
        let byte = |at: usize| head.get(at).copied().unwrap_or(0);
        self.magic
            .iter()
            .zip(&self.mask)
            .enumerate()
            .all(|(i, (magic, mask))| (magic ^ byte(self.offset + i)) & mask == 0)
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Every byte as two hexadecimal digits behind `lead`.
fn digits(bytes: &[u8], lead: &str) -> String {
    let mut text = String::with_capacity(bytes.len() * (lead.len() + 2));
    for byte in bytes {
        text.push_str(lead);
        text.extend([byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)])));
    }
    text
}

/// The byte that two hexadecimal digits stand for.
fn byte_of(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// Every byte as two hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    digits(bytes, "")
}

/// Reads pairs of hexadecimal digits.
pub(super) fn bytes_from_hex(text: &str) -> Option<Vec<u8>> {
    let mut pairs = text.as_bytes().chunks_exact(2);
    let bytes = pairs.by_ref().map(|pair| byte_of(pair[0], pair[1])).collect();
    if pairs.remainder().is_empty() { bytes } else { None }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}/{}", self.offset, hex(&self.magic), hex(&self.mask))
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut s = serializer.serialize_struct("Pattern", 3)?;
        s.serialize_field("offset", &self.offset)?;
        s.serialize_field("magic", &hex(&self.magic))?;
        s.serialize_field("mask", &hex(&self.mask))?;
        s.end()
    }
}

/// One handler: its name, what it matches, and what runs it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Rule {
    /// The entry's name in the kernel's table.
    pub name: String,
    /// What programs it takes.
    pub pattern: Pattern,
    /// The program that runs them, absolute.
    pub interpreter: PathBuf,
    /// How the kernel starts it.
    pub flags: Flags,
}

/// Why a text is no rule.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RuleError {
    /// The number of fields is not seven.
    #[error("a rule is :name:M:offset:magic:mask:interpreter:flags, and this has no {0}")]
    Missing(&'static str),
    /// The name cannot be a file name there.
    #[error("{0:?} cannot be the name of a handler")]
    Name(String),
    /// Matching by file extension, which is no concern of ours.
    #[error("type {0:?} is not M: only rules that match by magic bytes are handled")]
    Type(String),
    /// The offset is no number, or the magic would end behind what the kernel looks at.
    #[error("offset {0:?}: the magic has to lie within the first 256 bytes of a program")]
    Offset(String),
    /// The magic is empty, too long, or has a broken escape.
    #[error("magic {0:?} is not 1 to 256 bytes, written as characters and \\xNN")]
    Magic(String),
    /// The mask is not as long as the magic.
    #[error("the mask has {mask} bytes and the magic {magic}: they have to be equally long")]
    Mask {
        /// Length of the mask.
        mask: usize,
        /// Length of the magic.
        magic: usize,
    },
    /// The interpreter is no path that both the kernel and a binfmt.d file can hold.
    #[error("interpreter {0:?} is not an absolute path in plain characters, without a colon")]
    Interpreter(String),
    /// A flag that this program does not know.
    #[error("flag {0:?} is not known; P, O, C and F are")]
    Flags(String),
    /// The whole is longer than the kernel takes.
    #[error("the rule has {0} bytes, and the kernel takes 1920 at most")]
    TooLong(usize),
}

/// Reads magic or mask: printable characters stand for themselves, `\xNN` for a byte.
///
/// # Errors
/// The text itself, where an escape is broken.
pub fn parse_bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'\\' {
            let [b'x', high, low, after @ ..] = tail else { return Err(text.to_owned()) };
            bytes.push(byte_of(*high, *low).ok_or_else(|| text.to_owned())?);
            rest = after;
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    Ok(bytes)
}

/// Every byte as `\xNN`, which [`parse_bytes`] reads again.
pub fn escape_bytes(bytes: &[u8]) -> String {
    digits(bytes, "\\x")
}

impl Rule {
    /// Reads one rule, as it stands in a binfmt.d file or would be written to `register`.
    ///
    /// # Errors
    /// What of it is no rule that this kernel interface takes.
    pub fn parse(line: &str) -> Result<Self, RuleError> {
        if line.len() > MAX_REGISTER_LENGTH {
            return Err(RuleError::TooLong(line.len()));
        }
        let separator = line.chars().next().ok_or(RuleError::Missing("fields"))?;
        let mut fields = line[separator.len_utf8()..].split(separator);
        let mut next = |what| fields.next().ok_or(RuleError::Missing(what));
        let (name, kind, offset, magic, mask) =
            (next("name")?, next("type")?, next("offset")?, next("magic")?, next("mask")?);
        let (interpreter, letters) = (next("interpreter")?, next("flags")?);
        if kind != "M" {
            return Err(RuleError::Type(kind.to_owned()));
        }
        let offset_number = if offset.is_empty() { Some(0) } else { offset.parse().ok() };
        let magic_bytes = parse_bytes(magic).map_err(RuleError::Magic)?;
        let mask_bytes = match parse_bytes(mask).map_err(RuleError::Magic)? {
            bytes if bytes.is_empty() => vec![0xff; magic_bytes.len()],
            bytes => bytes,
        };
        let (flags, unknown) = Flags::parse_lenient(letters.trim_end());
        if !unknown.is_empty() {
            return Err(RuleError::Flags(unknown));
        }
        let rule = Self {
            name: name.to_owned(),
            pattern: Pattern {
                offset: offset_number.ok_or_else(|| RuleError::Offset(offset.to_owned()))?,
                magic: magic_bytes,
                mask: mask_bytes,
            },
            interpreter: PathBuf::from(interpreter),
            flags,
        };
        rule.check()?;
        Ok(rule)
    }

    /// Whether the kernel and binfmt.d can hold this rule.
    ///
    /// # Errors
    /// The first thing about it that they cannot.
    pub fn check(&self) -> Result<(), RuleError> {
        let plain = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
        let name_fits = !self.name.is_empty() && self.name.len() <= 255 && self.name.chars().all(plain);
        if !name_fits || [".", "..", "register", "status"].contains(&self.name.as_str()) {
            return Err(RuleError::Name(self.name.clone()));
        }
        let Pattern { offset, magic, mask } = &self.pattern;
        if magic.is_empty() || magic.len() > PROGRAM_HEAD {
            return Err(RuleError::Magic(hex(magic)));
        }
        if mask.len() != magic.len() {
            return Err(RuleError::Mask { mask: mask.len(), magic: magic.len() });
        }
        if offset.checked_add(magic.len()).is_none_or(|end| end > PROGRAM_HEAD) {
            return Err(RuleError::Offset(offset.to_string()));
        }
        let path = self.interpreter.to_str().unwrap_or_default();
        if !path.starts_with('/') || path.chars().any(|c| c.is_control() || c == ':') {
            return Err(RuleError::Interpreter(self.interpreter.display().to_string()));
        }
        // Short of the limit by far, it need not be written to be counted: four characters a byte,
        // and flags, offset and separators below fifty.
        let about = self.name.len() + path.len() + 4 * (magic.len() + mask.len()) + 50;
        let length = if about > MAX_REGISTER_LENGTH { self.to_string().len() } else { about };
        if length > MAX_REGISTER_LENGTH { Err(RuleError::TooLong(length)) } else { Ok(()) }
    }

    /// The same rule under another name.
    #[must_use]
    pub fn renamed(&self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// The same rule with another interpreter.
    #[must_use]
    pub fn with_interpreter(&self, interpreter: &Path) -> Self {
        Self { interpreter: interpreter.to_owned(), ..self.clone() }
    }
}

impl fmt::Display for Rule {
    /// The form that `register` and binfmt.d take, every byte escaped, so that no byte of a magic
    /// can be a separator, a comment or a line's end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pattern { offset, magic, mask } = &self.pattern;
        let offset = if *offset == 0 { String::new() } else { offset.to_string() };
        let (name, interpreter, flags) = (&self.name, self.interpreter.display(), self.flags);
        write!(f, ":{name}:M:{offset}:{}:{}:{interpreter}:{flags}", escape_bytes(magic), escape_bytes(mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AARCH64: &str = r":qemu-aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/libexec/qemu-binfmt/aarch64-binfmt-P:POF";

    #[test]
    fn a_rule_is_read_and_written_again() {
        let rule = Rule::parse(AARCH64).unwrap();
        assert_eq!(rule.to_string(), AARCH64);
        assert_eq!(rule.name, "qemu-aarch64");
        let mixed = r"!p!M!2!\x7fELF!!/bin/p!";
        let rule = Rule::parse(mixed).unwrap();
        assert_eq!((rule.pattern.offset, rule.pattern.magic.as_slice()), (2, &b"\x7fELF"[..]));
        assert_eq!(rule.pattern.mask, [0xff; 4]);
        assert_eq!(Rule::parse(&rule.to_string()), Ok(rule));
    }

    #[test]
    fn c_includes_o() {
        assert_eq!(Flags::parse_lenient("CF").0.to_string(), "OCF");
    }

    #[test]
    fn what_is_no_rule_is_refused_by_its_field() {
        let long = format!(":n:M::a::/{}:", "x".repeat(MAX_REGISTER_LENGTH));
        for (line, error) in [
            ("", RuleError::Missing("fields")),
            (":n:M::a::/i", RuleError::Missing("flags")),
            ("::M::a::/i:", RuleError::Name(String::new())),
            (":register:M::a::/i:", RuleError::Name("register".into())),
            (":a/b:M::a::/i:", RuleError::Name("a/b".into())),
            (":n:E::jar::/i:", RuleError::Type("E".into())),
            (":n:M:x:a::/i:", RuleError::Offset("x".into())),
            (":n:M:256:a::/i:", RuleError::Offset("256".into())),
            (":n:M::::/i:", RuleError::Magic(String::new())),
            (r":n:M::\x4::/i:", RuleError::Magic(r"\x4".into())),
            (r":n:M::a\:b:/i:", RuleError::Magic(r"a\".into())),
            (":n:M::ab:c:/i:", RuleError::Mask { mask: 1, magic: 2 }),
            (":n:M::a::i:", RuleError::Interpreter("i".into())),
            (":n:M::a::/i:FX", RuleError::Flags("X".into())),
            (&long, RuleError::TooLong(long.len())),
        ] {
            assert_eq!(Rule::parse(line), Err(error), "{line}");
        }
    }

    #[test]
    fn patterns_match_as_the_kernel_does() {
        let pattern = Pattern { offset: 1, magic: vec![0x10, 0x20], mask: vec![0xf0, 0xff] };
        assert!(pattern.matches(&[0, 0x1f, 0x20]));
        assert!(!pattern.matches(&[0, 0x2f, 0x20]));
        assert!(!pattern.matches(&[0, 0x10]));
    }
}
