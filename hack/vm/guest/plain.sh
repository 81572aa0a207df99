# shellcheck shell=dash disable=SC2123
# The first process of the guest without systemd: what any machine has, cgroup v2, and then the job.
export PATH=/.vm HOME=/root TERM=dumb
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
mount -t tmpfs -o mode=755 tmpfs /run
ln -sf /proc/self/fd /dev/fd
for name in stdin:0 stdout:1 stderr:2; do ln -sf "/proc/self/fd/${name#*:}" "/dev/${name%:*}"; done
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
mount --make-rshared /
read -r controllers </sys/fs/cgroup/cgroup.controllers
for controller in $controllers; do echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control; done
ifconfig lo up
hostname vm
# As on a machine that people use, the job is not in the root group.
mkdir /sys/fs/cgroup/job
(echo 0 >/sys/fs/cgroup/job/cgroup.procs; exec sh /.vm/job.sh) </dev/null
poweroff -f
