# podman run by a plain user.

case_run_output_and_status() {
    exits 0 run "$IMAGE" sh -c 'echo to-stdout; echo to-stderr >&2'
    same "standard output" "$OUT" to-stdout
    same "standard error" "$ERR" to-stderr
    exits 7 run "$IMAGE" sh -c 'exit 7'
    same "the runtime" "$(podman info --format '{{.Host.OCIRuntime.Path}} {{.Host.Security.Rootless}}')" "$RUNTIME_FILE true"
}

case_run_missing_program() {
    exits 127 run "$IMAGE" no-such-program
    has "the message" "$ERR" 'no-such-program'
    exits 126 run "$IMAGE" /not-executable
    has "the message" "$ERR" '[Pp]ermission denied'
}

case_run_users() {
    exits 0 run "$IMAGE" sh -c 'cat /proc/self/uid_map; id -u; touch /new /home/guest/new; chown guest /new; stat -c %u /new'
    has "the mapping" "$(tr -s ' ' <<<"$OUT")" "^ 0 ${engine_uids[0]} 1\$"
    has "the mapping" "$(tr -s ' ' <<<"$OUT")" "^ 1 ${engine_uids[1]%-*} 65536\$"
    same "root in it, and a file's owner" "$(tail -n 2 <<<"$OUT" | tr '\n' ' ')" '0 1000 '
    exits 0 run --user guest --group-add 77 "$IMAGE" id -G
    same "groups" "$OUT" '1000 10 77'
    background mapped --user guest "$IMAGE" sleep 1000
    has "its user outside" "$(<"/proc/$(inspect mapped '{{.State.Pid}}')/status")" "^Uid:\\s$((${engine_uids[1]%-*} + 999))\\s"
}

case_run_user_namespace_keep_id() {
    echo mine >"$WORK/user/file"
    chown "${engine_uids[0]}" "$WORK/user/file"
    exits 0 run --userns=keep-id -v "$WORK/user/file:/file" "$IMAGE" sh -c 'id -u; stat -c %u /file; echo changed >/file'
    same "the user, and a file's owner" "$(tr '\n' ' ' <<<"$OUT")" "${engine_uids[0]} ${engine_uids[0]} "
    same "the file" "$(<"$WORK/user/file")" changed
}

case_run_user_namespace_auto() {
    exits 0 run --userns=auto:size=5000 "$IMAGE" cat /proc/self/uid_map
    has "a mapping of its own" "$OUT" '^ *0 +[1-9][0-9]* +5000$'
}

case_run_terminal() {
    terminal 3 size:33x111 expect:'# ' send:'sleep 0.5; stty size\r' expect:'33 111' send:'echo $((6*7))\r' expect:'\n42\r' \
        send:'tty\r' expect:'/dev/pts/0' send:'exit 3\r' -- podman run --rm -it "$IMAGE" sh
    terminal 0 -- podman run --rm -it --user guest "$IMAGE" sh -c 'echo by its name >"$(tty)"'
    has "what the user writes" "$OUT" '^by its name'
}

case_run_security() {
    exits 0 run --cap-drop ALL --security-opt no-new-privileges "$IMAGE" grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status
    same "none" "$(tr -s '\t\n' '  ' <<<"$OUT")" 'CapEff: 0000000000000000 NoNewPrivs: 1 Seccomp: 2 '
    exits 0 run --privileged "$IMAGE" sh -c 'mount -t tmpfs new /tmp && grep ^Seccomp: /proc/self/status'
    has "no filter" "$OUT" '^Seccomp:\s0'
    # Privileged or not, it is no more than its user.
    exits 1 run --privileged "$IMAGE" mknod /tmp/zero c 1 5
}

case_run_files() {
    mkdir -p "$WORK/user/volume"
    echo outside >"$WORK/user/volume/file"
    chown -R "${engine_uids[0]}" "$WORK/user/volume"
    exits 0 run -v "$WORK/user/volume:/mnt:ro" --tmpfs /t:size=1m --shm-size 32m -v /made "$IMAGE" \
        sh -c 'cat /mnt/file; touch /mnt/new 2>/dev/null || echo read-only; grep " /t " /proc/mounts | grep -c size=1024k; grep /dev/shm /proc/mounts | grep -c size=32768k; touch /made/new; echo x >/dev/null; head -c 3 /dev/zero | wc -c'
    same "what was seen" "$(tr '\n' ' ' <<<"$OUT")" 'outside read-only 1 1 3 '
    exits 1 run --read-only "$IMAGE" touch /new
    exits 0 run -v named:/data "$IMAGE" sh -c 'echo kept >/data/file'
    exits 0 run -v named:/data "$IMAGE" cat /data/file
    podman volume rm named >/dev/null
}

case_run_network() {
    exits 0 run --network none "$IMAGE" ip -o link
    same "interfaces" "$(wc -l <<<"$OUT")" 1
    exits 0 run --network host "$IMAGE" readlink /proc/self/ns/net
    same "the host's" "$OUT" "$(readlink /proc/self/ns/net)"
    exits 0 run --network slirp4netns "$IMAGE" sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do ip -o -4 addr show tap0 2>/dev/null | grep inet && exit; sleep 0.2; done'
    has "an address" "$OUT" '10\.0\.2\.100'
}

case_run_limits() {
    with_control_groups
    exits 0 run -m 64m --pids-limit 20 "$IMAGE" cat "$(limit_file memory memory.limit_in_bytes memory.max)" "$(limit_file pids pids.max pids.max)"
    same "the limits" "$(tr '\n' ' ' <<<"$OUT")" "$((64 << 20)) 20 "
}

case_run_without_control_groups() {
    [[ $RUNTIME != runc* ]] || cannot "Podman asks for it with an option that runc does not have"
    exits 0 podman run --rm --cgroups disabled "$IMAGE" echo without
    same "the output" "$OUT" without
}

case_run_10_at_once() {
    one() { run --name "at-once-$1" "$IMAGE" sh -c "echo from $1; exit $1"; }
    at_once 10 one
}

case_run_build() {
    mkdir -p "$WORK/user/build"
    printf 'FROM %s\nRUN echo built by $(id -u) >/built && test -e /proc/self && chown guest /built\nUSER guest\nRUN id -u >>/built\nCMD ["cat","/built"]\n' "$IMAGE" >"$WORK/user/build/Dockerfile"
    exits 0 podman build -q --network none --runtime "$RUNTIME_FILE" --isolation oci -t procrt-built "$WORK/user/build"
    exits 0 run localhost/procrt-built
    same "the output" "$(tr '\n' ' ' <<<"$OUT")" 'built by 0 1000 '
    podman rmi -f localhost/procrt-built >/dev/null
}
