# The container's files: the root, volumes, tmpfs, shared memory, devices, what of /proc is hidden.

case_files_read_only() {
    exits 1 run --read-only "$IMAGE" touch /new
    has "the reason" "$ERR" 'Read-only file system'
    exits 0 run --read-only --tmpfs /scratch -v /keep "$IMAGE" sh -c 'touch /scratch/new /keep/new /dev/shm/new'
}

case_files_volume() {
    mkdir -p "$WORK/volume"
    echo original >"$WORK/volume/file"
    exits 0 run -v "$WORK/volume:/mnt/volume" "$IMAGE" sh -c 'cat /mnt/volume/file; echo changed >/mnt/volume/file'
    same "seen inside" "$OUT" original
    same "written inside" "$(cat "$WORK/volume/file")" changed
    exits 1 run -v "$WORK/volume:/mnt/volume:ro" "$IMAGE" sh -c 'cat /mnt/volume/file; echo again >/mnt/volume/file'
    same "seen inside" "$OUT" changed
    has "the reason" "$ERR" 'Read-only file system'
    exits 0 run -v "$WORK/volume/file:/etc/one-file:ro" "$IMAGE" cat /etc/one-file
    same "one file" "$OUT" changed
}

case_files_named_volume() {
    exits 0 run -v procrt-volume:/home/guest "$IMAGE" sh -c 'echo kept >/home/guest/file'
    exits 0 run -v procrt-volume:/data:ro "$IMAGE" sh -c 'cat /data/file; stat -c %u /data'
    same "what was kept, and the owner from the image" "$(tr '\n' ' ' <<<"$OUT")" 'kept 1000 '
    docker volume rm procrt-volume >/dev/null
}

# Whether what is mounted on the host, after the container began, is seen inside.
sees_later_mount() {
    docker run -d --name "watch-$1" -v "$WORK/shared:/shared:$1" "$IMAGE" sleep 1000 >/dev/null
    local root
    root=/proc/$(inspect "watch-$1" '{{.State.Pid}}')/root
    mount -t tmpfs later "$WORK/shared/later"
    touch "$WORK/shared/later/mark"
    local seen=no
    [[ ! -e $root/shared/later/mark ]] || seen=yes
    umount "$WORK/shared/later"
    docker rm -f "watch-$1" >/dev/null
    same "with $1, a later mount is seen" "$seen" "$2"
}

case_files_volume_propagation() {
    mkdir -p "$WORK/shared"
    mount -t tmpfs shared "$WORK/shared"
    mount --make-shared "$WORK/shared"
    mkdir "$WORK/shared/later" "$WORK/shared/inner"
    # shellcheck disable=SC2064
    trap "umount -R '$WORK/shared'" EXIT
    sees_later_mount rprivate no
    sees_later_mount rslave yes
    sees_later_mount rshared yes
    # And the other way round.
    exits 0 run --cap-add SYS_ADMIN -v "$WORK/shared:/shared:rslave" "$IMAGE" mount -t tmpfs inner /shared/inner
    ! mountpoint -q "$WORK/shared/inner" || fail "a slave's mount came out"
    exits 0 run --cap-add SYS_ADMIN -v "$WORK/shared:/shared:rshared" "$IMAGE" mount -t tmpfs inner /shared/inner
    mountpoint -q "$WORK/shared/inner" || fail "a shared mount did not come out"
}

case_files_mount_flag() {
    mkdir -p "$WORK/bound/below"
    exits 0 run --mount "type=bind,src=$WORK/bound,dst=/bound,readonly,bind-propagation=private" \
        --mount type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=0700 "$IMAGE" cat /proc/self/mountinfo
    has "the bind" "$OUT" ' /bound ro,'
    has "the tmpfs" "$OUT" ' /t rw.* rw,size=2048k,mode=700'
}

