# Buildah: RUN steps and `buildah run` go through the runtime.
# shellcheck shell=bash

programs=(buildah)

start_engine() {
    containers_storage
    cat >"$WORK/etc/containers.conf" <<'TOML'
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=8192:8192"]
TOML
    export BUILDAH_RUNTIME=$RUNTIME_FILE BUILDAH_ISOLATION=oci
    private_view /var/lib
    : >"$WORK/buildah.log"
}

load_image() {
    buildah pull -q "docker-archive:$WORK/image.tar:$IMAGE_NAME:latest" >/dev/null
    # It is known by its archive's words.
    buildah tag "$(buildah images -q | head -n 1)" "$IMAGE"
}

load_debian_image() {
    buildah tag "$(buildah pull -q "docker-archive:$WORK/debian.tar:$DEBIAN_NAME:latest")" "$DEBIAN_IMAGE"
}

first_containers() {
    local container
    container=$(buildah from --cgroup-parent "$CGROUP_PARENT/first" "$IMAGE") && buildah run "$container" true && buildah rm "$container"
}

describe_engine() {
    echo "Buildah $(buildah --version | cut -d ' ' -f 3)"
}

remove_containers() {
    timeout 30 buildah rm -a >/dev/null 2>&1 || true
}

left_by_engine() {
    find /run/procrt /run/runc /run/crun -mindepth 1 -printf 'state %p\n' 2>/dev/null || true
}

stop_engine() {
    :
}
