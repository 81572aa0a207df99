# Namespaces: the host's, another container's, and the network between them.

namespace_of() {
    readlink "/proc/$(inspect "$1" '{{.State.Pid}}')/ns/$2"
}

case_namespaces_own() {
    docker run -d --name apart "$IMAGE" sleep 1000 >/dev/null
    local kind
    for kind in ipc mnt net pid uts; do
        [[ $(namespace_of apart "$kind") != "$(readlink "/proc/self/ns/$kind")" ]] || fail "$kind is the host's"
    done
}

case_namespaces_network_none() {
    exits 0 run --network none "$IMAGE" ip -o link
    same "interfaces" "$(wc -l <<<"$OUT")" 1
    has "the loopback, up" "$OUT" 'lo: <LOOPBACK,UP'
}

case_namespaces_network_host() {
    exits 0 run --network host "$IMAGE" readlink /proc/self/ns/net
    same "the namespace" "$OUT" "$(readlink /proc/self/ns/net)"
}

case_namespaces_network_bridge() {
    docker run -d --name server "$IMAGE" sh -c 'while :; do echo hello from the server | nc -l -p 80; done' >/dev/null
    local address
    address=$(inspect server '{{.NetworkSettings.IPAddress}}')
    exits 0 run "$IMAGE" ping -c 1 -W 5 "$address"
    exits 0 run "$IMAGE" nc -w 5 "$address" 80
    same "what the server says" "$OUT" 'hello from the server'
    exits 0 run --add-host "server:$address" "$IMAGE" sh -c 'nc -w 5 server 80 && grep -c nameserver /etc/resolv.conf'
}

case_namespaces_published_port() {
    command -v docker-proxy >/dev/null || cannot "docker-proxy is not installed"
    docker run -d --name published -p 127.0.0.1:8053:80 "$IMAGE" sh -c 'while :; do echo published | nc -l -p 80; done' >/dev/null
    eventually bash -c 'busybox nc -w 2 127.0.0.1 8053 </dev/null | grep -q published'
}

case_namespaces_of_another_container() {
    docker run -d --name first --ipc shareable "$IMAGE" sleep 1000 >/dev/null
    docker run -d --name second --network container:first --pid container:first --ipc container:first "$IMAGE" sleep 2000 >/dev/null
    local kind
    for kind in net pid ipc; do
        same "the $kind namespace" "$(namespace_of second "$kind")" "$(namespace_of first "$kind")"
    done
    exits 0 run --pid container:first "$IMAGE" ps
    has "processes" "$OUT" 'sleep 1000'
    has "processes" "$OUT" 'sleep 2000'
    docker kill second >/dev/null
    is first '{{.State.Running}}' true || fail "the first ended with the second"
    # A container without a pid namespace of its own takes its processes along all the same.
    docker run -d --name third --pid container:first "$IMAGE" sh -c 'sleep 3000 & sleep 3001' >/dev/null
    eventually bash -c 'docker run --rm --pid container:first "$IMAGE" ps | grep -q "sleep 3000"'
    docker rm -f third >/dev/null
    exits 0 run --pid container:first "$IMAGE" ps
    hasnt "processes" "$OUT" 'sleep 300'
}

case_namespaces_pid_host() {
    exits 0 run --pid host "$IMAGE" sh -c 'readlink /proc/self/ns/pid; test -d /proc/'"$PPID"
    same "the namespace" "$OUT" "$(readlink /proc/self/ns/pid)"
    docker run -d --pid host --name below "$IMAGE" sh -c 'sleep 4000 & sleep 4001' >/dev/null
    exits 0 docker stop -t 1 below
}

case_namespaces_ipc() {
    exits 0 run --ipc host "$IMAGE" readlink /proc/self/ns/ipc
    same "the host's" "$OUT" "$(readlink /proc/self/ns/ipc)"
    exits 0 run --ipc private "$IMAGE" sh -c 'readlink /proc/self/ns/ipc; grep -c " /dev/shm " /proc/self/mounts'
    hasnt "the host's" "$OUT" "^$(readlink /proc/self/ns/ipc | sed 's/[][]/\\&/g')\$"
    exits 0 run --ipc none "$IMAGE" cat /proc/self/mounts
    hasnt "shared memory" "$OUT" ' /dev/shm tmpfs'
}

case_namespaces_cgroup() {
    exits 0 run --cgroupns private "$IMAGE" cat /proc/self/cgroup
    hasnt "the host's paths" "$OUT" 'procrt-docker'
    exits 0 run --cgroupns host "$IMAGE" cat /proc/self/cgroup
    has "the host's paths" "$OUT" ":$CGROUP_PARENT/"
}

case_namespaces_user_network() {
    docker network create --subnet 10.213.8.0/24 procrt-net >/dev/null
    docker run -d --network procrt-net --network-alias named --name in-it "$IMAGE" sleep 1000 >/dev/null
    exits 0 run --network procrt-net "$IMAGE" ping -c 1 -W 5 "$(inspect in-it '{{(index .NetworkSettings.Networks "procrt-net").IPAddress}}')"
    docker rm -f in-it >/dev/null
    docker network rm procrt-net >/dev/null
}
