// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a file is as a program, from its ELF headers.

use std::fs::File;
use std::io::Read as _;

use object::read::elf::{FileHeader, ProgramHeader as _};
use object::{Endianness, FileKind, ReadCache, ReadRef, elf};
use serde::Serialize;

use crate::platform::Platform;

/// What an interpreter is as a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// The platform that it runs on, where that is a known one.
    pub runs_on: Option<&'static Platform>,
    /// The dynamic loader that it asks for; none for a static one.
    pub loader: Option<String>,
}

/// The build id of the program in `file`, in hexadecimal; none where it has none.
pub fn build_id(file: File) -> Option<String> {
    read_program(file)?.1
}

/// How much of a file is read at once: its headers, and nearly always its loader's name and notes.
const HEAD: usize = 4096;

/// Reads what the file is as a program, and its build id. None for what is no ELF program.
pub(super) fn read_program(mut file: File) -> Option<(Program, Option<String>)> {
    let mut head = Vec::with_capacity(HEAD);
    file.by_ref().take(HEAD as u64).read_to_end(&mut head).ok()?;
    let runs_on = Platform::of_program(&head);
    // Files are laid out freely, so what lies behind the head is looked up where it is needed.
    read_any(head.as_slice(), runs_on).or_else(|| read_any(&ReadCache::new(file), runs_on))
}

fn read_any<'d, R: ReadRef<'d>>(data: R, runs_on: Option<&'static Platform>) -> Option<(Program, Option<String>)> {
    match FileKind::parse(data).ok()? {
        FileKind::Elf32 => read_elf::<elf::FileHeader32<Endianness>, _>(data, runs_on),
        FileKind::Elf64 => read_elf::<elf::FileHeader64<Endianness>, _>(data, runs_on),
        _ => None,
    }
}

fn read_elf<'d, Elf, R>(data: R, runs_on: Option<&'static Platform>) -> Option<(Program, Option<String>)>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'d>,
{
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let kind = header.e_type(endian);
    if kind != elf::ET_EXEC && kind != elf::ET_DYN {
        return None;
    }
    let mut program = Program { runs_on, loader: None };
    let mut build_id = None;
    for segment in header.program_headers(endian, data).ok()? {
        if let Some(loader) = segment.interpreter(endian, data).ok()? {
            program.loader = Some(String::from_utf8_lossy(loader).into_owned());
        }
        let Some(mut notes) = segment.notes(endian, data).ok()? else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                build_id = Some(crate::binfmt::rule::hex(note.desc()));
            }
        }
    }
    Some((program, build_id))
}
