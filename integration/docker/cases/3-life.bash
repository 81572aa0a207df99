# Containers in the background: their states, signals, logs, restarts, names.

case_life_logs_stop_rm() {
    docker run -d --name served "$IMAGE" sh -c 'trap "echo told to stop; exit 0" TERM; echo begun; echo trouble >&2; while :; do sleep 0.1; done' >/dev/null
    eventually logs_have served begun
    same "the state" "$(inspect served '{{.State.Status}} {{.State.Running}}')" 'running true'
    exits 0 docker stop -t 10 served
    same "the state" "$(inspect served '{{.State.Status}} {{.State.ExitCode}}')" 'exited 0'
    exits 0 docker logs served
    same "the log" "$(tr '\n' ' ' <<<"$OUT")" 'begun told to stop '
    same "the log of errors" "$ERR" trouble
    exits 0 docker rm served
    exits 1 docker inspect served
}

case_life_stop_default_action() {
    # With an init of its own the container's program takes SIGTERM's default action.
    docker run -d --init --name ended "$IMAGE" sleep 1000 >/dev/null
    exits 0 docker stop -t 10 ended
    same "the status" "$(inspect ended '{{.State.ExitCode}}')" 143
}

case_life_stop_grace_period() {
    # The first process of a pid namespace ignores SIGTERM unless it handles it.
    local begin=$SECONDS
    docker run -d --name stubborn "$IMAGE" sleep 1000 >/dev/null
    exits 0 docker stop -t 2 stubborn
    same "the status" "$(inspect stubborn '{{.State.ExitCode}} {{.State.OOMKilled}}')" '137 false'
    ((SECONDS - begin >= 2)) || fail "it was not given its two seconds"
}

case_life_kill() {
    docker run -d --name listener "$IMAGE" sh -c 'trap "echo usr1" USR1; trap "echo hup" HUP; trap "exit 21" INT; echo begun; while :; do sleep 0.1; done' >/dev/null
    eventually logs_have listener begun
    exits 0 docker kill -s USR1 listener
    eventually logs_have listener usr1
    exits 0 docker kill -s SIGHUP listener
    eventually logs_have listener hup
    exits 0 docker kill -s 2 listener
    same "docker wait" "$(docker wait listener)" 21
    exits 1 docker kill listener
    has "the reason" "$ERR" 'is not running'
}

case_life_kill_every_signal() {
    # A shell that says which signal came: all but those that cannot be caught, that the shell needs, or that stop it.
    local signal names='HUP INT QUIT TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM TERM STKFLT CONT URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS'
    docker run -d --name listener "$IMAGE" sh -c "for s in $names 34 45 64; do trap \"echo got \$s.\" \$s || exit; done; echo begun; while :; do sleep 0.02; done" >/dev/null
    eventually logs_have listener begun
    for signal in $names; do
        docker kill -s "SIG$signal" listener >/dev/null || fail "docker kill -s SIG$signal"
        eventually logs_have listener "got $signal."
    done
    for signal in RTMIN:34 RTMIN+11:45 RTMAX:64; do
        docker kill -s "${signal%:*}" listener >/dev/null || fail "docker kill -s ${signal%:*}"
        eventually logs_have listener "got ${signal#*:}."
    done
    exits 1 docker kill -s NOSUCH listener
    exits 0 docker kill -s 9 listener
    same "docker wait" "$(docker wait listener)" 137
}

case_life_stop_signal() {
    docker run -d --stop-signal USR2 --stop-timeout 20 --name asked "$IMAGE" sh -c 'trap "exit 12" USR2; echo begun; while :; do sleep 0.05; done' >/dev/null
    eventually logs_have asked begun
    exits 0 docker stop asked
    same "the status" "$(inspect asked '{{.State.ExitCode}}')" 12
    local begin=$SECONDS
    docker run -d --stop-timeout 1 --name deaf "$IMAGE" sleep 1000 >/dev/null
    exits 0 docker stop deaf
    same "the status" "$(inspect deaf '{{.State.ExitCode}}')" 137
    ((SECONDS - begin < 9)) || fail "it was given more than its second"
}

