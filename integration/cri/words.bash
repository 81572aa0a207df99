# What a kubelet's cases say.

cri() {
    /usr/bin/python3 "$HERE/cri/cri.py" --parent "$CGROUP_PARENT" "$@"
}

# pod NAME [JSON]: its id. container POD NAME JSON [COMMAND…]: its id.
pod() {
    cri pod "$1" "${2:-{\}}"
}
container() {
    local pod=$1 name=$2 more=$3 command
    shift 3
    command=$(jq -nc '$ARGS.positional' --args -- "$@")
    cri container "$pod" "$name" "$(jq -c --argjson command "$command" '. + {command: $command}' <<<"$more")"
}

# status CONTAINER FILTER: what jq makes of the container's status. States: 0 created, 1 running, 2 exited, 3 unknown.
status() {
    cri status "$1" | jq -r "$2"
}
exited() {
    [[ $(status "$1" .state) == 2 ]]
}

# log POD_NAME CONTAINER_NAME: what it wrote, without times and tags.
log() {
    cut -d ' ' -f 4- "$WORK/pods/$1/$2.log"
}
