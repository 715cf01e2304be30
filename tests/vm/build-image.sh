#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds the disk image and kernels of a test system where they are not there yet, and prints their folder:
#   sudo tests/vm/build-image.sh NAME
# They are kept in tests/cache/vm, under a name that changes with these scripts.
set -euo pipefail
cd "$(dirname "$0")/../.."
. packaging/toolchain.sh
. tests/debian.sh

name=${1-}
arch=arm64 kernels=(linux-image-arm64) spare=()
docker=(docker.io)
# The kernel's options. Without apparmor_parser bookworm's Docker starts nothing where AppArmor is on.
options=apparmor=0
case $name in
    # As `apt-get install qemu-user` without recommended packages: Debian's rules for binfmt.d are in a package of their own.
    trixie-arm64)
        suite=trixie packages=("${docker[@]}" docker-cli qemu-user python3-minimal)
        kernels+=(linux-image-arm64-16k) spare=(qemu-user-binfmt)
        ;;
    plain-arm64) suite=trixie packages=(qemu-user qemu-user-binfmt) ;;
    bookworm-arm64) suite=bookworm packages=("${docker[@]}" apparmor qemu-user-static python3-minimal) options='' ;;
    # As the article that users come from has it.
    article-arm64) suite=bookworm packages=("${docker[@]}" apparmor qemu-user-static binfmt-support) options='' ;;
    trixie-amd64)
        suite=trixie arch=amd64 packages=("${docker[@]}" docker-cli apparmor qemu-user python3-minimal) options=''
        kernels=(linux-image-cloud-amd64) spare=(qemu-user-binfmt)
        ;;
    *) fail 64 "unknown image: $name" "see the list in $0" ;;
esac
packages+=(apt systemd systemd-sysv udev kmod)
if [[ $arch == arm64 ]]; then foreign=amd64; else foreign=arm64; fi
case $suite in
    trixie) python=python3.13-minimal ;;
    bookworm) python=python3.11-minimal ;;
esac
[[ " ${packages[*]} " != *" python3-minimal "* ]] || spare+=("$python")

begin tests/vm/build-image.sh tests/cache/vm "$name"
SECONDS=0
new=$work/new
mkdir "$new"
say() { printf '    %s: %3d s, %s\n' "$name" "$SECONDS" "$*"; }

say "download and extract"
extract "$suite" "$arch" "${packages[@]}"