case_life_attach() {
    docker run -d -i --name reader "$IMAGE" sh -c 'while read -r line; do echo "heard $line"; [ "$line" != end ] || exit 11; done' >/dev/null
    exits 11 docker attach reader < <(echo one; sleep 0.3; echo end; sleep 0.3)
    same "the answers" "$(tr '\n' ' ' <<<"$OUT")" 'heard one heard end '
    same "the log" "$(docker logs reader | tr '\n' ' ')" 'heard one heard end '
    # Signals go through to what it is attached to.
    docker run -d --name listener "$IMAGE" sh -c 'trap "echo told; exit 13" TERM; while :; do sleep 0.05; done' >/dev/null
    docker attach --no-stdin listener >"$WORK/attached" 2>&1 &
    local client=$! status=0
    sleep 0.5
    kill -TERM "$client"
    wait "$client" || status=$?
    same "its status and output" "$status $(<"$WORK/attached")" '13 told'
}

case_life_logs() {
    docker run -d --name talker "$IMAGE" sh -c 'for i in 1 2 3; do echo "line $i"; sleep 0.2; done; printf unfinished' >/dev/null
    exits 0 docker logs -f talker
    has "followed to its end" "$(tr '\n' ' ' <<<"$OUT")" '^line 1 line 2 line 3 '
    exits 0 docker logs -n 2 talker
    same "the last" "$(tr '\n' ' ' <<<"$OUT")" 'line 3 unfinished '
    has "with times" "$(docker logs -t talker)" '^20[-0-9]+T[0-9:.]+Z line 1$'
    docker run -d --name flood "$IMAGE" sh -c 'seq 1 50000' >/dev/null
    docker wait flood >/dev/null
    same "lines" "$(docker logs flood | wc -l)" 50000
}

case_life_kill_default() {
    docker run -d --name target "$IMAGE" sleep 1000 >/dev/null
    exits 0 docker kill target
    same "docker wait" "$(docker wait target)" 137
    same "its status" "$(inspect target '{{.State.Status}} {{.State.ExitCode}}')" 'exited 137'
}

case_life_state_after_exit() {
    exits 6 docker run --name gone "$IMAGE" sh -c 'sleep 0.2; exit 6'
    same "the state" "$(inspect gone '{{.State.Status}} {{.State.ExitCode}} {{.State.Running}} {{.State.Pid}} {{.State.OOMKilled}} {{.State.Error}}')" \
        'exited 6 false 0 false '
    local began ended
    began=$(date -d "$(inspect gone '{{.State.StartedAt}}')" +%s%N)
    ended=$(date -d "$(inspect gone '{{.State.FinishedAt}}')" +%s%N)
    ((ended > began)) || fail "it ended before it began"
}

case_life_state_after_failure() {
    differs crun 'its words for a program that is not there are not those that Docker looks for'
    exits 127 docker run --name never "$IMAGE" no-such-program
    same "the state" "$(inspect never '{{.State.Status}} {{.State.ExitCode}} {{.State.Running}} {{.State.Pid}}')" 'created 127 false 0'
    has "the error" "$(inspect never '{{.State.Error}}')" 'no-such-program'
}

case_life_create_start_again() {
    docker create --name twice "$IMAGE" sh -c 'echo run >>/runs; cat /runs; exit 4' >/dev/null
    same "before it starts" "$(inspect twice '{{.State.Status}}')" created
    exits 4 docker start -a twice
    same "the first time" "$OUT" run
    exits 4 docker start -a twice
    same "the second time" "$(tr '\n' ' ' <<<"$OUT")" 'run run '
    exits 0 docker restart -t 0 twice
}

case_life_restart() {
    docker run -d --name again "$IMAGE" sleep 1000 >/dev/null
    local before
    before=$(inspect again '{{.State.Pid}}')
    exits 0 docker restart -t 0 again
    is again '{{.State.Running}}' true || fail "it does not run"
    [[ $(inspect again '{{.State.Pid}}') != "$before" ]] || fail "it is the same process"
}

case_life_restart_on_failure() {
    docker run -d --restart on-failure:2 --name crashing "$IMAGE" sh -c 'echo run; exit 5' >/dev/null
    eventually is crashing '{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}' '2 exited 5'
    same "runs" "$(docker logs crashing | wc -l)" 3
}

case_life_restart_after_kill() {
    docker run -d --restart always --name revived "$IMAGE" sleep 1000 >/dev/null
    local first
    first=$(inspect revived '{{.State.Pid}}')
    kill -KILL "$first"
    eventually is revived '{{.RestartCount}} {{.State.Status}}' '1 running'
    [[ $(inspect revived '{{.State.Pid}}') != "$first" ]] || fail "it is the same process"
}

