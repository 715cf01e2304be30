#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds the disk with what is run and loaded on large pages where it is not there yet, and prints its path:
#   sudo tests/vm/build-programs.sh
# It holds what Debian has for amd64: programs.tar, a system for `docker import` with programs that people run in
# containers, and desktop/, the shared libraries of a desktop, with the list of them and the Perl that loads them.
set -euo pipefail
cd "$(dirname "$0")/../.."
. packaging/toolchain.sh
. tests/debian.sh

begin tests/vm/build-programs.sh tests/cache/vm programs
SECONDS=0
say() { printf '    %s: %3d s, %s\n' "$name" "$SECONDS" "$*"; }
disk=$work/disk
mkdir "$disk"

say "programs"
unpack trixie amd64 "$root" dash,coreutils,openssl,curl,python3,git,perl,nodejs,openjdk-21-jre-headless
mkdir -p "$root"/{proc,run,tmp,dev}
java=/usr/lib/jvm/java-21-openjdk-amd64/bin/java
ln -s "$java" "$root/usr/bin/java"
cat >"$root/tmp/Proof.java" <<'JAVA'
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.stream.LongStream;

public class Proof {
    static volatile boolean stopped;
    static volatile long last;

    public static void main(String[] arguments) throws Exception {
        try (var threads = Executors.newFixedThreadPool(2)) {
            List<Callable<Long>> parts = List.of(() -> sum(1, 50_000), () -> sum(50_001, 100_000));
            long sum = 0;
            for (var part : threads.invokeAll(parts)) sum += part.get();
            System.out.println(sum);
        }
        // A loop is stopped by what it reads from a page that it may not read, once it has been compiled.
        var loop = new Thread(() -> {
            while (!stopped) for (int i = 0; i < 1000; i++) last ^= i;
        });
        loop.start();
        Thread.sleep(10_000);
        System.gc();
        stopped = true;
    }

    static long sum(long from, long to) {
        return LongStream.rangeClosed(from, to).map(number -> number * number).sum();
    }
}
JAVA
# The runtime has the compiler in it. Python's modules are compiled as Debian's own scripts do.
cat >"$work/compile.sh" <<INSIDE
chroot "\$root" $java -m jdk.compiler/com.sun.tools.javac.Main -d /opt /tmp/Proof.java
chroot "\$root" python3 -m compileall -q /usr/lib/python3.13
INSIDE
mkdir -p "$root/opt"
root=$root tests/inside.sh amd64 "$work/compile.sh"
rm -rf "${root:?}"/{dev,run,tmp,var,boot} "$root"/usr/share/{doc,man,locale,bash-completion,lintian,icons}
mkdir -p "$root"/{dev,run,tmp,var/tmp,root}
tar --numeric-owner --one-file-system -C "$root" -cf "$disk/programs.tar" .

say "libraries of a desktop"
unpack trixie amd64 "$work/desktop" \
    perl-base,xfce4,gimp,gstreamer1.0-plugins-good,gstreamer1.0-plugins-bad,libwebkit2gtk-4.1-0,libqt6widgets6,libqt6quick6
mkdir -p "$disk"/desktop/{usr/bin,proc,dev,tmp}
cp -a "$work/desktop/usr/bin/perl" "$disk/desktop/usr/bin/"
cp -a "$work"/desktop/{lib,lib64} "$disk/desktop/"
cp -a "$work"/desktop/usr/{lib,lib64} "$disk/desktop/usr/"
(cd "$disk/desktop" && find usr/lib/x86_64-linux-gnu -name '*.so*' -type f -printf '/%p\n' | sort >list)

say "file system"
size=$(du -sm "$disk" | cut -f1)
truncate -s $((size + size / 8 + 64))M "$work/new.img"
mke2fs -q -t ext4 -O ^has_journal -m 0 -E lazy_itable_init=0 -d "$disk" "$work/new.img"
say "done, $(wc -l <"$disk/desktop/list") libraries, $(du -sh "$work/new.img" | cut -f1)"
finish "$work/new.img"
