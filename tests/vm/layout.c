// SPDX-License-Identifier: MIT OR Apache-2.0
// A library whose data are pages of 4 KiB at the end of its file, with zeroed pages behind. It is made with 0 to 15 PAGES of
// constants before them, so that they begin at every place of a page of 16 and of 64 KiB: with some of these layouts QEMU cannot
// map them on kernels with such pages (`mmap_frag()`, linux-user/mmap.c).

const char constants[PAGES * 4096 + 1] = {1};
int data[2048] = {1};
int zeroed[4096];