# busybox ARCHITECTURE: the path of Debian's static busybox, of this machine's own release.
busybox() {
    local folder=$work/busybox-$1
    if [[ ! -d $folder ]]; then
        if ! { dpkg --print-architecture && dpkg --print-foreign-architectures; } | grep -qx "$1"; then
            dpkg --add-architecture "$1"
            apt-get -qq update >&2
        fi
        mkdir "$folder"
        (cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "busybox-static:$1" && dpkg -x ./*.deb .) >&2
    fi
    find "$folder" -path '*/bin/busybox'
}

say "kernels"
mkdir "$work/kernels"
for kernel in "${kernels[@]}"; do
    real=$(APT_CONFIG=$work/apt.conf apt-cache depends --important "$kernel" | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p')
    (cd "$work/kernels" && apt_inside download "$real")
    # Without what no virtual machine has; bookworm's modules are in /lib, a symbolic link here.
    dpkg-deb --fsys-tarfile "$work/kernels/$real"_*.deb | tar -x -C "$root" --keep-directory-symlink --exclude='*/sound/*' \
        --exclude='*/drivers/'{gpu,media,staging,infiniband,iio,hid,mfd,mmc,mtd,scsi,usb,hwmon,clk,soc}'/*' --exclude='*/doc/*' \
        --exclude='*/drivers/net/'{ethernet,wireless,can,phy,dsa,usb}'/*' --exclude='*/System.map*'
    version=${real#linux-image-}
    depmod -b "$root" "$version"
    initrd=$work/initrd
    rm -rf "$initrd" && mkdir -p "$initrd"/{bin,modules,dev,proc,sys,root}
    number=100
    while read -r what file _; do
        [[ $what == insmod ]] || continue
        to=$initrd/modules/$((number += 1))-${file##*/}
        case $file in
            *.xz) xz -dc "$file" >"${to%.xz}" ;;
            *.zst) zstd -qdc "$file" >"${to%.zst}" ;;
            *) cp "$file" "$to" ;;
        esac
    done < <(for module in virtio_pci virtio_blk virtio_console ext4; do
        modprobe -d "$root" -S "$version" --show-depends "$module"
    done | awk '!seen[$0]++')
    cp "$(busybox "$arch")" "$initrd/bin/"
    cat >"$initrd/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /bin/busybox insmod "$module"; done
until [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root && /bin/busybox mount --move /dev /root/dev &&
    exec /bin/busybox switch_root /root /sbin/init
exec /bin/busybox sh
INIT
    chmod 755 "$initrd/init"
    [[ $kernel != *16k* ]] && size=4k || size=16k
    (cd "$initrd" && find . | cpio --quiet -o -H newc) | gzip -1 >"$new/initrd-$size"
    cp "$root/boot/vmlinuz-$version" "$new/vmlinuz-$size"
done

say "packages that tests install, and container images"
(
    cd "$root/opt/debs"
    ((${#spare[@]} == 0)) || apt_inside download "${spare[@]}"
    dpkg-scanpackages --multiversion . >Packages 2>/dev/null
)
pack() { tar --numeric-owner --owner=0 --group=0 --mtime=@0 --sort=name -C "$1" -cf "$2" .; }
digest() { sha256sum "$1" | cut -d' ' -f1; }
# pack_image NAME ARCHITECTURE: an archive for `docker load`, with busybox and nothing else.
pack_image() {
    local folder=$work/image-$1 applet
    mkdir -p "$folder"/{layer/bin,archive}
    cp "$(busybox "$2")" "$folder/layer/bin/"
    for applet in sh uname sleep echo cat ls find mount; do ln -s busybox "$folder/layer/bin/$applet"; done
    pack "$folder/layer" "$folder/archive/layer.tar"
    printf '{"architecture": "%s", "os": "linux", "config": {"Cmd": ["/bin/uname", "-m"], "Env": ["PATH=/bin"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:%s"]}}' \
        "$2" "$(digest "$folder/archive/layer.tar")" >"$folder/archive/config.json"
    echo "[{\"Config\": \"config.json\", \"RepoTags\": [\"localhost/$1:1\"], \"Layers\": [\"layer.tar\"]}]" \
        >"$folder/archive/manifest.json"
    tar -C "$folder/archive" -cf "$root/opt/$1.tar" manifest.json config.json layer.tar
}
pack_image foreign "$foreign"
pack_image native "$arch"
# The same programs outside of any container.
mkdir "$root/opt/foreign"
cp -a "$work"/image-foreign/layer/bin/. "$root/opt/foreign/"

if [[ $name == trixie-arm64 ]]; then
    say "programs that large pages keep from starting, and an older QEMU"
    unpack bookworm amd64 "$work/programs" openssl,curl
    mkdir "$work"/programs/{layout,libssl3}
    # A release has several versions at a time, and each has a layout of its own.
    printf 'Dir "%s";\nAPT::Architecture "amd64";\nAPT::Architectures { "amd64"; };\nAPT::Sandbox::User "root";\n' \
        "$work/programs" >"$work/apt-programs.conf"
    while read -r version; do
        (
            export APT_CONFIG=$work/apt-programs.conf
            cd "$work" && apt-get -qq download "libssl3=$version" && dpkg -x "libssl3_$version"_*.deb "$work/libssl3"
        )
        mv "$work"/libssl3/usr/lib/x86_64-linux-gnu "$work/programs/libssl3/$version"
    done < <(APT_CONFIG=$work/apt-programs.conf apt-cache madison libssl3 | tr -d ' ' | cut -d'|' -f2 | sort -u)
    for pages in {0..15}; do
        clang-19 --target=x86_64-linux-gnu -shared -nostdlib -fuse-ld=lld-19 -Wl,-z,max-page-size=4096 "-DPAGES=$pages" \
            tests/vm/layout.c -o "$work/programs/layout/$pages.so"
    done
    mkdir "$root/opt/arm"
    for kib in 4 64; do
        clang-19 --target=arm-linux-gnueabi -march=armv5te -marm -ffreestanding -nostdlib -static -fuse-ld=lld-19 \
            -Wl,-z,max-page-size=$((kib * 1024)) tests/vm/exit.c -o "$root/opt/arm/$kib"
    done
    rm -rf "$work"/programs/{var,usr/share}
    mv "$work/programs" "$root/opt/programs"
    unpack bookworm arm64 "$work/older" qemu-user-static
    mkdir "$root/opt/older"
    # The name by which it wants the flag P, as Debian's own rule has it.
    mv "$work/older/usr/bin/qemu-x86_64-static" "$root/opt/older/x86_64-binfmt-P"
    rm -rf "$work/older"
fi

say "packages' own scripts"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
configure "$arch"

say "settings of the test system"
rm "$root/usr/sbin/policy-rc.d"
mkdir -p "$root"/var/log/journal "$root"/var/lib/apt/lists/partial "$root"/etc/apt/sources.list.d "$root"/boot
rm -rf "${root:?}"/boot/*
echo 'deb [trusted=yes] file:/opt/debs ./' >"$root/etc/apt/sources.list"
cp "$work/dpkg.cfg" "$root/etc/dpkg/dpkg.cfg.d/test"
echo '/dev/vda / ext4 defaults 0 0' >"$root/etc/fstab"
echo "$name" >"$root/etc/hostname"
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
# What only costs time here: no container of the tests has a network. The agent below is how tests get in, and nobody logs in.
for unit in apt-daily{,-upgrade}.timer e2scrub_{all.timer,reap.service} fstrim.timer dpkg-db-backup.timer \
    serial-getty@.service getty@.service {getty-static,console-getty}.service systemd-hwdb-update.service ldconfig.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
[[ ! -d $root/etc/docker ]] || echo '{"bridge": "none", "iptables": false, "ip6tables": false}' >"$root/etc/docker/daemon.json"
cat >"$root/etc/systemd/system/agent.service" <<'UNIT'
[Unit]
Description=Shell of the test driver
StartLimitIntervalSec=0
[Service]
# The port can be opened once only.
ExecStart=/bin/sh -c 'exec /bin/sh <>/dev/vport0p1 >&0 2>&0'
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../agent.service "$root/etc/systemd/system/multi-user.target.wants/"
touch "$root/etc/.updated" "$root/var/.updated"

echo "$options" >"$new/options"

say "file system"
truncate -s 4G "$new/root.img"
mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 -d "$root" "$new/root.img"
say "done, $(du -sh "$new" | cut -f1)"
finish "$new"
