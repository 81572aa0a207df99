# A replicated service over two nodes.

case_service_is_scaled() {
    service web --replicas 4 "$IMAGE" sleep 1000
    within 30 runs_everywhere 4
    local node container
    for node in 1 2; do
        for container in $(on "$node" ps -q); do
            same "its runtime" "$(on "$node" inspect --format '{{.HostConfig.Runtime}}' "$container")" "$RUNTIME"
        done
    done
    docker service scale -d web=6 >/dev/null
    within 30 runs_everywhere 6
    docker service scale -d web=2 >/dev/null
    within 30 runs_everywhere 2
}

case_service_is_updated() {
    service web --replicas 3 --update-parallelism 1 --update-delay 0s --stop-grace-period 1s --env VERSION=1 "$IMAGE" \
        sh -c 'trap "exit 0" TERM; while :; do sleep 0.1; done'
    within 30 replicas web 3/3
    docker service update -q -d --env-add VERSION=2 --limit-memory 64m web >/dev/null
    updated() {
        [[ $(docker service inspect --format '{{.UpdateStatus.State}}' web) == completed ]]
    }
    within 40 updated
    within 20 replicas web 3/3
    local node container
    for node in 1 2; do
        for container in $(on "$node" ps -q); do
            same "its environment" "$(on "$node" exec "$container" sh -c 'echo $VERSION')" 2
            same "its limit" "$(on "$node" exec "$container" cat "$(limit_file memory memory.limit_in_bytes memory.max)")" $((64 << 20))
        done
    done
}

case_service_task_that_dies() {
    service web --replicas 2 --restart-delay 200ms "$IMAGE" sleep 1000
    within 30 runs_everywhere 2
    local pid
    pid=$(on 2 inspect --format '{{.State.Pid}}' "$(on 2 ps -q)")
    kill -KILL "$pid"
    sleep 0.5
    within 20 replicas web 2/2
    within 20 runs_everywhere 2
}

case_service_everywhere_with_files() {
    echo 'a word' | docker secret create -q word - >/dev/null 2>&1 || echo 'a word' | docker secret create word - >/dev/null
    echo 'a setting' | docker config create setting - >/dev/null
    service watcher --mode global --secret word --config setting "$IMAGE" sleep 1000
    within 30 runs_everywhere 2
    local node
    for node in 1 2; do
        same "secret and configuration" "$(on "$node" exec "$(on "$node" ps -q)" cat /run/secrets/word /setting | tr '\n' ' ')" 'a word a setting '
    done
    docker service rm watcher >/dev/null
    eventually docker secret rm word
    eventually docker config rm setting
}

case_service_loses_a_node() {
    service web --replicas 4 "$IMAGE" sleep 1000
    within 30 runs_everywhere 4
    kill -KILL "$(<"$WORK/2/d.pid")"
    # The manager misses it after some seconds, and makes its tasks anew.
    all_on_one() { [[ $(running 1) == 4 ]]; }
    within 50 all_on_one
    # It comes back, and ends what is no longer its own; what has ended stays as the service's history.
    # shellcheck source=integration/daemons.bash
    source "$HERE/daemons.bash"
    run_dockerd "$WORK/2" nsenter --net=/run/netns/node2
    none_on_two() { [[ $(running 2) == 0 ]]; }
    within 30 none_on_two
    all_on_one || fail "the other node lost some"
}
