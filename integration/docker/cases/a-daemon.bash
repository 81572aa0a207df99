# Daemons with other settings, and daemons that end before their containers do. Each has a dockerd of its own.

# other_dockerd NAME [MEMBER…]: beside the one of all cases, with the same containerd and image. OTHER is its directory.
other_dockerd() {
    local name=$1
    shift
    # shellcheck source=integration/daemons.bash
    source "$HERE/daemons.bash"
    OTHER=$WORK/$name
    STORAGE=${STORAGE:-$(docker info --format '{{.Driver}}')}
    trap end_other_dockerd EXIT
    # One without a bridge would take the other's away.
    ip link add pdother0 type bridge
    ip address add 10.213.6.1/24 dev pdother0
    start_dockerd "$OTHER" "$WORK/c.sock" '"bridge": "pdother0"' "$@" 2>"$WORK/refusal" || {
        local status=$?
        cat "$WORK/refusal"
        return $status
    }
    export DOCKER_HOST=unix://$OTHER/d.sock
    docker load -q -i "$WORK/image.tar" >/dev/null
}

end_other_dockerd() {
    local containers
    containers=$(timeout 10 docker ps -aq) || containers=''
    # shellcheck disable=SC2086
    [[ -z $containers ]] || timeout 30 docker rm -fv $containers >/dev/null 2>&1 || true
    stop_daemon "$(cat "$OTHER/d.pid" 2>/dev/null || true)"
    ip link delete pdother0 || true
    grep -oE " $OTHER/[^ ]+" /proc/self/mounts | sort -r | xargs -r umount -l 2>/dev/null || true
    rm -rf --one-file-system -- "$OTHER"
}

case_daemon_live_restore() {
    other_dockerd live '"live-restore": true'
    docker run -d --name kept "$IMAGE" sh -c 'trap "echo told; exit 6" TERM; echo begun; i=0; while :; do i=$((i+1)); echo $i >/count; sleep 0.05; done' >/dev/null
    docker run -d --name ends "$IMAGE" sh -c 'sleep 1; exit 9' >/dev/null
    eventually logs_have kept begun
    local pid
    pid=$(inspect kept '{{.State.Pid}}')
    kill -KILL "$(<"$OTHER/d.pid")"
    sleep 1.5
    [[ -d /proc/$pid ]] || fail "it ended with the daemon"
    run_dockerd "$OTHER"
    same "its state and pid" "$(inspect kept '{{.State.Status}} {{.State.Pid}}')" "running $pid"
    # What ended while nobody looked is known.
    eventually is ends '{{.State.Status}} {{.State.ExitCode}}' 'exited 9'
    exits 0 docker exec kept cat /count
    exits 0 docker stop -t 5 kept
    same "its status" "$(inspect kept '{{.State.ExitCode}}')" 6
    has "its log" "$(docker logs kept)" '^told$'
}

case_daemon_without_live_restore() {
    other_dockerd dead
    docker run -d --restart always --name kept "$IMAGE" sleep 1000 >/dev/null
    local pid
    pid=$(inspect kept '{{.State.Pid}}')
    kill -KILL "$(<"$OTHER/d.pid")"
    sleep 0.3
    run_dockerd "$OTHER"
    eventually is kept '{{.State.Running}}' true
    [[ $(inspect kept '{{.State.Pid}}') != "$pid" ]] || fail "it is the same process"
    ! grep -q '^State:.[^ZX]' "/proc/$pid/status" 2>/dev/null || fail "the process before still runs"
}

