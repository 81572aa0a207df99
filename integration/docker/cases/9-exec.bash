# docker exec and what else is done with a container that runs: pause, top, health checks.

served() { # [OPTION…]: a container called "served" that runs until it is killed
    docker run -d --init "$@" --name served "$IMAGE" sleep 1000 >/dev/null
}

case_exec_output_and_status() {
    differs crun 'its words for a program that is not there are not those that Docker looks for'
    served
    exits 0 docker exec served sh -c 'echo out; echo err >&2'
    same "the output" "$OUT" out
    same "the errors" "$ERR" err
    exits 42 docker exec served sh -c 'exit 42'
    exits 137 docker exec served sh -c 'kill -9 $$'
    # Docker's client says 126 or 127: that depends on its version.
    exits '@(126|127)' docker exec served no-such-program
    has "the reason" "$OUT$ERR" 'no-such-program.*executable file not found'
    exits 126 docker exec served /etc/passwd
    has "the reason" "$OUT$ERR" 'permission denied'
}

case_exec_user_directory_environment() {
    differs crun 'it begins the reason with a capital letter'
    served -e KEPT=1 -w /tmp
    exits 0 docker exec served sh -c 'id -u; pwd; echo "$KEPT$HOME"'
    same "as the container is" "$(tr '\n' ' ' <<<"$OUT")" '0 /tmp 1/root '
    exits 0 docker exec -u guest -w /etc -e ADDED=2 -e KEPT=3 served sh -c 'id -u; pwd; echo "$ADDED$KEPT"'
    same "as asked for" "$(tr '\n' ' ' <<<"$OUT")" '1000 /etc 23 '
    exits 0 docker exec -u 12:34 served sh -c 'id -u; id -g'
    same "in numbers" "$(tr '\n' ' ' <<<"$OUT")" '12 34 '
    exits '@(125|126|127)' docker exec -w /nowhere served true
    has "the reason" "$OUT$ERR" 'no such file or directory'
}

case_exec_stdin() {
    served
    same "what went through" "$(head -c 300000 /dev/zero | docker exec -i served wc -c | tr -d ' ')" 300000
}

case_exec_terminal() {
    differs crun 'version 1.8 leaves the terminal to root'
    served
    terminal 5 expect:'# ' send:'echo $((6*7))\r' expect:'\n42\r' send:'tty\r' expect:'/dev/pts/' send:'exit 5\r' \
        -- docker exec -it served sh
    terminal 0 size:33x111 expect:'# ' send:'sleep 0.5; stty size\r' expect:'33 111' send:'exit 0\r' \
        -- docker exec -it served sh
    terminal 0 -- docker exec -it -u guest served sh -c 'echo by its name >"$(tty)"'
    has "what the user writes" "$OUT" '^by its name'
}

case_exec_terminal_exit_status() {
    served
    terminal 0 -- docker exec -it served true
    terminal 137 -- docker exec -it served sh -c 'kill -9 $$'
    terminal '@(126|127)' -- docker exec -it served no-such-program
    terminal 130 expect:'# ' send:'echo go; sleep 100\r' expect:'\ngo' send:'\x03' expect:'# ' send:'exit\r' \
        -- docker exec -it served sh
}

case_exec_terminal_resize() {
    served
    terminal 0 size:33x111 expect:'# ' send:'stty size\r' expect:'33 111' \
        size:40x120 send:'sleep 0.5; stty size\r' expect:'40 120' send:'exit 0\r' \
        -- docker exec -it served sh
}

case_exec_terminal_detach() {
    served
    # Docker's client says by its status that it detached, or not: that depends on its version.
    terminal '@(0|1)' expect:'# ' send:'echo >/here; echo a$((40+2))b; while test -e /here; do sleep 0.1; done; echo >/gone\r' expect:'a42b' send:'\x10\x11' \
        -- docker exec -it served sh
    exits 0 docker exec served rm /here
    eventually docker exec served test -e /gone
}

