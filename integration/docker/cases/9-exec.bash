# docker exec and what else is done with a container that runs: pause, top, health checks.

served() { # [OPTION…]: a container called "served" that runs until it is killed
    docker run -d --init "$@" --name served "$IMAGE" sleep 1000 >/dev/null
}

case_exec_output_and_status() {
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
    served
    exits 5 python3 "$HERE/terminal.py" expect:'# ' send:'echo $((6*7))\r' expect:'\n42\r' send:'tty\r' expect:'/dev/pts/' send:'exit 5\r' \
        -- docker exec -it served sh
    exits 0 python3 "$HERE/terminal.py" size:33x111 expect:'# ' send:'sleep 0.5; stty size\r' expect:'33 111' send:'exit 0\r' \
        -- docker exec -it served sh
    exits 0 python3 "$HERE/terminal.py" -- docker exec -it -u guest served sh -c 'echo by its name >"$(tty)"'
    has "what the user writes" "$OUT" '^by its name'
}

case_exec_confinement() {
    served --cap-drop ALL --security-opt no-new-privileges
    local status='grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status'
    exits 0 docker exec served sh -c "$status"
    same "the same as the container's" "$OUT" "$(docker exec served grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/1/status)"
    has "the filter" "$OUT" '^Seccomp:.2'
    exits 0 docker exec --privileged served grep -E '^CapBnd:' /proc/self/status
    hasnt "more capabilities" "$OUT" '0000000000000000'
}

case_exec_in_background() {
    served
    exits 0 docker exec -d served sh -c 'sleep 0.2; echo done >/done'
    eventually docker exec served cat /done
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

case_exec_health() {
    served --health-cmd 'test -e /healthy' --health-interval 200ms --health-retries 2 --health-timeout 10s
    eventually is served '{{.State.Health.Status}}' unhealthy
    exits 0 docker exec served touch /healthy
    eventually is served '{{.State.Health.Status}}' healthy
}
