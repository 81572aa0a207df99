# Containers in the background: conmon's part.

case_life_logs_stop_rm() {
    background served "$IMAGE" sh -c 'trap "echo told to stop; exit 3" TERM; echo begun; echo trouble >&2; while :; do sleep 0.1; done'
    eventually logs_have served begun
    same "the state" "$(inspect served '{{.State.Status}} {{.State.Running}}')" 'running true'
    exits 0 podman stop -t 10 served
    same "the state" "$(inspect served '{{.State.Status}} {{.State.ExitCode}}')" 'exited 3'
    exits 0 podman logs served
    same "the log" "$(tr '\n' ' ' <<<"$OUT")" 'begun told to stop '
    same "the log of errors" "$ERR" trouble
    exits 0 podman rm served
    exits '@(1|125)' podman inspect served
}

case_life_stop_grace_period() {
    background stubborn "$IMAGE" sleep 1000
    exits 0 podman stop -t 1 stubborn
    same "the status" "$(inspect stubborn '{{.State.ExitCode}}')" 137
}

case_life_kill() {
    background listener "$IMAGE" sh -c 'trap "echo usr1" USR1; trap "exit 21" INT; echo begun; while :; do sleep 0.05; done'
    eventually logs_have listener begun
    exits 0 podman kill -s USR1 listener
    eventually logs_have listener usr1
    exits 0 podman kill -s 2 listener
    same "podman wait" "$(podman wait listener)" 21
    exits 125 podman kill listener
    has "the reason" "$ERR" 'can only kill running containers'
}

case_life_create_start_again() {
    podman create "${PARENT[@]}" --name twice "$IMAGE" sh -c 'echo run >>/runs; cat /runs; exit 4' >/dev/null
    same "before it starts" "$(inspect twice '{{.State.Status}}')" created
    exits 4 podman start -a twice
    exits 4 podman start -a twice
    same "the second time" "$(tr '\n' ' ' <<<"$OUT")" 'run run '
    # Created by the runtime, not yet started.
    exits 0 podman init twice
    same "the state" "$(inspect twice '{{.State.Status}}')" initialized
    exits 4 podman start -a twice
}

case_life_restart() {
    background again "$IMAGE" sleep 1000
    local before
    before=$(inspect again '{{.State.Pid}}')
    exits 0 podman restart -t 0 again
    [[ $(inspect again '{{.State.Pid}}') != "$before" ]] || fail "it is the same process"
    background crashing --restart on-failure:2 "$IMAGE" sh -c 'echo run; exit 5'
    eventually bash -c '[[ $(podman logs crashing | wc -l) == 3 ]]'
    eventually is crashing '{{.State.Status}}' exited
}

case_life_killed_from_outside() {
    background target "$IMAGE" sleep 1000
    kill -KILL "$(inspect target '{{.State.Pid}}')"
    eventually is target '{{.State.Status}} {{.State.ExitCode}}' 'exited 137'
}

case_life_conmon_killed() {
    background target "$IMAGE" sleep 1000
    kill -KILL "$(inspect target '{{.State.ConmonPid}}')"
    local id
    id=$(inspect target '{{.Id}}')
    exits 0 podman rm -f -t 0 target
    # Podman forgets what has lost its conmon; the runtime still knows it.
    exits 0 runtime delete --force "$id"
}

case_life_attach() {
    background reader -i "$IMAGE" sh -c 'while read -r line; do echo "heard $line"; [ "$line" != end ] || exit 11; done'
    # Its status is lost now and then, when it ends before Podman asks.
    exits "@(0|11)" podman attach reader < <(sleep 0.3; echo one; sleep 0.3; echo end; sleep 0.3)
    same "the answers" "$(tr '\n' ' ' <<<"$OUT")" 'heard one heard end '
}

case_life_attach_terminal() {
    podman run -d -it "${PARENT[@]}" --name attached "$IMAGE" sh >/dev/null 2>&1
    # Podman does not always tell the status to who was attached.
    terminal '@(0|5)' send:'echo again $((2+2))\r' expect:'again 4' send:'exit 5\r' -- podman attach attached
    same "podman wait" "$(podman wait attached)" 5
}

case_life_copy_and_commit() {
    background source "$IMAGE" sh -c 'echo inside >/made; sleep 1000'
    eventually podman cp source:/made "$PLACE/made"
    same "what came out" "$(<"$PLACE/made")" inside
    echo outside >"$PLACE/in"
    podman cp "$PLACE/in" source:/in
    podman commit -q source procrt-committed >/dev/null
    podman rm -f -t 0 source >/dev/null
    exits 0 run localhost/procrt-committed cat /made /in
    same "what was committed" "$(tr '\n' ' ' <<<"$OUT")" 'inside outside '
    podman rmi localhost/procrt-committed >/dev/null
}

case_life_systemd_unit() {
    # What `podman generate systemd` writes: conmon's and the container's pid files, a container that is removed and made anew.
    podman create "${PARENT[@]}" --name unit "$IMAGE" sleep 1000 >/dev/null
    exits 0 podman generate systemd --new --name unit
    has "the unit" "$OUT" '^ExecStart=/usr/bin/podman run'
    podman rm unit >/dev/null
    exits 0 podman run --cidfile="$PLACE/cid" --cgroups=no-conmon --rm --sdnotify=conmon --replace -d --conmon-pidfile "$PLACE/conmon.pid" --pidfile "$PLACE/pid" \
        "${PARENT[@]}" --name unit "$IMAGE" sleep 1000
    same "its pid" "$(<"$PLACE/pid")" "$(inspect unit '{{.State.Pid}}')"
    same "conmon's pid" "$(<"$PLACE/conmon.pid")" "$(inspect unit '{{.State.ConmonPid}}')"
    exits 0 podman stop --ignore -t 1 --cidfile="$PLACE/cid"
    exits 0 podman rm -f --ignore -t 1 --cidfile="$PLACE/cid"
    rm "$PLACE/cid"
}

case_life_checkpoint() {
    ! command -v criu >/dev/null || [[ $RUNTIME == procrt ]] || cannot "CRIU is installed, and this runtime may use it"
    background served "$IMAGE" sleep 1000
    exits 125 podman container checkpoint served
    has "the reason" "$ERR" '[Cc]heckpoint'
    is served '{{.State.Running}}' true || fail "it was stopped all the same"
    exits 0 podman exec served true
}
