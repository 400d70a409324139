#!/bin/sh
# Makes a plain Debian system, booted by an initramfs generator of Debian's, of a copy of the base's tree.
# Usage, in a mount namespace of its own: peer.sh TREE GENERATOR ROOT-UUID ESP-ID APT-OPTION...
set -eu
tree=$1 generator=$2 root=$3 esp=$4
shift 4
kernel=$(ls "$tree/usr/lib/modules")

mount --make-rprivate /
for place in proc sys dev; do mount --rbind "/$place" "$tree/$place"; done
mount -t tmpfs tmpfs "$tree/run"
mkdir -p "$tree/run/systemd/resolve"
cp /etc/resolv.conf "$tree/run/systemd/resolve/stub-resolv.conf"
# INITRD=No: the kernel's package leaves the initramfs to the end of this.
inside() { chroot "$tree" env DEBIAN_FRONTEND=noninteractive INITRD=No "$@"; }
apt() { inside apt-get -q -y -o APT::Sandbox::User=root -o APT::Install-Recommends=false "$@"; }

# The kernel's package once more: it brings back what lies below /boot.
apt "$@" update
apt "$@" install --reinstall "linux-image-$kernel" zstd $(test "$generator" = dracut || echo busybox) "$generator" kairn-initramfs-
apt clean
rm -rf "$tree"/var/lib/apt/lists/*

find "$tree/usr/lib/systemd" -name '*kairn-*' -delete
rm -rf "$tree/usr/lib/kairn" "$tree/system"
mkdir -p "$tree/boot/efi"
cat > "$tree/etc/fstab" <<END
UUID=$root / ext4 errors=remount-ro 0 1
UUID=$esp /boot/efi vfat umask=0077 0 1
END
inside ssh-keygen -q -A
inside systemd-machine-id-setup

# For any machine, as the image's own initramfs is.
case $generator in
initramfs-tools) inside update-initramfs -c -k "$kernel" ;;
dracut) inside dracut --force --no-hostonly --kver "$kernel" "/boot/initrd.img-$kernel" ;;
esac
ln -sf "vmlinuz-$kernel" "$tree/boot/vmlinuz"
ln -sf "initrd.img-$kernel" "$tree/boot/initrd.img"
