// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images whose work should not be emulated, by their names.