case_files_tmpfs() {
    exits 0 run --tmpfs /t:size=1m,mode=1700,noexec "$IMAGE" sh -c 'grep " /t " /proc/self/mounts; stat -c %a /t'
    has "the mount" "$OUT" '^tmpfs /t tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k,mode=1700'
    has "the mode" "$OUT" '^1700$'
    exits 1 run --tmpfs /t:size=1m "$IMAGE" dd if=/dev/zero of=/t/file bs=1M count=2
    has "the reason" "$ERR" 'No space left'
}

case_files_shm_size() {
    exits 0 run "$IMAGE" grep ' /dev/shm ' /proc/self/mounts
    has "the default" "$OUT" '^shm /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k'
    exits 0 run --shm-size 32m "$IMAGE" grep ' /dev/shm ' /proc/self/mounts
    has "the size" "$OUT" 'size=32768k'
}

case_files_devices() {
    exits 0 run "$IMAGE" sh -c 'cd /dev; stat -c "%n %t:%T %a" null zero full random urandom tty; for link in fd stdin stdout stderr ptmx; do readlink $link; done; ls -d mqueue pts shm; head -c 4 zero | wc -c; echo x >null'
    same "the devices" "$(head -n 6 <<<"$OUT" | tr '\n' ' ')" 'null 1:3 666 zero 1:5 666 full 1:7 666 random 1:8 666 urandom 1:9 666 tty 5:0 666 '
    same "the links" "$(sed -n 7,11p <<<"$OUT" | tr '\n' ' ')" '/proc/self/fd /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 pts/ptmx '
}

case_files_device() {
    exits 0 run --device /dev/zero:/dev/nought:r "$IMAGE" sh -c 'stat -c %t:%T /dev/nought; head -c 3 /dev/nought | wc -c; echo x >/dev/nought'
    same "number and bytes" "$(tr '\n' ' ' <<<"$OUT")" '1:5 3 '
    exits 0 run --device /dev/ptmx:/dev/other:rw "$IMAGE" test -c /dev/other
}

case_files_devices_denied() {
    # It may be made (CAP_MKNOD), and may not be opened.
    exits 1 run "$IMAGE" sh -c 'mknod /block b 254 0 && dd if=/block of=/dev/null count=1'
    has "the reason" "$ERR" 'Operation not permitted'
    exits 1 run "$IMAGE" sh -c 'mknod /kmsg c 1 11 && head -c 1 /kmsg'
    has "the reason" "$ERR" 'Operation not permitted'
    exits 1 run --device /dev/null:/dev/sink:r --device-cgroup-rule 'c 1:11 m' "$IMAGE" sh -c 'mknod /kmsg c 1 11 && head -c 1 /kmsg'
    has "the reason" "$ERR" 'Operation not permitted'
}

case_files_masked() {
    # Not every kernel has all of them.
    exits 0 run "$IMAGE" sh -c 'cd /proc; for file in kcore keys latency_stats sched_debug timer_list; do head -c 1 $file; done 2>/dev/null; ls acpi scsi /sys/firmware 2>/dev/null | grep -v :; true'
    same "what is seen of them" "$OUT" ''
    exits 1 run "$IMAGE" sh -c 'echo hill >/proc/sys/kernel/domainname'
    has "the reason" "$ERR" 'Read-only file system'
    exits 1 run "$IMAGE" mkdir "$(limit_file memory new new)"
    exits 0 run --security-opt systempaths=unconfined "$IMAGE" grep -c ' /proc[ /]' /proc/self/mountinfo
    same "mounts on and below /proc" "$OUT" 1
}

case_files_fresh_root() {
    exits 0 run "$IMAGE" cut -d ' ' -f 2 /proc/self/mounts
    hasnt "the host's mounts" "$OUT" "$WORK"
    same "its first" "$(head -n 1 <<<"$OUT")" /
    exits 0 run "$IMAGE" sh -c 'echo x >/etc/passwd'
    exits 0 run "$IMAGE" grep -c root /etc/passwd
}
