# The commands of README.md's section on engines, run as they stand there. Needs REPO, WORK and RUNTIME_FILE.

# readme_commands: the section's indented lines, without their comments.
readme_commands() {
    sed -n '/^## Use it with Docker in one minute$/,/^## What/s/^    //p' "$REPO/README.md" | sed 's/  *# .*//'
}

# readme_command PATTERN: the one line that matches.
readme_command() {
    local lines
    lines=$(readme_commands | grep -E -- "$1") || fail "README.md has no command /$1/"
    same "README.md's commands /$1/" "$(wc -l <<<"$lines")" 1
    echo "$lines"
}

# as_installed [NAME]: procrt is in a directory of the caller's, and /usr/local/bin can be written to, for this case alone.
as_installed() {
    [[ $RUNTIME == procrt ]] || cannot "the README is procrt's"
    mkdir -p "$WORK/readme"/{upper,work,place,as}
    mount -t overlay -o "lowerdir=/usr/local/bin,upperdir=$WORK/readme/upper,workdir=$WORK/readme/work" view /usr/local/bin ||
        cannot "/usr/local/bin cannot be covered here"
    trap 'umount /usr/local/bin; rm -rf --one-file-system -- "$WORK/readme"' EXIT
    cp -- "$RUNTIME_FILE" "$WORK/readme/place/procrt"
    # What needs somebody else's rights is root already.
    printf '#!/bin/sh\nexec "$@"\n' >"$WORK/readme/as/sudo"
    chmod +x "$WORK/readme/as/sudo"
    export PATH=$WORK/readme/as:/usr/local/bin:$PATH
    cd "$WORK/readme/place"
    exits 0 bash -ec "$(readme_command '^sudo install')"
    [[ $(command -v procrt) == /usr/local/bin/procrt ]] || fail "procrt is not on PATH"
}
