# containerd's namespaces, and daemons that end before their containers do.

case_daemon_namespaces() {
    background same -- sleep 1000
    CONTAINERD_NAMESPACE=other exits 0 background same -- sleep 2000
    has "the one" "$(tr '\0' ' ' <"/proc/$(pid_of same)/cmdline")" 'sleep 1000'
    has "the other" "$(tr '\0' ' ' <"/proc/$(CONTAINERD_NAMESPACE=other pid_of same)/cmdline")" 'sleep 2000'
    exits '@(0|137)' ctr -n other task rm -f same
    task_is same RUNNING || fail "the one ended with the other"
    exits 0 exec_in same -- true
}

case_daemon_shim_killed() {
    background kept -- sh -c 'sleep 2000 & sleep 2001 & wait'
    local pid shim
    pid=$(pid_of kept)
    shim=$(shim_of default kept)
    [[ -n $shim ]] || fail "there is no shim"
    kill -KILL "$shim"
    # containerd sees to it that the container goes with its shim.
    eventually bash -c "! grep -q '^State:.[^ZX]' /proc/$pid/status"
    eventually bash -c '[[ -z $(ctr task ls -q) ]]'
    exits 0 ctr container rm kept
    # It is listed no more before it is forgotten.
    eventually run kept -- true
    exits 0 run kept -- echo again
    same "the same id again" "$OUT" again
}

case_daemon_container_killed_from_outside() {
    background kept -- sleep 1000
    kill -KILL "$(pid_of kept)"
    eventually task_is kept STOPPED
    exits '@(0|137)' ctr task rm kept
    has "its status" "$ERR" 'exit code 137'
}

case_daemon_restarted() {
    background kept -- sh -c 'trap "exit 6" TERM; echo begun >/begun; while :; do sleep 0.05; done'
    eventually exec_in kept -- test -e /begun
    local pid
    pid=$(pid_of kept)
    # shellcheck source=integration/daemons.bash
    source "$HERE/daemons.bash"
    kill -KILL "$(<"$WORK/containerd.pid")"
    sleep 0.3
    run_containerd "$WORK"
    task_is kept RUNNING || fail "it does not run"
    same "its pid" "$(pid_of kept)" "$pid"
    exits 0 exec_in kept -- true
    exits 0 ctr task kill kept
    eventually task_is kept STOPPED
    exits '@(0|6)' ctr task rm kept
    has "its status" "$ERR" 'exit code 6'
}
