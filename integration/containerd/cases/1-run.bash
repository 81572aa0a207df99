# ctr run: output, exit status, options that become parts of config.json.

case_run_output_and_status() {
    exits 0 run first -- sh -c 'echo to-stdout; echo to-stderr >&2'
    same "standard output" "$OUT" to-stdout
    same "standard error" "$ERR" to-stderr
    exits 7 run first -- sh -c 'exit 7'
}

case_run_process_options() {
    exits 0 run first --env COLOR=blue --env 'SPACED=a b' --cwd /tmp -- sh -c 'echo $COLOR $SPACED; pwd; id -u'
    same "as asked for" "$(tr '\n' ' ' <<<"$OUT")" 'blue a b /tmp 0 '
    exits 0 run first --cwd /made/for/it -- pwd
    same "a directory that is made" "$OUT" /made/for/it
}

case_run_failures() {
    exits 1 run first -- no-such-program
    has "the reason" "$ERR" 'no-such-program.*(executable file not found|No such file)'
    exits 1 run first -- /not-executable
    has "the reason" "$ERR" '[Pp]ermission denied'
    exits 1 run first --mount "type=bind,src=/nowhere,dst=/mnt,options=rbind:ro" -- true
    has "the reason" "$ERR" '/nowhere'
    same "what is left of them" "$(ctr task ls -q)" ''
}

case_run_terminal() {
    terminal 0 -- ctr run --rm -t --runc-binary "$RUNTIME_FILE" --cgroup "$CGROUP_PARENT/t" "$IMAGE" t sh -c 'tty; ls -l /dev/console'
    has "the name" "$OUT" '^/dev/pts/0'
    has "the console" "$OUT" '^c.* 136, *[0-9]+ .*/dev/console'
    terminal 3 size:33x111 expect:'# ' send:'sleep 0.5; stty size\r' expect:'33 111' send:'echo $((6*7))\r' expect:'\n42\r' send:'exit 3\r' \
        -- ctr run --rm -t --runc-binary "$RUNTIME_FILE" --cgroup "$CGROUP_PARENT/t" "$IMAGE" t sh
}

case_run_mounts() {
    mkdir -p "$WORK/bound"
    echo outside >"$WORK/bound/file"
    exits 0 run first --mount "type=bind,src=$WORK/bound,dst=/bound,options=rbind:ro" \
        --mount "type=tmpfs,dst=/t,options=size=1m:mode=1700" -- sh -c 'cat /bound/file; stat -c %a /t; touch /bound/new 2>&1; true'
    has "what was seen" "$(tr '\n' ' ' <<<"$OUT")" '^outside 1700 .*Read-only file system'
    exits 1 run first --read-only -- touch /new
    has "the reason" "$ERR" 'Read-only file system'
}

case_run_limits() {
    background kept --memory-limit $((64 << 20)) --cpus 0.5 --cpu-shares 512 -- sleep 1000
    same "the limit" "$(limit_of kept memory memory.limit_in_bytes memory.max)" $((64 << 20))
    has "the quota" "$(limit_of kept cpu cpu.cfs_quota_us cpu.max)" '^50000'
    exits 137 exec_in kept -- dd if=/dev/zero of=/dev/null bs=100M count=1
}

case_run_security() {
    exits 0 run first --seccomp -- grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status
    same "a filter, and no new privileges" "$(tr -s '\t\n' '  ' <<<"$OUT")" 'NoNewPrivs: 1 Seccomp: 2 '
    exits 1 run first --seccomp -- unshare -U true
    exits 0 run first --allow-new-privs --cap-drop CAP_CHOWN -- grep -E '^(CapEff|NoNewPrivs):' /proc/self/status
    same "what was asked for" "$(tr -s '\t\n' '  ' <<<"$OUT")" 'CapEff: 00000000a80425fa NoNewPrivs: 0 '
}

