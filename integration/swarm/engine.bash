# Docker Swarm: two nodes, each with containerd and dockerd of its own, in network namespaces that a bridge joins.
# shellcheck shell=bash

programs=(dockerd docker containerd containerd-shim-runc-v2 ctr nsenter)

# A node is missed after some fifteen seconds, and takes its time to come back.
engine_limit=150

NODES=(1 2)

start_engine() {
    export DOCKER_HOST=unix://$WORK/1/d.sock DOCKER_CONFIG=$WORK/client DOCKER_CLI_HINTS=false IMAGE=$IMAGE_NAME
    mkdir -p "$DOCKER_CONFIG"
    if [[ -z $STORAGE ]]; then
        if can_overlay; then STORAGE=overlay2; else STORAGE=vfs; fi
    fi
    private_view /var/lib
    ip link add pdswarm0 type bridge
    ip link set pdswarm0 up
    local node
    for node in "${NODES[@]}"; do
        ip netns add "node$node"
        ip link add "pdnode$node" type veth peer name eth0 netns "node$node"
        ip link set "pdnode$node" master pdswarm0 up
        ip -n "node$node" link set lo up
        ip -n "node$node" address add "10.213.10.$node/24" dev eth0
        ip -n "node$node" link set eth0 up
        nsenter "--net=/run/netns/node$node" readlink /proc/self/ns/net >>"$WORK/namespaces"
        start_containerd "$WORK/$node" <<<'disabled_plugins = ["io.containerd.grpc.v1.cri"]'
        mkdir -p "$WORK/$node"
        start_dockerd_in "$node"
    done
    docker swarm init --advertise-addr 10.213.10.1 --listen-addr 10.213.10.1 >/dev/null || return 1
    docker -H "unix://$WORK/2/d.sock" swarm join --token "$(docker swarm join-token -q worker)" --advertise-addr 10.213.10.2 \
        --listen-addr 10.213.10.2 10.213.10.1:2377 >/dev/null
}

start_dockerd_in() { # NODE
    WRAPPER=(nsenter "--net=/run/netns/node$1")
    start_dockerd "$WORK/$1" "$WORK/$1/c.sock" "\"bip\": \"10.213.2$1.1/24\"" '"default-address-pools": [{"base": "10.214.0.0/16", "size": 24}]'
}

load_image() {
    local node
    for node in "${NODES[@]}"; do
        docker -H "unix://$WORK/$node/d.sock" load -q -i "$WORK/image.tar" >/dev/null || return 1
    done
}

first_containers() {
    local node
    for node in "${NODES[@]}"; do
        docker -H "unix://$WORK/$node/d.sock" run --rm "$IMAGE" true || return 1
    done
}

describe_engine() {
    docker version --format "Docker Swarm {{.Server.Version}}, $(docker node ls -q | wc -l) nodes, storage $STORAGE,"
}

remove_containers() {
    local services node containers
    services=$(timeout 10 docker service ls -q) || return 0
    # shellcheck disable=SC2086
    [[ -z $services ]] || timeout 30 docker service rm $services >/dev/null 2>&1 || true
    for node in "${NODES[@]}"; do
        for _ in {1..50}; do
            containers=$(timeout 10 docker -H "unix://$WORK/$node/d.sock" ps -aq 2>/dev/null) || break
            [[ -n $containers ]] || break
            sleep 0.2
        done
    done
}

left_by_engine() {
    local processes node
    for node in "${NODES[@]}"; do
        find "$WORK/$node/x/runtime-$RUNTIME/moby" -mindepth 1 -printf 'state %p\n' 2>/dev/null || true
    done
    # Read whole, before there is a grep with that word among its arguments.
    processes=$(processes_left)
    grep -F containerd-shim <<<"$processes" || true
}

stop_engine() {
    local node
    for node in 2 1; do
        timeout 20 docker -H "unix://$WORK/$node/d.sock" swarm leave --force >/dev/null 2>&1 || true
    done
    for node in "${NODES[@]}"; do
        stop_daemon "$(cat "$WORK/$node/d.pid" 2>/dev/null || true)"
        stop_daemon "$(cat "$WORK/$node/containerd.pid" 2>/dev/null || true)"
        ip netns delete "node$node" 2>/dev/null || true
    done
}
