# What a swarm's cases say.

on() { # NODE ARGUMENT…
    docker -H "unix://$WORK/$1/d.sock" "${@:2}"
}

# running NODE: how many containers run there.
running() {
    on "$1" ps -q | wc -l
}

# runs_everywhere SUM: that many run, and some on each node.
runs_everywhere() {
    local one two
    one=$(running 1) two=$(running 2)
    ((one + two == $1 && one > 0 && two > 0))
}

# replicas SERVICE SEEN/WANTED
replicas() {
    [[ $(docker service ls --filter "name=$1" --format '{{.Replicas}}') == "$2" ]]
}

service() { # NAME OPTION… (IMAGE and COMMAND too)
    docker service create -q --detach --no-resolve-image --name "$@" >/dev/null
}

# within SECONDS COMMAND…
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || fail "not in time: $*"
        sleep 0.3
    done
}
