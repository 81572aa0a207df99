# podman run: output, exit status, options that become parts of config.json.

case_run_output_and_status() {
    exits 0 run "$IMAGE" sh -c 'echo to-stdout; echo to-stderr >&2'
    same "standard output" "$OUT" to-stdout
    same "standard error" "$ERR" to-stderr
    exits 7 run "$IMAGE" sh -c 'exit 7'
    same "the runtime" "$(podman info --format '{{.Host.OCIRuntime.Path}}')" "$RUNTIME_FILE"
}

case_run_missing_program() {
    exits 127 run "$IMAGE" no-such-program
    has "the message" "$ERR" 'no-such-program'
    exits 127 run "$IMAGE" /bin/no-such-program
    exits 126 run "$IMAGE" /not-executable
    has "the message" "$ERR" '[Pp]ermission denied'
    exits 126 run "$IMAGE" /etc
}

case_run_stdin() {
    same "the echo" "$(echo "through the container" | run -i "$IMAGE" cat)" "through the container"
    same "what went through" "$(head -c 3000000 /dev/zero | run -i "$IMAGE" wc -c)" 3000000
}

case_run_process_options() {
    exits 0 run -e COLOR=blue -w /tmp --user guest --group-add 77 --hostname castle "$IMAGE" sh -c 'echo $COLOR; pwd; id -u; id -G; hostname; umask'
    same "as asked for" "$(tr '\n' ' ' <<<"$OUT")" 'blue /tmp 1000 1000 10 77 castle 0022 '
    exits 0 run --umask 0077 --ulimit nofile=100:200 --ulimit nproc=512:512 "$IMAGE" sh -c 'umask; ulimit -Sn; ulimit -Hn'
    same "as asked for" "$(tr '\n' ' ' <<<"$OUT")" '0077 100 200 '
}

case_run_terminal() {
    terminal 3 size:33x111 expect:'# ' send:'sleep 0.5; stty size\r' expect:'33 111' send:'echo $((6*7))\r' expect:'\n42\r' \
        send:'tty\r' expect:'/dev/pts/0' send:'exit 3\r' \
        -- podman run --rm -it "${PARENT[@]}" "$IMAGE" sh
}

case_run_init() {
    command -v catatonit >/dev/null || [[ -e /usr/libexec/podman/catatonit ]] || cannot "catatonit is not installed"
    exits 9 run --init "$IMAGE" sh -c 'head -n 1 /proc/1/status; exit 9'
    has "the first process" "$OUT" 'catatonit|podman-init'
}

case_run_security() {
    exits 0 run "$IMAGE" grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status
    has "a filter" "$OUT" '^Seccomp:.2'
    exits 0 run --cap-drop ALL --security-opt no-new-privileges "$IMAGE" grep -E '^(CapEff|NoNewPrivs):' /proc/self/status
    same "none" "$(tr -s '\t\n' '  ' <<<"$OUT")" 'CapEff: 0000000000000000 NoNewPrivs: 1 '
    exits 0 run --security-opt seccomp=unconfined "$IMAGE" unshare -U true
    exits 0 run "$IMAGE" sh -c 'cat /proc/kcore | wc -c'
    same "what is masked" "$OUT" 0
}

case_run_privileged() {
    exits 0 run --privileged "$IMAGE" sh -c 'mount -t tmpfs new /tmp && grep ^Seccomp: /proc/self/status && test -e /dev/kmsg'
    has "no filter" "$OUT" '^Seccomp:\s0'
}

case_run_files() {
    mkdir -p "$WORK/volume"
    echo outside >"$WORK/volume/file"
    exits 0 run -v "$WORK/volume:/mnt:ro" --tmpfs /t:size=1m --shm-size 32m -v /made "$IMAGE" \
        sh -c 'cat /mnt/file; touch /mnt/new 2>/dev/null || echo read-only; grep " /t " /proc/mounts | grep -c size=1024k; grep /dev/shm /proc/mounts | grep -c size=32768k; touch /made/new'
    same "what was seen" "$(tr '\n' ' ' <<<"$OUT")" 'outside read-only 1 1 '
    exits 1 run --read-only "$IMAGE" touch /new
    exits 0 run --read-only "$IMAGE" touch /tmp/new
    exits 0 run --device /dev/zero:/dev/nought:r "$IMAGE" sh -c 'head -c 3 /dev/nought | wc -c'
    exits 0 run -v named:/data "$IMAGE" sh -c 'echo kept >/data/file'
    exits 0 run -v named:/data "$IMAGE" cat /data/file
    podman volume rm named >/dev/null
}

case_run_limits() {
    exits 0 run -m 64m --pids-limit 20 --cpus 0.5 "$IMAGE" cat "$(limit_file memory memory.limit_in_bytes memory.max)" "$(limit_file pids pids.max pids.max)"
    same "the limits" "$(tr '\n' ' ' <<<"$OUT")" "$((64 << 20)) 20 "
    exits 137 podman run "${PARENT[@]}" --name fat -m 64m "$IMAGE" dd if=/dev/zero of=/dev/null bs=200M count=1
    exits 0 run --sysctl net.core.somaxconn=1234 --oom-score-adj 500 "$IMAGE" cat /proc/sys/net/core/somaxconn /proc/self/oom_score_adj
    same "sysctl and score" "$(tr '\n' ' ' <<<"$OUT")" '1234 500 '
}