case_exec_terminal_much_output() {
    served
    terminal 0 -- docker exec -it served sh -c 'seq 1 20000; echo the end'
    has "the end" "$OUT" '^the end'
    same "lines" "$(grep -c '^[0-9]' <<<"$OUT")" 20000
}

case_exec_beside_a_terminal() {
    docker run -d -it --name served "$IMAGE" sh >/dev/null
    exits 0 docker exec served sh -c 'tty; test ! -t 0 && ls /dev/pts'
    same "no terminal, and the container's own" "$(tr '\n' ' ' <<<"$OUT")" 'not a tty 0 ptmx '
    terminal 0 -- docker exec -it served tty
    has "the next one" "$OUT" '^/dev/pts/1'
}

case_exec_confinement() {
    served --cap-drop ALL --security-opt no-new-privileges
    local status='grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status'
    exits 0 docker exec served sh -c "$status"
    same "the same as the container's" "$OUT" "$(docker exec served grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/1/status)"
    has "the filter" "$OUT" '^Seccomp:.2'
}

case_exec_privileged() {
    served --cap-drop ALL
    if [[ $RUNTIME != procrt ]] && ! docker exec --privileged served true >"$WORK/refusal" 2>&1; then
        cannot "$RUNTIME grants all capabilities or fails, and this machine's root lacks some: $(head -n 1 "$WORK/refusal")"
    fi
    local own
    OUT=$(</proc/self/status)
    own=$(known_capabilities)
    exits 0 docker exec --privileged served cat /proc/self/status
    same "all that this machine's root has" "$(known_capabilities)" "$own"
}

case_exec_in_background() {
    served
    exits 0 docker exec -d served sh -c 'sleep 0.2; echo done >/done'
    eventually docker exec served cat /done
}

case_exec_in_background_outlives_its_client() {
    served
    exits 0 docker exec -d -e KEPT=1 -w /tmp -u guest served sh -c 'echo "$KEPT $(pwd) $(id -u)" >/tmp/done; exec sleep 3000'
    eventually docker exec served test -s /tmp/done
    same "as asked for" "$(docker exec served cat /tmp/done)" '1 /tmp 1000'
    has "it still runs" "$(docker top served)" 'sleep 3000'
    exits 0 docker stop -t 5 served
}

case_exec_much_output() {
    served
    exits 0 docker exec served sh -c 'head -c 3000000 /dev/zero | tr "\0" x; head -c 1000 /dev/zero | tr "\0" y >&2'
    same "bytes" "${#OUT} ${#ERR}" '3000000 1000'
}

case_exec_client_killed() {
    served
    docker exec -i served sh -c 'echo >/begun; exec sleep 3000' &
    local client=$!
    eventually docker exec served test -e /begun
    kill -KILL "$client"
    wait "$client" || true
    exits 0 docker exec served true
    has "what it began still runs" "$(docker top served)" 'sleep 3000'
}

case_exec_orphans() {
    # What exec leaves running belongs to the container: its first process gets it, its end ends it.
    served
    exits 0 docker exec served sh -c 'sleep 3000 >/dev/null 2>&1 & exit 0'
    has "the parent" "$(docker exec served ps -o ppid,args)" '^ *1 sleep 3000'
    exits 0 docker exec served sh -c 'kill $(pidof sleep | tr " " "\n" | sort -n | tail -n 1)'
}

case_exec_many() {
    served
    local i
    for i in {1..10}; do
        exits "$i" docker exec served sh -c "exit $i"
    done
    for i in {1..10}; do
        docker exec served sh -c "echo $i" >"$WORK/many.$i" &
    done
    wait
    for i in {1..10}; do
        same "the output of $i" "$(<"$WORK/many.$i")" "$i"
    done
}

case_exec_of_a_container_that_ends() {
    served
    docker exec served sh -c 'echo >/begun; sleep 1000' &
    eventually docker exec served test -e /begun
    docker kill served >/dev/null
    wait || true
    exits 1 docker exec served true
    has "the reason" "$ERR" 'is not running'
}

