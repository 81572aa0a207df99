# What Podman's cases say, as root and as a plain user.

# Where control groups are, and whether containers have any.
PARENT=(--cgroup-parent "${CGROUP_PARENT-}")
with_control_groups() {
    :
}

# A directory that is Podman's user's, and the runtime as Podman calls it.
PLACE=${WORK-}
runtime() {
    "$RUNTIME_FILE" "$@"
}

# run [ARGUMENT…]: a container that goes when it ends.
run() {
    podman run --rm "${PARENT[@]}" "$@"
}

# background NAME [ARGUMENT…]: one that stays.
background() {
    podman run -d "${PARENT[@]}" --name "$@" >/dev/null
}

# inspect CONTAINER FORMAT
inspect() {
    podman inspect --format "$2" "$1"
}

# is CONTAINER FORMAT VALUE
is() {
    [[ $(inspect "$1" "$2") == "$3" ]]
}

# logs_have CONTAINER TEXT
logs_have() {
    podman logs "$1" 2>&1 | grep -qF -- "$2"
}
