# shellcheck shell=bash
# Sourced by every script of this folder: prints the script's own header, gives it an empty temporary folder that is
# gone when it ends, installs pinned packages there, and compares what was seen with what was found.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
started=()
finish() {
  local id
  for id in "${started[@]}"; do kill "$id" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
sed -n '2,/^[^#]/{/^#/{s/^# \{0,1\}//;p}}' "$0"
echo
cd "$work"

# npm_install NAME@VERSION …
npm_install() {
  npm init -y >/dev/null
  npm install --silent --no-audit --no-fund --no-update-notifier "$@"
}

# pip_install NAME==VERSION …; then: venv/bin/python
pip_install() {
  [ -d venv ] || python3 -m venv venv
  venv/bin/pip install --quiet --disable-pip-version-check "$@"
}

# go_get MODULE@VERSION …; then: go run FILE.go
go_get() {
  export GOFLAGS='-mod=mod -modcacherw' GOTOOLCHAIN=local GOMODCACHE="$work/go-modules"
  [ -f go.mod ] || go mod init finding >/dev/null 2>&1
  go get "$@" >/dev/null 2>go-get.log || { cat go-get.log; return 1; }
}

# maven_get GROUP:ARTIFACT:VERSION …; then: java -cp 'lib/*' FILE.java
maven_get() {
  local item group artifact version
  {
    echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>finding</groupId><artifactId>finding</artifactId><version>1</version><dependencies>'
    for item in "$@"; do
      IFS=: read -r group artifact version <<<"$item"
      echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
    done
    echo '</dependencies></project>'
  } >pom.xml
  mvn --quiet --batch-mode dependency:copy-dependencies -DoutputDirectory=lib >maven.log 2>&1 || { cat maven.log; return 1; }
}

# cargo_get NAME@VERSION[+FEATURE,…] …; then: cargo run --quiet, with src/main.rs
cargo_get() {
  local item
  cargo init --quiet --vcs none --name finding >/dev/null 2>&1
  for item in "$@"; do
    if [[ $item == *+* ]]; then
      cargo add --quiet "${item%%+*}" --features "${item#*+}"
    else
      cargo add --quiet "$item"
    fi
  done
}

# apt_install NAME=VERSION* …: nothing is done where that version is there already
apt_install() {
  local item missing=()
  for item in "$@"; do
    # shellcheck disable=SC2053 # the version is a pattern
    [[ $(dpkg-query -W -f '${Version}' "${item%%=*}" 2>/dev/null) == ${item#*=} ]] || missing+=("$item")
  done
  [ ${#missing[@]} -eq 0 ] && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >apt.log 2>&1 || { cat apt.log; return 1; }
}

# start_postgres: a PostgreSQL 15 of Debian's, on a Unix socket in $PGHOST alone, in a folder of its own
start_postgres() {
  apt_install 'postgresql-15=15.*'
  chmod 711 "$work"
  install -d -o postgres "$work/postgres"
  runuser -u postgres -- /usr/lib/postgresql/15/bin/initdb -D "$work/postgres/data" -A trust -U postgres >/dev/null
  export PGHOST="$work/postgres" PGUSER=postgres PGDATABASE=postgres
  runuser -u postgres -- /usr/lib/postgresql/15/bin/pg_ctl -D "$PGHOST/data" -w -s -l "$PGHOST/log" -o "-k '$PGHOST' -c listen_addresses=''" start
  trap 'stop_postgres; finish' EXIT
}
stop_postgres() { runuser -u postgres -- /usr/lib/postgresql/15/bin/pg_ctl -D "$PGHOST/data" -s -m fast stop; }

# expect WORDS <expected: compares the file `seen` with it
expect() {
  cat >expected
  cat seen
  echo
  if cmp -s expected seen; then
    echo "as found: $1"
  else
    echo "changed: $1"
    diff -u expected seen || true
    exit 1
  fi
}