case_exec_pause() {
    docker run -d --name served "$IMAGE" sh -c 'while :; do echo x; sleep 0.05; done' >/dev/null
    eventually logs_have served x
    exits 0 docker pause served
    same "the state" "$(inspect served '{{.State.Status}} {{.State.Paused}}')" 'paused true'
    local before
    before=$(docker logs served | wc -l)
    sleep 0.3
    same "its lines" "$(docker logs served | wc -l)" "$before"
    exits 1 docker exec served true
    has "the reason" "$ERR" 'is paused'
    exits 0 docker unpause served
    same "the state" "$(inspect served '{{.State.Status}} {{.State.Paused}}')" 'running false'
    exits 0 docker exec served true
    docker pause served >/dev/null
    exits 0 docker rm -f served
}

case_exec_top() {
    served
    exits 0 docker top served
    has "the heading" "$OUT" '^UID +PID'
    has "the program" "$OUT" 'sleep 1000'
    exits 0 docker top served -o pid,args
    same "processes" "$(grep -c . <<<"$OUT")" 3
}

case_exec_top_of_children() {
    docker run -d --name served "$IMAGE" sh -c 'sleep 2000 & sleep 2001 & wait' >/dev/null
    docker exec -d served sleep 2002
    eventually bash -c 'docker top served | grep -q "sleep 2002"'
    exits 0 docker top served -eo pid,comm
    same "processes" "$(grep -c sleep <<<"$OUT") $(grep -c . <<<"$OUT")" '3 5'
    docker pause served >/dev/null
    exits 0 docker top served
    same "processes of a paused one" "$(grep -c 'sleep 200[012]' <<<"$OUT")" 4
    docker unpause served >/dev/null
    docker kill served >/dev/null
    exits 1 docker top served
    has "the reason" "$ERR" 'is not running'
}

case_exec_and_signals_of_a_paused_container() {
    docker run -d --name served "$IMAGE" sh -c 'trap "exit 9" USR1; while :; do sleep 0.05; done' >/dev/null
    docker exec served true
    docker pause served >/dev/null
    has "docker ps" "$(docker ps --format '{{.Status}}')" 'Paused'
    exits 1 docker pause served
    has "the reason" "$ERR" 'already paused'
    # It gets its signal once it goes on; Docker sees to that by itself.
    exits 0 docker kill -s USR1 served
    same "docker wait" "$(docker wait served)" 9
    exits 1 docker unpause served
    docker rm served >/dev/null
    served
    docker pause served >/dev/null
    exits 0 docker kill served
    eventually is served '{{.State.Status}} {{.State.ExitCode}}' 'exited 137'
    docker rm served >/dev/null
    served
    docker pause served >/dev/null
    exits 0 docker stop -t 1 served
    has "its state" "$(inspect served '{{.State.Status}} {{.State.ExitCode}}')" '^exited (137|143)$'
}

case_exec_health_timeout() {
    served --health-cmd 'sleep 3000' --health-interval 200ms --health-retries 1 --health-timeout 500ms
    eventually is served '{{.State.Health.Status}}' unhealthy
    has "the reason" "$(inspect served '{{json .State.Health.Log}}')" 'exceeded timeout'
}

case_exec_health_when_it_gets_ill() {
    served --health-cmd 'test ! -e /ill || { echo fever; exit 1; }' --health-interval 200ms --health-retries 2 --health-timeout 10s
    eventually is served '{{.State.Health.Status}}' healthy
    has "docker ps" "$(docker ps --format '{{.Status}}')" '\(healthy\)'
    exits 0 docker exec served touch /ill
    eventually is served '{{.State.Health.Status}}' unhealthy
    has "what the check said" "$(inspect served '{{json .State.Health.Log}}')" '"ExitCode":1,"Output":"fever'
}

case_exec_health() {
    served --health-cmd 'test -e /healthy' --health-interval 200ms --health-retries 2 --health-timeout 10s
    eventually is served '{{.State.Health.Status}}' unhealthy
    exits 0 docker exec served touch /healthy
    eventually is served '{{.State.Health.Status}}' healthy
}
