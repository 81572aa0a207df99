# shellcheck shell=dash disable=SC2123,SC2154
# Runs the job, with its output on the host's pipes; leaves its exit status there.
path=$PATH
PATH=/.vm
if [ -d /.vm/io ]; then
    # User Mode Linux: two consoles, and a directory of the host's.
    out=/dev/tty1 err=/dev/tty2 status=/.vm/io/status
    stty raw -echo <$out
    stty raw -echo <$err
    cp /.vm/io/job /run/vm-job
else
    # QEMU: serial ports by name.
    for port in /sys/class/virtio-ports/*; do
        read -r name <"$port/name"
        eval "$name=/dev/${port##*/}"
    done
    while IFS= read -r line && [ "$line" != '#VM-JOB-END' ]; do printf '%s\n' "$line"; done <"$job" >/run/vm-job
fi
mkfifo /run/vm-out /run/vm-err
cat </run/vm-out >$out &
to_out=$!
cat </run/vm-err >$err &
to_err=$!
[ "$path" != /.vm ] || path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PATH=$path /.vm/setsid bash /run/vm-job </dev/null >/run/vm-out 2>/run/vm-err
ended=$?
# A process that the job left behind may hold them open for ever.
(sleep 3; kill $to_out $to_err) 2>/dev/null &
wait $to_out $to_err
echo $ended >$status
poweroff -f
