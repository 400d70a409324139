#!/bin/bash
# The first program of a release in trouble: the serial number of a disk says in which.
units=/run/systemd/system
case $(cat /sys/block/*/serial 2>/dev/null) in
*init-exits*)
  exit 1
  ;;
*init-hangs*)
  echo this init hangs >/dev/console
  exec /bin/sleep infinity
  ;;
*kernel-panics*)
  # Before most services run.
  mkdir -p $units/sysinit.target.wants
  cat >$units/vm-panic.service <<END
[Unit]
Description=A kernel that panics
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo c > /proc/sysrq-trigger'
END
  ln -s ../vm-panic.service $units/sysinit.target.wants/
  ;;
*emergency*)
  # It waits in emergency mode for a person. The shipped timer is only made shorter: from the kernel's start, emulated and beside other
  # machines, a boot is in emergency mode long before.
  mkdir -p $units/local-fs.target.requires $units/dev-absent.device.d $units/kairn-trial-deadline.timer.d
  cat >$units/srv-absent.mount <<END
[Unit]
Description=A device that does not exist
Before=local-fs.target
[Mount]
What=/dev/absent
Where=/srv/absent
Type=ext4
END
  ln -s ../srv-absent.mount $units/local-fs.target.requires/
  printf '[Unit]\nJobRunningTimeoutSec=5s\n' >$units/dev-absent.device.d/soon.conf
  printf '[Timer]\nOnBootSec=\nOnBootSec=150s\n' >$units/kairn-trial-deadline.timer.d/soon.conf
  ;;
esac
exec /usr/lib/systemd/systemd "$@"
