# "Use it with Docker in one minute", as README.md has it.

case_readme_one_minute() {
    as_installed
    # Its configuration has a fixed place.
    mountpoint -q /etc || cannot "/etc cannot be covered here"
    local line
    # For what comes at the end, too.
    PLACE=$WORK/readme/d
    mkdir -p /etc/docker "$PLACE"
    ! [[ -e /etc/docker/daemon.json ]] || mv /etc/docker/daemon.json "$WORK/readme/daemon.json"
    ip link add pdother0 type bridge
    ip address add 10.213.6.1/24 dev pdother0
    # shellcheck source=integration/daemons.bash
    source "$HERE/daemons.bash"
    end() {
        docker rm -fv $(docker ps -aq) >/dev/null 2>&1 || true
        stop_daemon "$(cat "$PLACE/d.pid" 2>/dev/null || true)"
        ip link delete pdother0 || true
        grep -oE " $PLACE/[^ ]+" /proc/self/mounts | sort -r | xargs -r umount -l 2>/dev/null || true
        rm -f /etc/docker/daemon.json
        ! [[ -e $WORK/readme/daemon.json ]] || mv "$WORK/readme/daemon.json" /etc/docker/daemon.json
        cd / && umount /usr/local/bin
        rm -rf --one-file-system -- "$WORK/readme"
    }
    trap end EXIT
    setsid dockerd -H "unix://$PLACE/d.sock" --containerd "$WORK/c.sock" --data-root "$PLACE/data" --exec-root "$PLACE/x" \
        --pidfile "$PLACE/d.pid" --bridge pdother0 --iptables=false --ip6tables=false --ip-masq=false --group root \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "$CGROUP_PARENT" --oom-score-adjust 0 \
        --storage-driver "$(docker info --format '{{.Driver}}')" >"$PLACE/log" 2>&1 </dev/null &
    export DOCKER_HOST=unix://$PLACE/d.sock
    wait_until $! "$PLACE/log" docker version
    docker load -q -i "$WORK/image.tar" >/dev/null
    docker tag "$IMAGE" busybox
    # This machine's systemd does not know this dockerd.
    # shellcheck disable=SC2016 # the script's
    printf '#!/bin/sh\n[ "$*" = "reload docker" ] && exec kill -HUP "$(cat "%s")"\n' "$PLACE/d.pid" >"$WORK/readme/as/systemctl"
    chmod +x "$WORK/readme/as/systemctl"

    exits 0 bash -ec "$(readme_command '^procrt engines')"
    has "what it says of Docker" "$OUT" '^Docker: not registered'
    line=$(readme_command '^\{ "runtimes"')
    has "the line it prints" "$(sed 's/^ *//' <<<"$OUT" | grep -xF -- "$line")" .
    echo "$line" >/etc/docker/daemon.json
    exits 0 bash -ec "$(readme_command '^procrt engines')"
    has "what it says of Docker" "$OUT" '^Docker: registered in /etc/docker/daemon.json'
    exits 0 bash -ec "$(readme_command systemctl)"
    eventually bash -c 'docker info --format "{{json .Runtimes}}" | grep -q procrt'
    exits 0 bash -ec "$(readme_command '^docker run')"
    same "the output" "$OUT" hello
    # And what makes it the default.
    grep -qF '`"default-runtime": "procrt"` in the same file' "$REPO/README.md" || fail "README.md does not tell of the default"
    jq '. + {"default-runtime": "procrt"}' <<<"$line" >/etc/docker/daemon.json
    exits 0 bash -ec "$(readme_command systemctl)"
    eventually bash -c '[[ $(docker info --format "{{.DefaultRuntime}}") == procrt ]]'
    docker run --name default busybox true
    same "the runtime" "$(inspect default '{{.HostConfig.Runtime}}')" procrt
}
