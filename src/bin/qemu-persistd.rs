// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service.

use std::process::ExitCode;

fn main() -> ExitCode {
    qemu_persist::daemon::main()
}
