# What the demo is told with, and what it needs around it: headings, commands shown as they are run, servers that are
# started and surely ended, fingerprints of a tree. Sourced by scripts/demo, which sets $scratch.
: "${scratch:?}"

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
  bold='' dim='' green='' red='' plain=''
fi

chapter() {
  printf '\n%s== %s ==%s\n' "$bold" "$1" "$plain"
}

say() {
  printf '%s\n' "$*" | fold --spaces --width 98 | sed 's, *$,,'
}

# Shows a command as a user would type it, and runs it.
try() {
  local word shown='' status=0
  for word in "$@"; do
    [[ $word == *[!A-Za-z0-9_./:@=,+-]* ]] && word="'$word'"
    shown+=" $word"
  done
  printf '\n%s$%s%s\n' "$bold" "$shown" "$plain"
  "$@" || status=$?
  return "$status"
}

good() {
  printf '%sok%s  %s\n' "$green" "$plain" "$*"
}

bad() {
  printf '%sNOT OK%s  %s\n' "$red" "$plain" "$*"
  exit 1
}

number() {
  numfmt --grouping "$1" 2>/dev/null || echo "$1"
}

# Seconds since a time of $EPOCHREALTIME, with one decimal.
since() {
  local then=${1/[.,]/} now=${EPOCHREALTIME/[.,]/}
  local tenths=$(((now - then) / 100000))
  echo "$((tenths / 10)).$((tenths % 10))"
}

# Everything that is started, by its process id: ended in the reverse order, whatever happens.
started=()

remember() {
  started+=("$1")
}

# Asks a process to end, waits for it, and insists after ten seconds.
end() {
  local pid=$1 tries=100
  kill "$pid" 2>/dev/null || return 0
  while kill -0 "$pid" 2>/dev/null; do
    ((tries-- > 0)) || kill -KILL "$pid" 2>/dev/null || true
    sleep 0.1
  done
}

leave_nothing() {
  local status=$? index
  trap '' INT TERM
  for ((index = ${#started[@]} - 1; index >= 0; index--)); do
    end "${started[index]}" 2>/dev/null
  done
  if [[ $status -ne 0 ]]; then
    printf '\n%sThe demo stopped (exit %s).%s\n' "$red" "$status" "$plain"
    for log in "$scratch"/*.log "$scratch"/*/*.log; do
      [[ -s $log ]] && printf '%s-- the end of %s:%s\n' "$dim" "${log#"$scratch"/}" "$plain" && tail -n 5 "$log"
    done
  fi
  if [[ -n ${KEEP:-} ]]; then
    say "All files of the demo are still in $scratch"
  else
    chmod -R u+w "$scratch"
    rm -rf "$scratch"
  fi
}

# Waits for a condition, at most so many seconds.
await() {
  local seconds=$1 tries=$(($1 * 10))
  shift
  until "$@" >/dev/null 2>&1; do
    ((tries-- > 0)) || bad "after $seconds seconds still not so: $*"
    sleep 0.1
  done
}

# Writes the option file of a MariaDB server that listens on a socket only: option_file NAME DATA-DIRECTORY
option_file() {
  cat >"$scratch/$1.cnf" <<EOF
[mariadbd]
user = $(id -un)
datadir = $2
socket = $scratch/$1.sock
pid-file = $scratch/$1.pid
log-error = $scratch/$1.log
skip-networking
# What the archive of the log depends on.
log-bin = binlog
server-id = 1
log-slave-updates
binlog-format = ROW
sync-binlog = 1
gtid-strict-mode = ON
innodb-buffer-pool-size = 128M
[client]
socket = $scratch/$1.sock
user = root
EOF
}

start_mariadb() {
  mariadbd --defaults-file="$scratch/$1.cnf" >>"$scratch/$1.log" 2>&1 &
  remember $!
  await 60 mariadb-admin --defaults-file="$scratch/$1.cnf" ping
}

sql() {
  local server=$1
  shift
  mariadb --defaults-file="$scratch/$server.cnf" --skip-column-names --batch "$@"
}

# One line for every file, link and directory of a tree: kind, mode, owner, time, size, links, name; then access lists,
# then the SHA-256 of each file's content.
fingerprint() (
  cd "$1" || exit
  export LC_ALL=C
  find . ! -type d -printf '%y %m %U:%G %T@ %s %n %p -> %l\n' | sort
  find . -type d -printf '%y %m %U:%G %T@ %p\n' | sort
  find . ! -type l -print0 | sort --zero-terminated | xargs --null getfacl --numeric --skip-base
  find . -type f -print0 | sort --zero-terminated | xargs --null sha256sum
)
