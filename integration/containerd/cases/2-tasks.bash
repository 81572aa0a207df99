# ctr task: exec, pause, kill, metrics, ps, and what containerd tells about them.

case_task_start_of_what_was_created() {
    cat >"$WORK/config.json" <<JSON
{ "ociVersion": "1.0.2", "process": { "cwd": "/", "args": ["/bin/sleep", "1000"], "user": { "uid": 0, "gid": 0 } },
  "root": { "path": "$WORK/image" },
  "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
  "linux": { "cgroupsPath": "$(group_of life)", "namespaces": [{ "type": "pid" }, { "type": "mount" }] } }
JSON
    exits 0 ctr container create --config "$WORK/config.json" life
    same "before it starts" "$(ctr task ls -q)" ''
    exits 0 ctr task start -d life
    task_is life RUNNING || fail "it does not run"
}

case_task_started_again() {
    background life -- sleep 1000
    exits 0 ctr task kill -s KILL life
    eventually task_is life STOPPED
    exits '@(0|137)' ctr task rm life
    exits 0 ctr task start -d life
    task_is life RUNNING || fail "it does not run again"
}

case_task_exec() {
    background kept --env KEPT=1 -- sleep 1000
    exits 0 exec_in kept -- sh -c 'echo out; echo err >&2; echo $KEPT'
    same "the output" "$(tr '\n' ' ' <<<"$OUT")" 'out 1 '
    same "the errors" "$ERR" err
    exits 42 exec_in kept -- sh -c 'exit 42'
    exits 137 exec_in kept -- sh -c 'kill -9 $$'
    exits 0 exec_in kept --cwd /tmp --user 1000 -- sh -c 'pwd; id -u'
    same "as asked for" "$(tr '\n' ' ' <<<"$OUT")" '/tmp 1000 '
    exits 1 exec_in kept -- no-such-program
    has "the reason" "$ERR" 'no-such-program.*(executable file not found|No such file)'
    same "what went through" "$(head -c 300000 /dev/zero | exec_in kept -- wc -c | tr -d ' ')" 300000
}

case_task_exec_terminal() {
    background kept -- sleep 1000
    terminal 5 expect:'# ' send:'echo $((6*7)); tty\r' expect:'\n42\r' expect:'/dev/pts/0' send:'exit 5\r' \
        -- ctr task exec -t --exec-id talk kept sh
}

case_task_exec_in_background() {
    background kept -- sleep 1000
    exits 0 exec_in kept -d -- sh -c 'echo >/begun; exec sleep 2000'
    eventually exec_in kept -- test -e /begun
    same "processes" "$(ctr task ps kept | grep -c '^[0-9]')" 2
    # containerd keeps an exec that nobody waited for until it is told.
    exits 0 ctr task kill -s KILL kept
    eventually task_is kept STOPPED
}

case_task_exec_30_at_once() {
    local i
    background kept -- sleep 1000
    for i in {1..30}; do
        exec_in kept -- sh -c "echo $i >>/many" >"$WORK/many.$i" 2>&1 &
    done
    wait
    # Of many at once ctr loses an output now and then, whatever the runtime.
    same "what they wrote" "$(sort -n "/proc/$(pid_of kept)/root/many")" "$(seq 30)"
}

case_task_pause() {
    background kept -- sh -c 'while :; do echo x >>/log; sleep 0.02; done'
    eventually exec_in kept -- test -s /log
    exits 0 ctr task pause kept
    task_is kept PAUSED || fail "it is not paused: $(ctr task ls)"
    local log=/proc/$(pid_of kept)/root/log before
    before=$(stat -c %s "$log")
    sleep 0.2
    same "its log" "$(stat -c %s "$log")" "$before"
    exits 1 exec_in kept -- true
    has "the reason" "$ERR" 'pause'
    exits 0 ctr task resume kept
    task_is kept RUNNING || fail "it does not run"
    exits 0 exec_in kept -- true
    exits 0 ctr task pause kept
    # A paused one can be ended by force.
    exits '@(0|137)' ctr task rm -f kept
}

case_task_signals() {
    background kept -- sh -c 'trap "echo usr1 >>/log" USR1; trap "exit 21" TERM; echo begun >>/log; while :; do sleep 0.05; done'
    eventually exec_in kept -- grep begun /log
    exits 0 ctr task kill -s USR1 kept
    eventually exec_in kept -- grep usr1 /log
    exits 0 ctr task kill -s SIGTERM kept
    eventually task_is kept STOPPED
    # containerd knows these words, whichever runtime says them.
    exits 1 ctr task kill kept
    has "the reason" "$ERR" 'process already finished: not found'
    exits '@(0|21)' ctr task rm kept
    has "its status" "$ERR" 'exit code 21'
    exits 1 ctr task kill kept
    has "the reason" "$ERR" 'not found'
}

