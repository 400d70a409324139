# Installs on /dev/vda, then makes the same file systems on /dev/vdb and copies the same files to them with the system's own tools.
# Run on a live medium, as root: install.sh ROUNDS. Tells seconds and bytes of each round.
set -eu
medium=/run/initramfs/live
release=$(echo $medium/kairn/releases/*)
now() { cut -d' ' -f1 /proc/uptime; }
fresh() { sync; echo 3 > /proc/sys/vm/drop_caches; }
# What lies in files on the five partitions of a disk, in bytes.
written() {
    for number in 1 2 3 4 5; do
        mount -o ro "$1$number" /mnt
        find /mnt -type f -printf '%s\n'
        umount /mnt
    done | awk '{ sum += $1 } END { printf "%d\n", sum }'
}
# Forgets the end of each partition's start and the table, and waits for nothing.
blank() { wipefs -qa "$1"?* "$1" 2>/dev/null || :; dd if=/dev/zero of="$1" bs=1M count=1 conv=fsync 2>/dev/null; blockdev --rereadpt "$1"; }

for round in $(seq "$1"); do
    blank /dev/vda
    fresh
    begin=$(now)
    kairn install --device /dev/vda --force > /run/install.log 2>&1 || { cat /run/install.log; exit 1; }
    sync
    end=$(now)
    mount -o ro /dev/vda1 /mnt
    kernels=$(ls /mnt/EFI/kairn/*.efi | wc -l)
    loaders=$(find /mnt/EFI -iname '*boot*.efi' | wc -l)
    umount /mnt

    blank /dev/vdb
    dd if=/dev/vda of=/dev/vdb bs=1M count=1 conv=fsync 2>/dev/null
    blockdev --rereadpt /dev/vdb
    fresh
    begin_copy=$(now)
    mkfs.vfat -F 32 /dev/vdb1 > /dev/null
    for number in 2 3 4 5; do mke2fs -q -F -t ext4 "/dev/vdb$number"; done
    mount /dev/vdb1 /mnt
    for copy in $(seq "$kernels"); do cp "$release/kernel.efi" "/mnt/kernel$copy.efi"; done
    for copy in $(seq "$loaders"); do cp "$release/loader.efi" "/mnt/loader$copy.efi"; done
    umount /mnt
    for number in 3 4; do
        mount "/dev/vdb$number" /mnt
        cp "$release/root.erofs" "$release/root.verity" "$release/release.json" /mnt
        umount /mnt
    done
    sync
    end_copy=$(now)
    echo "round $begin $end $begin_copy $end_copy $(written /dev/vda) $(written /dev/vdb)"
done
