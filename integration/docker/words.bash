# What Docker's cases say.

# run [ARGUMENT…]: a container that goes when it ends.
run() {
    docker run --rm "$@"
}

# without_parent NAME: parents of containers' control groups stay, whoever made them.
without_parent() {
    find /sys/fs/cgroup -depth -path "*$CGROUP_PARENT/$1*" -type d -exec rmdir {} +
}

# inspect CONTAINER FORMAT
inspect() {
    docker inspect --format "$2" "$1"
}

# logs_have CONTAINER TEXT
logs_have() {
    docker logs "$1" 2>&1 | grep -qF -- "$2"
}

# is CONTAINER FORMAT VALUE
is() {
    [[ $(inspect "$1" "$2") == "$3" ]]
}