case_task_kill_all() {
    background kept -- sh -c 'trap "" TERM; sleep 2000 & sleep 2001 & wait'
    eventually bash -c '[[ $(ctr task ps kept | grep -c "^[0-9]") == 3 ]]'
    exits 0 ctr task kill -a -s KILL kept
    eventually task_is kept STOPPED
}

case_task_kill_of_an_exec() {
    background kept -- sleep 1000
    ctr task exec --exec-id victim kept sleep 2000 &
    local client=$! status=0
    eventually bash -c '[[ $(ctr task ps kept | grep -c "^[0-9]") == 2 ]]'
    exits 0 ctr task kill --exec-id victim -s KILL kept
    wait "$client" || status=$?
    same "its status" "$status" 137
    task_is kept RUNNING || fail "the container ended with it"
}

case_task_ps() {
    background kept -- sh -c 'sleep 2000 & sleep 2001 & wait'
    eventually bash -c '[[ $(ctr task ps kept | grep -c "^[0-9]") == 3 ]]'
    local pid
    for pid in $(ctr task ps kept | awk '/^[0-9]/ { print $1 }'); do
        [[ $(readlink "/proc/$pid/ns/pid") == "$(readlink "/proc/$(pid_of kept)/ns/pid")" ]] || fail "$pid is not in the container"
    done
    exits 0 ctr task kill -s KILL kept
    eventually task_is kept STOPPED
    # Its first process is gone, the container is still there: nothing to list, and no failure.
    ctr task ps kept >"$WORK/ps" 2>&1 || true
    same "processes of one that has ended" "$(grep -c '^[0-9]' "$WORK/ps" || true)" 0
}

case_task_metrics() {
    background kept --memory-limit $((128 << 20)) -- sh -c 'dd if=/dev/zero of=/dev/shm/file bs=1M count=30 2>/dev/null; while :; do :; done'
    eventually exec_in kept -- test -s /dev/shm/file
    sleep 0.3
    metric() { ctr task metrics --format json kept | jq -r "$1"; }
    if on_v2; then
        metric .memory.usage | awk '{ exit !($1 > 30000000 && $1 < 134217728) }' || fail "memory: $(metric .memory.usage)"
        same "the limit" "$(metric .memory.usage_limit)" $((128 << 20))
        same "processes" "$(metric .pids.current)" 1
    else
        metric .memory.usage.usage | awk '{ exit !($1 > 30000000 && $1 < 134217728) }' || fail "memory: $(metric .memory.usage)"
        same "the limit" "$(metric .memory.usage.limit)" $((128 << 20))
        same "processes" "$(metric .pids.current)" 1
        local before
        before=$(metric .cpu.usage.total)
        sleep 0.5
        (($(metric .cpu.usage.total) - before > 100000000)) || fail "a loop took no time: $before, $(metric .cpu.usage.total)"
    fi
}

case_task_events() {
    local events=$WORK/events
    setsid ctr events >"$events" &
    local watcher=$!
    sleep 0.5
    exits 3 run first -- sh -c 'exit 3'
    background kept --memory-limit $((32 << 20)) -- sleep 1000
    exits 5 exec_in kept -- sh -c 'exit 5'
    exits 0 ctr task pause kept
    exits 0 ctr task resume kept
    exits 137 exec_in kept -- dd if=/dev/zero of=/dev/null bs=100M count=1
    exits '@(0|137)' ctr task rm -f kept
    sleep 0.5
    kill "$watcher"
    wait "$watcher" || true
    local topic
    for topic in create start exec-added exec-started exit delete paused resumed oom; do
        has "events" "$(<"$events")" "/tasks/$topic "
    done
    has "the exit of the first" "$(<"$events")" '/tasks/exit .*"container_id":"first".*"exit_status":3'
    has "the exit of the exec" "$(<"$events")" '/tasks/exit .*"container_id":"kept","id":"exec-.*"exit_status":5'
}

case_task_orphans() {
    # The shim is a subreaper: what a container without a pid namespace leaves is its child, and does not outlive it.
    background kept --with-ns "pid:/proc/$$/ns/pid" -- sh -c '(sleep 2000 &) ; sleep 1000'
    eventually bash -c '[[ $(ctr task ps kept | grep -c "^[0-9]") == 2 ]]'
    exits '@(0|137)' ctr task rm -f kept
}
