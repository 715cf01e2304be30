// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(qemu_persist::cli::main(std::env::args_os()))
}