case_daemon_shim_killed() {
    docker run -d --name target "$IMAGE" sh -c 'sleep 2000 & sleep 2001 & wait' >/dev/null
    local pid id process shim=''
    pid=$(inspect target '{{.State.Pid}}') id=$(inspect target '{{.Id}}')
    for process in /proc/[0-9]*; do
        if tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -q "^[^ ]*containerd-shim.* -id $id "; then
            shim=${process#/proc/}
        fi
    done
    [[ -n $shim ]] || fail "there is no shim"
    kill -KILL "$shim"
    eventually is target '{{.State.Status}}' exited
    ! grep -q '^State:.[^ZX]' "/proc/$pid/status" 2>/dev/null || fail "the process still runs"
    exits 0 docker start target
    is target '{{.State.Running}}' true || fail "it does not run again"
}

case_daemon_userns_remap() {
    grep -q '^daemon:' /etc/subuid || cannot "daemon has no range of ids in /etc/subuid"
    other_dockerd remap '"userns-remap": "daemon"'
    exits 0 run "$IMAGE" sh -c 'cat /proc/self/uid_map; id -u; stat -c %u /root; echo mine >/root/file; mkdir /made && chown guest /made'
    has "the mapping" "$OUT" '^ +0 +[1-9][0-9]+ +[0-9]+$'
    docker run -d --name kept "$IMAGE" sleep 1000 >/dev/null
    hasnt "root in it" "$(grep ^Uid: "/proc/$(inspect kept '{{.State.Pid}}')/status")" '^Uid:\s0\s'
    exits 0 docker exec kept sh -c 'id -u; cat /proc/self/uid_map'
    exits 0 docker exec -u guest kept id -u
    same "a user" "$OUT" 1000
    terminal 0 -- docker exec -it kept sh -c 'tty; echo by its name >"$(tty)"'
    terminal 4 -- docker run --rm -it "$IMAGE" sh -c 'tty && ls -l /dev/console && exit 4'
    exits 1 run "$IMAGE" mknod /zero c 1 5
    exits 0 run --userns host "$IMAGE" sh -c 'id -u; cat /proc/self/uid_map'
    has "no mapping" "$OUT" '^ +0 +0 +4294967295$'
}

case_daemon_build_with_buildkit() {
    local client=docker
    # A newer client builds with a plug-in only.
    if [[ $(docker version --format '{{.Client.Version}}') =~ ^(2[3-9]|[3-9][0-9])\. ]]; then
        client=/usr/bin/docker
        [[ $($client version --format '{{.Client.Version}}') =~ ^20\. ]] || cannot "this client builds with a plug-in only"
    fi
    # BuildKit takes the first runc of the daemon's PATH, whatever runtimes are registered.
    mkdir -p "$WORK/as-runc" "$WORK/kit"
    ln -sf "$RUNTIME_FILE" "$WORK/as-runc/runc"
    PATH=$WORK/as-runc:$PATH
    other_dockerd kitted
    printf 'FROM %s\nRUN --mount=type=tmpfs,target=/t echo built by $(id -u) >/built && touch /t/x && cat /proc/self/cgroup\nUSER guest\nRUN id -u >/tmp/user\nCMD ["cat","/built","/tmp/user"]\n' "$IMAGE" >"$WORK/kit/Dockerfile"
    DOCKER_BUILDKIT=1 exits 0 $client build --network none -q -t procrt-kit "$WORK/kit"
    exits 0 run procrt-kit
    same "the output" "$(tr '\n' ' ' <<<"$OUT")" 'built by 0 1000 '
    printf 'FROM %s\nRUN exit 3\n' "$IMAGE" >"$WORK/kit/Dockerfile"
    DOCKER_BUILDKIT=1 exits 1 $client build --network none -q "$WORK/kit"
    has "the reason" "$ERR" 'exit code: 3'
    without_parent buildkit
}

case_daemon_compose() {
    command -v docker-compose >/dev/null || cannot "docker-compose is not installed"
    mkdir -p "$WORK/composed"
    cat >"$WORK/composed/docker-compose.yml" <<YAML
version: "2.4"
services:
  server:
    image: $IMAGE
    command: sh -c 'echo serving; while :; do echo "hello from \$\$(hostname)" | nc -l -p 80; done'
    hostname: castle
    mem_limit: 64m
    healthcheck: { test: ["CMD", "true"], interval: 1s }
  client:
    image: $IMAGE
    command: sh -c 'echo asking; exec sleep 1001'
    depends_on: { server: { condition: service_healthy } }
    stop_grace_period: 0s
    volumes: ["kept:/kept"]
volumes: { kept: {} }
networks: { default: { ipam: { config: [{ subnet: 10.213.8.0/24 }] } } }
YAML
    compose() { docker-compose --no-ansi -f "$WORK/composed/docker-compose.yml" -p composed "$@"; }
    exits 0 compose up -d
    exits 0 compose ps -q
    same "containers" "$(wc -l <<<"$OUT")" 2
    same "their runtime" "$(inspect composed_server_1 '{{.HostConfig.Runtime}}')" "$RUNTIME"
    exits 0 compose logs --no-color
    has "what one says" "$OUT" '^server_1 .*serving$'
    has "what the other says" "$OUT" '^client_1 .*asking$'
    local address
    address=$(inspect composed_server_1 '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}')
    exits 0 compose exec -T client nc -w 5 "$address" 80
    same "from one service to the other" "$OUT" 'hello from castle'
    exits 5 compose exec -T server sh -c 'exit 5'
    exits 0 compose up -d --scale client=3
    same "containers" "$(compose ps -q | wc -l)" 4
    exits 0 compose run --rm -T client sh -c 'echo once; echo file >/kept/file'
    has "what ran once" "$OUT" '^once'
    exits 0 compose exec -T --index=3 client cat /kept/file
    same "the volume" "$OUT" file
    exits 0 compose pause server
    exits 0 compose unpause server
    exits 0 compose restart -t 0 server
    exits 0 compose up -d --scale client=1
    same "containers" "$(compose ps -q | wc -l)" 2
    exits 0 compose down -t 0 -v
    same "what is left" "$(docker ps -aq; docker volume ls -q; docker network ls -q --filter name=composed)" ''
}

case_daemon_learns_of_a_runtime() {
    # As the README has it: a line in daemon.json, and a reload.
    other_dockerd learning
    local line
    line=$(printf '{ "runtimes": { "learned": { "path": "%s" } } }' "$RUNTIME_FILE")
    jq --argjson line "$line" '.runtimes += $line.runtimes' "$OTHER/daemon.json" >"$OTHER/daemon.json.new"
    mv "$OTHER/daemon.json.new" "$OTHER/daemon.json"
    exits 125 docker run --rm --runtime learned "$IMAGE" echo hello
    kill -HUP "$(<"$OTHER/d.pid")"
    eventually bash -c 'docker info --format "{{json .Runtimes}}" | grep -q learned'
    exits 0 docker run --rm --runtime learned "$IMAGE" echo hello
    same "the output" "$OUT" hello
}
