# buildah bud and buildah run.

# Buildah makes what it is told as parent the container's own control group.
from() { # IMAGE
    buildah from --cgroup-parent "$CGROUP_PARENT/from-$RANDOM" "$1"
}

# build FILE [OPTION…]: with the runtime named on the command line.
build() {
    local file=$1
    shift
    mkdir -p "$WORK/context"
    buildah bud -q --runtime "$RUNTIME_FILE" --isolation oci --cgroup-parent "$CGROUP_PARENT/build-$RANDOM" -f "$file" "$@" "$WORK/context"
}

built() { # IMAGE FILE: what stands there in it
    local container
    container=$(from "$1")
    buildah run "$container" cat "$2"
    buildah rm "$container" >/dev/null
}

case_bud_steps() {
    printf 'FROM %s\nENV COLOR=blue\nRUN echo built by $(id -u) in $COLOR >/built && test -e /proc/self\nUSER guest\nRUN id -u >/tmp/user\nWORKDIR /made\nRUN pwd >/tmp/place\n' "$IMAGE" >"$WORK/Dockerfile"
    exits 0 build "$WORK/Dockerfile" -t bud-steps
    same "what the steps left" "$(built bud-steps /built) $(built bud-steps /tmp/user) $(built bud-steps /tmp/place)" 'built by 0 in blue 1000 /made'
    buildah rmi bud-steps >/dev/null
}

case_bud_step_that_fails() {
    printf 'FROM %s\nRUN exit 3\n' "$IMAGE" >"$WORK/Dockerfile"
    exits 3 build "$WORK/Dockerfile"
    printf 'FROM %s\nRUN no-such-program\n' "$IMAGE" >"$WORK/Dockerfile"
    exits 127 build "$WORK/Dockerfile"
}

case_bud_stages_and_context() {
    mkdir -p "$WORK/context"
    echo 'from the context' >"$WORK/context/file"
    printf 'FROM %s AS first\nCOPY file /file\nRUN tr a-z A-Z </file >/loud\nFROM %s\nCOPY --from=first /loud /loud\nRUN cat /loud /loud >/twice\n' "$IMAGE" "$IMAGE" >"$WORK/Dockerfile"
    exits 0 build "$WORK/Dockerfile" --layers -t bud-stages
    same "the last stage's file" "$(built bud-stages /twice | tr '\n' ' ')" 'FROM THE CONTEXT FROM THE CONTEXT '
    buildah rmi -a -f >/dev/null 2>&1 || true
    # shellcheck disable=SC1091
    source "$HERE/$ENGINE/engine.bash"
    load_image
    [[ ! -e $WORK/debian.tar ]] || load_debian_image
}

case_bud_mounts_and_secrets() {
    echo hidden >"$WORK/secret"
    printf 'FROM %s\nRUN --mount=type=secret,id=word,target=/word --mount=type=tmpfs,target=/t cat /word | wc -c >/length && touch /t/x\n' "$IMAGE" >"$WORK/Dockerfile"
    exits 0 build "$WORK/Dockerfile" --secret "id=word,src=$WORK/secret" -t bud-mounts
    same "the secret's length" "$(built bud-mounts /length)" 7
    buildah rmi bud-mounts >/dev/null
}

case_bud_limits() {
    printf 'FROM %s\nRUN ulimit -n >/files && cat %s >/memory\n' "$IMAGE" "$(limit_file memory memory.limit_in_bytes memory.max)" >"$WORK/Dockerfile"
    exits 0 build "$WORK/Dockerfile" --memory 64m --ulimit nofile=123:123 --ulimit nproc=512:512 -t bud-limits
    same "the limits" "$(built bud-limits /files) $(built bud-limits /memory)" "123 $((64 << 20))"
    buildah rmi bud-limits >/dev/null
}

case_bud_networks() {
    printf 'FROM %s\nRUN ip -o link | wc -l >/links\n' "$IMAGE" >"$WORK/Dockerfile"
    exits 0 build "$WORK/Dockerfile" --network none -t bud-none
    same "interfaces" "$(built bud-none /links)" 1
    buildah rmi bud-none >/dev/null
    exits 0 build "$WORK/Dockerfile" --network host -t bud-host
    buildah rmi bud-host >/dev/null
}

case_run_by_itself() {
    local container
    container=$(from "$IMAGE")
    exits 0 buildah run --user guest --env COLOR=blue "$container" -- sh -c 'id -u; echo $COLOR'
    same "the output" "$(tr '\n' ' ' <<<"$OUT")" '1000 blue '
    exits 7 buildah run "$container" -- sh -c 'exit 7'
    exits 0 buildah run --cap-drop ALL "$container" -- grep CapEff /proc/self/status
    mkdir -p "$WORK/context"
    exits 0 buildah run -v "$WORK/context:/mnt" "$container" -- touch /mnt/by-buildah
    [[ -e $WORK/context/by-buildah ]] || fail "what the container wrote is not there"
    terminal 5 expect:'# ' send:'tty\r' expect:'/dev/pts/0' send:'exit 5\r' -- buildah run -t "$container" -- sh
}

case_debian_build() {
    mkdir -p "$WORK/context"
    cp "$WORK/repository"/* "$WORK/context/"
    cat >"$WORK/Dockerfile" <<DOCKERFILE
FROM $DEBIAN_IMAGE
COPY . /repository
RUN $SOURCES && apt-get -y install greeting
ENV LC_ALL=C.UTF-8
USER greeter
RUN greeting >/tmp/greeting && bash -c 'x=über; echo \${#x}' >>/tmp/greeting
DOCKERFILE
    exits 0 build "$WORK/Dockerfile" -t bud-debian
    same "what the steps left" "$(built bud-debian /tmp/greeting | tr '\n' ' ')" 'greetings to greeter 4 '
    buildah rmi bud-debian >/dev/null
}

case_bud_as_the_readme_has_it() {
    unset BUILDAH_RUNTIME
    as_installed
    printf 'FROM %s\nRUN echo hello\n' "$IMAGE" >Dockerfile
    exits 0 bash -ec "$(readme_command '^buildah')"
    has "the output" "$OUT" '^hello$'
}
