#!/bin/sh
# Tells on the second serial port what the clocks of this boot saw, once systemd has nothing left to start.
state=$(systemctl is-system-running --wait)
{
    echo "== memory"
    cat /proc/meminfo
    echo "== state"
    echo "$state"
    echo "== clocks"
    systemctl show --property=UserspaceTimestampMonotonic,FinishTimestampMonotonic
    systemctl show multi-user.target --property=ActiveEnterTimestampMonotonic
    echo "== kernel"
    dmesg | grep -E 'Run /init as init process|systemd\[1\]: systemd [0-9]+|kairn-init: starting '
    echo "== report"
    cat /run/kairn/boot.json 2>/dev/null
    echo
    echo "== memory without caches"
    sync
    echo 3 > /proc/sys/vm/drop_caches
    cat /proc/meminfo
    echo "== machine"
    uname -r
    grep -c ^processor /proc/cpuinfo
    echo "== end"
} > /run/bench-report
cat /run/bench-report > /dev/ttyS1
echo 'bench: reported' > /dev/console