case_run_privileged() {
    if [[ $RUNTIME != procrt ]] && ! run first --privileged -- true 2>"$WORK/refusal"; then
        cannot "$RUNTIME grants all capabilities or fails, and this machine's root lacks some: $(tail -n 1 "$WORK/refusal")"
    fi
    exits 0 run first --privileged -- sh -c 'mount -t tmpfs new /tmp && grep ^Seccomp: /proc/self/status'
    has "no filter" "$OUT" '^Seccomp:\s0'
}

case_run_device() {
    exits 0 run first --device /dev/zero -- sh -c 'head -c 3 /dev/zero | wc -c'
    exits 1 run first -- sh -c 'mknod /kmsg c 1 11 && head -c 1 /kmsg'
    has "the reason" "$ERR" 'Operation not permitted'
}

case_run_networks() {
    exits 0 run first -- ip -o link
    same "interfaces" "$(wc -l <<<"$OUT")" 1
    exits 0 run first --net-host -- readlink /proc/self/ns/net
    same "the host's" "$OUT" "$(readlink /proc/self/ns/net)"
    background kept -- sleep 1000
    exits 0 run first --with-ns "network:/proc/$(pid_of kept)/ns/net" -- readlink /proc/self/ns/net
    same "another container's" "$OUT" "$(readlink "/proc/$(pid_of kept)/ns/net")"
}

case_run_user_namespace() {
    exits 0 run first --uidmap 0:100000:1000 --gidmap 0:100000:1000 -- sh -c 'cat /proc/self/uid_map; id -u; stat -c %u /root; echo mine >/root/file'
    same "the mapping, and the image's owners in it" "$(tr -s ' \n' ' ' <<<"$OUT")" ' 0 100000 1000 0 0 '
}

case_run_older_shim() {
    command -v containerd-shim-runc-v1 >/dev/null || cannot "this containerd has no shim of the older kind"
    [[ ! $(containerd --version) =~ \ v?2\. ]] || cannot "this containerd has no shim of the older kind"
    exits 4 ctr run --rm --runtime io.containerd.runc.v1 --cgroup "$(group_of first)" "$IMAGE" first sh -c 'echo by the older shim; exit 4'
    same "the output" "$OUT" 'by the older shim'
}

case_run_rootfs_without_image() {
    exits 0 ctr run --rm --runc-binary "$RUNTIME_FILE" --cgroup "$CGROUP_PARENT/plain" --rootfs "$WORK/image" plain /bin/busybox echo from a directory
    same "the output" "$OUT" 'from a directory'
}

case_run_configuration() {
    # A configuration of one's own, whole.
    cat >"$WORK/config.json" <<JSON
{ "ociVersion": "1.0.2", "process": { "cwd": "/", "args": ["/bin/sh", "-c", "hostname; id -u"], "env": ["PATH=/bin"],
    "user": { "uid": 12, "gid": 34 } },
  "root": { "path": "$WORK/image" }, "hostname": "configured",
  "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
  "linux": { "cgroupsPath": "$CGROUP_PARENT/own", "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "uts" }] } }
JSON
    exits 0 ctr run --rm --runc-binary "$RUNTIME_FILE" --config "$WORK/config.json" own
    same "the output" "$(tr '\n' ' ' <<<"$OUT")" 'configured 12 '
}

case_run_pid_file() {
    background kept --pid-file "$WORK/pid" -- sleep 1000
    same "the pid" "$(<"$WORK/pid")" "$(pid_of kept)"
}

case_run_30_at_once() {
    one() { run "at-once-$1" -- sh -c "echo from $1; exit $1"; }
    at_once 30 one
}

case_run_as_the_readme_has_it() {
    as_installed
    # ctr's own place for control groups, which stays.
    local place
    place=$(find /sys/fs/cgroup -maxdepth 2 -name "$CONTAINERD_NAMESPACE" -type d)
    ctr image tag "$IMAGE" docker.io/library/busybox:latest >/dev/null
    exits 0 bash -ec "$(readme_command '^ctr')"
    same "the output" "$OUT" hello
    ctr image rm docker.io/library/busybox:latest >/dev/null
    find /sys/fs/cgroup -maxdepth 2 -name "$CONTAINERD_NAMESPACE" -type d | grep -vxF -- "${place:-none}" | xargs -r rmdir
}
