# Docker: containerd and dockerd.
# shellcheck shell=bash

programs=(dockerd docker containerd containerd-shim-runc-v2 ctr)

CONTAINERD_PID='' DOCKERD_PID=''

start_engine() {
    export DOCKER_HOST=unix://$WORK/d.sock DOCKER_CONFIG=$WORK/client DOCKER_CLI_HINTS=false IMAGE=$IMAGE_NAME
    mkdir -p "$DOCKER_CONFIG"
    if [[ -z $STORAGE ]]; then
        if can_overlay; then STORAGE=overlay2; else STORAGE=vfs; fi
    fi
    # Ranges of ids for user namespaces stand where the system's administrator puts them.
    private_view /etc
    if mountpoint -q /etc && ! grep -q '^daemon:' /etc/subuid; then
        echo 'daemon:300000:65536' | tee -a /etc/subuid >>/etc/subgid
    fi
    start_containerd "$WORK" <<<'disabled_plugins = ["io.containerd.grpc.v1.cri"]'
    start_dockerd "$WORK" "$WORK/c.sock" '"bip": "10.213.7.1/24"'
}

load_image() {
    docker load -q -i "$WORK/image.tar" >/dev/null
}

load_debian_image() {
    export DEBIAN_IMAGE=$DEBIAN_NAME
    docker load -q -i "$WORK/debian.tar" >/dev/null
}

first_containers() {
    docker run --rm "$IMAGE" true && docker run --rm --network host "$IMAGE" true
}

describe_engine() {
    docker version --format "Docker {{.Server.Version}}, storage $STORAGE,"
}

remove_containers() {
    local containers
    containers=$(timeout 10 docker ps -aq) || return 0
    # shellcheck disable=SC2086
    [[ -z $containers ]] || timeout 30 docker rm -fv $containers >/dev/null 2>&1 || true
}

left_by_engine() {
    local processes
    find "$WORK/x/runtime-$RUNTIME/moby" -mindepth 1 -printf 'state %p\n' 2>/dev/null || true
    find "$WORK/cs/io.containerd.runtime.v2.task/moby" -mindepth 1 -maxdepth 1 -printf 'bundle %p\n' 2>/dev/null || true
    find /run/containerd/s -type s -printf 'socket %p\n' 2>/dev/null || true
    # Read whole, before there is a grep with that word among its arguments.
    processes=$(processes_left)
    grep -F containerd-shim <<<"$processes" || true
}

stop_engine() {
    # A case may have started them anew.
    stop_daemon "$(cat "$WORK/d.pid" 2>/dev/null || echo "$DOCKERD_PID")"
    stop_daemon "$(cat "$WORK/containerd.pid" 2>/dev/null || echo "$CONTAINERD_PID")"
}
