#!/usr/bin/env bash
# Makes or updates one virtual environment. Safe to repeat and to interrupt; quick when there is nothing to do.
#
#     stack/setup.sh main            .venv               our programs, the tests, the tools
#     stack/setup.sh label-studio    .venv-label-studio  Label Studio
#     stack/setup.sh bench           .venv-bench         what benchmarks/transfer.py measures us against
#
# PYTHON (default python3) makes it. pip's own words go to .run/setup-NAME.log and are shown when it fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=$1
case $name in
    main) venv=.venv files=(requirements-dev.txt requirements.txt requirements/*.txt) ;;
    label-studio) venv=.venv-label-studio files=(requirements/label-studio*.txt) ;;
    bench) venv=.venv-bench files=(requirements/bench.txt) ;;
    *) echo "setup: no environment is called $name" >&2; exit 2 ;;
esac
python=${PYTHON:-python3}
log=.run/setup-$name.log
done_mark=$venv/.setup-done        # holds what was installed: equal means nothing to do
busy_mark=$venv/.setup-unfinished  # there while pip works: found at the start, the folder cannot be trusted

fail() { echo "setup: $*" >&2; exit 1; }

command -v "$python" >/dev/null || fail "$python is missing: install Python 3.11 or newer, or run make PYTHON=/path/to/python3.11"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "$python does not start"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is Python $version, too old: install Python 3.11 or newer, or run make PYTHON=/path/to/python3.11"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python has no venv module: on Debian or Ubuntu, apt install python$version-venv"

wanted="python $version; $(cat "${files[@]}" stack/setup.sh | cksum)"
done_already() {
    [[ -f $done_mark && ! -e $busy_mark && $(<"$done_mark") == "$wanted" ]] && "$venv/bin/python" -c '' 2>/dev/null
}
if done_already; then exit 0; fi

mkdir -p -m 700 .run
exec 9>"$log.lock"  # two at once (make run beside make test) must not install into one folder
! command -v flock >/dev/null || flock 9
if done_already; then exit 0; fi
started=$SECONDS
echo "setup: installing $venv (minutes the first time; log: $log)"

install() {
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input install --no-compile)
    # An environment of another Python, or one that an interrupted pip left half-made, is made anew.
    if [[ -e $busy_mark ]] || ! "$venv/bin/python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')"; then
        rm -rf "$venv"
        mkdir "$venv"
        touch "$busy_mark"
        "$python" -m venv "$venv"
    fi
    rm -f "$done_mark"
    touch "$busy_mark"
    if [[ $name == main ]]; then
        "${pip[@]}" -r requirements-dev.txt
        "${pip[@]}" --no-deps -r requirements/label-studio-ml.txt
        "${pip[@]}" --no-deps --force-reinstall -r requirements/opencv.txt
    else
        "${pip[@]}" -r "requirements/$name.txt"
    fi
}

set -m  # the installation gets a process group of its own: a shell's background jobs do not hear Ctrl-C themselves
install >"$log" 2>&1 &
child=$!
trap 'kill -- "-$child" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM
while kill -0 "$child" 2>/dev/null; do
    sleep 1
    if ((SECONDS - started > 0 && (SECONDS - started) % 30 == 0)); then
        step=$(grep -E '^(Collecting|Downloading|Installing)' "$log" | tail -n 1 | cut -c1-60 || true)
        echo "setup: $venv: $((SECONDS - started)) s: ${step:-making the environment}"
    fi
done
if ! wait "$child"; then
    trap - EXIT
    tail -n 25 "$log" >&2
    fail "installing $venv failed; all that pip said is in $log. Run it again to try again."
fi
trap - EXIT
rm -f "$busy_mark"
echo "$wanted" >"$done_mark"
echo "setup: $venv is ready ($((SECONDS - started)) s)"