case_run_without_control_groups() {
    [[ $RUNTIME != runc* ]] || cannot "Podman asks for it with an option that runc does not have"
    exits 0 podman run --rm --cgroups disabled "$IMAGE" echo without
    same "the output" "$OUT" without
    podman run -d --cgroups disabled --name without "$IMAGE" sleep 1000 >/dev/null
    # It is where conmon is: in none that is its own.
    local pid conmon
    pid=$(inspect without '{{.State.Pid}}') conmon=$(inspect without '{{.State.ConmonPid}}')
    same "its control groups" "$(<"/proc/$pid/cgroup")" "$(<"/proc/$conmon/cgroup")"
    exits 0 podman exec without id -u
    exits "@(126|0)" podman run --rm --cgroups disabled -m 64m "$IMAGE" true
    [[ $RUNTIME != procrt ]] || has "the reason" "$ERR" 'memory\.limit: takes a control group'
    exits 0 podman rm -f -t 0 without
}

case_run_control_groups_split() {
    on_v2 || cannot "Podman splits control groups of version 2 only"
    exits 0 podman run --rm --cgroups split --cgroupns host "$IMAGE" cat /proc/self/cgroup
    has "below Podman's own" "$OUT" 'libpod-payload|container'
}

case_run_control_groups_by_systemd() {
    [[ -S /run/systemd/private ]] || cannot "there is no systemd here"
    exits 0 podman --cgroup-manager systemd run --rm "$IMAGE" cat /proc/self/cgroup
    has "a scope" "$OUT" 'libpod-[0-9a-f]+\.scope'
}

case_run_network() {
    exits 0 run --network none "$IMAGE" ip -o link
    same "interfaces" "$(wc -l <<<"$OUT")" 1
    exits 0 run --network host "$IMAGE" readlink /proc/self/ns/net
    same "the host's" "$OUT" "$(readlink /proc/self/ns/net)"
    background server "$IMAGE" sh -c 'while :; do echo hello from the server | nc -l -p 80; done'
    local address
    address=$(inspect server '{{.NetworkSettings.IPAddress}}')
    exits 0 run "$IMAGE" nc -w 5 "$address" 80
    same "what the server says" "$OUT" 'hello from the server'
    exits 0 run --network container:server --pid container:server --ipc container:server "$IMAGE" sh -c 'ps; ip -o -4 addr'
    has "processes" "$OUT" 'sh -c while'
    has "its address" "$OUT" "$address"
}

case_run_user_namespace_mapped() {
    exits 0 run --uidmap 0:100000:2000 --gidmap 0:100000:2000 "$IMAGE" sh -c 'cat /proc/self/uid_map; id -u; stat -c %u /root; echo mine >/root/file'
    same "the mapping, and the image's owners in it" "$(tr -s ' \n' ' ' <<<"$OUT")" ' 0 100000 2000 0 0 '
    background mapped --uidmap 0:100000:2000 --gidmap 0:100000:2000 "$IMAGE" sleep 1000
    exits 0 podman exec mapped id -u
    same "root in it" "$OUT" 0
    has "and not outside" "$(<"/proc/$(inspect mapped '{{.State.Pid}}')/status")" '^Uid:\s100000\s'
    exits 0 podman exec -u guest mapped sh -c 'id -u; touch /home/guest/new'
    terminal 0 -- podman exec -it mapped tty
}

case_run_user_namespace_auto() {
    grep -q '^containers:' /etc/subuid || cannot "there is no range of ids for containers in /etc/subuid"
    exits 0 run --userns=auto:size=5000 "$IMAGE" cat /proc/self/uid_map
    has "a mapping of its own" "$OUT" '^ *0 +[1-9][0-9]+ +5000$'
}

case_run_user_namespace_keep_id() {
    exits 125 run --userns=keep-id "$IMAGE" true 2>/dev/null || true
    cannot "keep-id is for users other than root"
}

case_run_30_at_once() {
    one() { run --name "at-once-$1" "$IMAGE" sh -c "echo from $1; exit $1"; }
    at_once 30 one
}

case_run_build() {
    mkdir -p "$WORK/build"
    printf 'FROM %s\nRUN echo built by $(id -u) >/built && test -e /proc/self\nUSER guest\nCMD ["cat","/built"]\n' "$IMAGE" >"$WORK/build/Dockerfile"
    exits 0 podman build -q --runtime "$RUNTIME_FILE" --isolation oci -t procrt-built "$WORK/build"
    exits 0 run localhost/procrt-built
    same "the output" "$OUT" 'built by 0'
    podman rmi -f localhost/procrt-built >/dev/null
}

case_run_as_the_readme_has_it() {
    as_installed
    podman tag "$IMAGE" busybox
    exits 0 bash -ec "$(readme_command '^podman')"
    same "the output" "$OUT" hello
    podman untag busybox busybox
}