case_life_restart_unless_stopped() {
    docker run -d --restart unless-stopped --name kept "$IMAGE" sh -c 'sleep 0.2; exit 0' >/dev/null
    eventually bash -c '[[ $(docker inspect --format "{{.RestartCount}}" kept) -ge 2 ]]'
    exits 0 docker stop -t 0 kept
    local count
    count=$(inspect kept '{{.RestartCount}}')
    sleep 1
    same "stopped, and so it stays" "$(inspect kept '{{.State.Running}} {{.RestartCount}}')" "false $count"
    # One that is not to be restarted is not.
    docker run -d --name once "$IMAGE" sh -c 'exit 5' >/dev/null
    docker wait once >/dev/null
    same "without a policy" "$(inspect once '{{.RestartCount}} {{.State.ExitCode}}')" '0 5'
}

case_life_name_reuse() {
    local i
    for i in 1 2 3; do
        docker run -d --name taken "$IMAGE" sleep 1000 >/dev/null
        exits 125 docker run -d --name taken "$IMAGE" sleep 1000
        exits 0 docker rm -f taken
    done
}

case_life_50_in_background() {
    local i ids
    for i in {1..50}; do
        docker run -d --name "background-$i" "$IMAGE" sh -c "trap 'exit $i' TERM; while :; do sleep 0.1; done" >/dev/null &
    done
    wait
    ids=$(docker ps -q)
    same "running" "$(wc -l <<<"$ids")" 50
    # shellcheck disable=SC2086
    docker stop -t 20 $ids >/dev/null
    for i in {1..50}; do
        same "status of $i" "$(inspect "background-$i" '{{.State.ExitCode}}')" "$i"
    done
}

case_life_copy_and_commit() {
    docker run -d --name source "$IMAGE" sh -c 'echo inside >/made; sleep 1000' >/dev/null
    eventually docker cp source:/made "$WORK/made"
    same "what came out" "$(cat "$WORK/made")" inside
    docker kill source >/dev/null
    echo outside >"$WORK/in"
    docker cp "$WORK/in" source:/in
    has "docker diff" "$(docker diff source)" '^A /in$'
    docker commit source procrt-committed >/dev/null
    exits 0 run procrt-committed cat /made /in
    same "what was committed" "$(tr '\n' ' ' <<<"$OUT")" 'inside outside '
    docker rm source >/dev/null
    docker rmi procrt-committed >/dev/null
}

case_life_copy_trees() {
    docker run -d -v /kept --name source "$IMAGE" sh -c 'mkdir -p /made/deep; echo one >/made/deep/file; ln -s deep/file /made/link; chown -R guest /made; echo kept >/kept/file; echo >/ready; sleep 1000' >/dev/null
    eventually docker exec source test -e /ready
    mkdir "$WORK/copies"
    exits 0 docker cp source:/made "$WORK/copies"
    same "the tree that came out" "$(cd "$WORK/copies/made" && readlink link && cat link)" $'deep/file\none'
    exits 0 docker cp source:/kept/file "$WORK/copies/from-volume"
    same "from a volume" "$(<"$WORK/copies/from-volume")" kept
    chown -hR 1000:1000 "$WORK/copies/made"
    exits 0 docker cp -a "$WORK/copies/made" source:/tmp/put
    same "the tree that went in" "$(docker exec source sh -c 'cat /tmp/put/link; stat -c %u /tmp/put/deep/file' | tr '\n' ' ')" 'one 1000 '
    docker pause source >/dev/null
    exits 0 docker cp "$WORK/copies/from-volume" source:/while-paused
    docker unpause source >/dev/null
    same "what came while it was paused" "$(docker exec source cat /while-paused)" kept
    exits 0 docker cp source:/made - >"$WORK/copies/archive"
    exits 1 docker cp source:/nowhere "$WORK/copies/nothing"
    rm -r "$WORK/copies"
}

case_life_build() {
    mkdir "$WORK/build"
    printf 'FROM %s\nRUN echo built by $(id -u) >/built && test -e /proc/self\nUSER guest\nRUN id -u >/tmp/user\nCMD ["cat","/built","/tmp/user"]\n' "$IMAGE" >"$WORK/build/Dockerfile"
    DOCKER_BUILDKIT=0 exits 0 docker build -q -t procrt-built "$WORK/build"
    exits 0 run procrt-built
    same "the output" "$(tr '\n' ' ' <<<"$OUT")" 'built by 0 1000 '
    docker rmi -f procrt-built >/dev/null
    printf 'FROM %s\nRUN exit 3\n' "$IMAGE" >"$WORK/build/Dockerfile"
    DOCKER_BUILDKIT=0 exits 3 docker build --rm --force-rm -q "$WORK/build"
}
