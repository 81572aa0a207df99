# podman exec, pause, top, stats, health checks.

served() {
    background served "$@" "$IMAGE" sleep 1000
}

case_exec_output_and_status() {
    served -e KEPT=1
    exits 0 podman exec served sh -c 'echo out $KEPT; echo err >&2'
    same "the output" "$OUT" 'out 1'
    same "the errors" "$ERR" err
    exits 42 podman exec served sh -c 'exit 42'
    exits 137 podman exec served sh -c 'kill -9 $$'
    exits 127 podman exec served no-such-program
    has "the reason" "$ERR" 'no-such-program'
    exits 126 podman exec served /not-executable
    exits 0 podman exec -u guest -w /tmp -e ADDED=2 served sh -c 'id -u; pwd; echo $ADDED'
    same "as asked for" "$(tr '\n' ' ' <<<"$OUT")" '1000 /tmp 2 '
    same "what went through" "$(head -c 300000 /dev/zero | podman exec -i served wc -c | tr -d ' ')" 300000
}

case_exec_terminal() {
    differs crun 'version 1.8 leaves the terminal to root'
    served
    terminal 5 expect:'# ' send:'echo $((6*7))\r' expect:'\n42\r' send:'tty\r' expect:'/dev/pts/' send:'exit 5\r' \
        -- podman exec -it served sh
    terminal 0 size:33x111 expect:'# ' send:'sleep 0.5; stty size\r' expect:'33 111' send:'exit 0\r' -- podman exec -it served sh
    terminal 0 -- podman exec -it -u guest served sh -c 'echo by its name >"$(tty)"'
    has "what the user writes" "$OUT" '^by its name'
}

case_exec_in_background() {
    served
    exits 0 podman exec -d served sh -c 'sleep 0.2; echo done >/done'
    eventually podman exec served cat /done
}

case_exec_confinement() {
    served --cap-drop ALL --security-opt no-new-privileges
    exits 0 podman exec served grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
    same "the same as the container's" "$OUT" "$(podman exec served grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/1/status)"
    has "the filter" "$OUT" '^Seccomp:.2'
}

case_exec_20_at_once() {
    local i
    served
    for i in {1..20}; do
        podman exec served sh -c "echo $i" >"$WORK/many.$i" &
    done
    wait
    for i in {1..20}; do
        same "the output of $i" "$(<"$WORK/many.$i")" "$i"
    done
}

case_exec_pause() {
    with_control_groups
    background served "$IMAGE" sh -c 'while :; do echo x; sleep 0.05; done'
    eventually logs_have served x
    exits 0 podman pause served
    same "the state" "$(inspect served '{{.State.Status}}')" paused
    local before
    before=$(podman logs served | wc -l)
    sleep 0.3
    same "its lines" "$(podman logs served | wc -l)" "$before"
    exits '@(1|125|255)' podman exec served true
    exits 0 podman unpause served
    same "the state" "$(inspect served '{{.State.Status}}')" running
    exits 0 podman exec served true
    podman pause served >/dev/null
    exits 0 podman rm -f -t 0 served
}

case_exec_top() {
    background served "$IMAGE" sh -c 'sleep 2000 & sleep 2001 & wait'
    eventually bash -c 'podman top served args | grep -q "sleep 2001"'
    exits 0 podman top served pid user args
    same "processes" "$(grep -c 'sleep 200[01]' <<<"$OUT")" 3
}

case_exec_stats() {
    with_control_groups
    differs crun 'it runs below a control group that Podman does not look in'
    background served -m 128m --pids-limit 40 "$IMAGE" sh -c 'dd if=/dev/zero of=/dev/shm/file bs=1M count=50 2>/dev/null; sleep 1000 & sleep 1001 & wait'
    eventually podman exec served test -s /dev/shm/file
    sleep 0.3
    has "processes, memory and its limit" "$(podman stats --no-stream --format '{{.PIDS}} {{.MemUsage}}' served)" '^3 (4[5-9]|[56][0-9])[.0-9]*MB / 134\.2MB$'
}

case_exec_health() {
    # Without systemd nobody runs the check by itself.
    served --health-cmd 'test -e /healthy' --health-interval disable --health-retries 1
    exits 1 podman healthcheck run served
    exits 0 podman exec served touch /healthy
    exits 0 podman healthcheck run served
    same "the state" "$(inspect served '{{.State.Healthcheck.Status}}')" healthy
}

case_exec_update() {
    with_control_groups
    served -m 64m
    podman update --help >/dev/null 2>&1 || cannot "this podman has no command update"
    exits 0 podman update -m 128m --memory-swap 128m --cpus 0.5 served
    same "the limit" "$(podman exec served cat "$(limit_file memory memory.limit_in_bytes memory.max)")" $((128 << 20))
}
