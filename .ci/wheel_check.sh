#!/usr/bin/env bash
# wheel_check.sh PYTHON WORK: build the wheel, install it into a new venv below the folder WORK, and see from
# outside the checkout that it works: its version, its plugins, a store that takes and gives back a tree.
# PYTHON needs `build`; a `nix-store` on the PATH is what the tree is compared with.
set -euo pipefail

python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(cd "$2" && pwd)
checkout=$(cd "$(dirname "$0")/.." && pwd)
unset PYTHONPATH

fail() { echo "wheel_check: $*" >&2; exit 1; }

"$python" -m build --wheel --outdir "$work/dist" "$checkout" >"$work/build.log" 2>&1 ||
  { cat "$work/build.log" >&2; fail "the wheel does not build"; }
"$python" -m venv "$work/venv"
cd "$work"
venv/bin/python -m pip install --quiet --disable-pip-version-check dist/tvix_store-*.whl
venv/bin/python -m pip check --disable-pip-version-check

# Nothing may come from the checkout, and every plugin folder has to be in the wheel.
venv/bin/python - "$checkout" <<'PYTHON'
import importlib.metadata, pathlib, sys
import tvix_store

checkout = pathlib.Path(sys.argv[1])
site = pathlib.Path(tvix_store.__file__).parents[1]
assert not site.is_relative_to(checkout / "core"), site
plugins = sorted(path.name for path in (checkout / "plugins").iterdir() if (path / "plugin.py").is_file())
loaded = {point.load().__name__ for point in importlib.metadata.entry_points(group="tvix_store")}
for name in ["tvix_store", *plugins]:
    assert (site / name / "py.typed").is_file(), f"{name}: no py.typed in the wheel"
    assert name == "tvix_store" or f"{name}.plugin" in loaded, f"{name}: no entry point"
assert (site / "tvix_store_http" / "static" / "style.css").is_file(), "no style sheet in the wheel"
print(f"wheel: {', '.join(plugins)}")
PYTHON

store=venv/bin/tvix-store
"$store" --version
COLUMNS=250 "$store" plugins | tee plugins.txt
for tag in memory fs sqlite grpc http fuse keyfile-signing nix cache combined lru exists fallback mirror shard route \
  readonly verify singleflight limit retry timeout breaker observe fault; do
  grep -E "(^|[^[:alnum:]_])$tag([^[:alnum:]_]|$)" plugins.txt | grep -Eq '(^|[^[:alnum:]_])ok([^[:alnum:]_]|$)' ||
    fail "the plugin $tag is not listed as ok"
done

for kind in backend combinator frontend; do
  "$store" plugins new --kind "$kind" "probe-$kind" "$work/probe-$kind" >/dev/null
  [ -f "$work/probe-$kind/pyproject.toml" ] || fail "no templates of a $kind in the wheel"
done

# A mount needs more than the wheel brings: one line says what.
printf '[%sservices.root]\ntype = "memory"\n' blob directory pathinfo >mount.toml
printf '[frontends.mount]\ntype = "fuse"\nmount_point = "%s"\n' "$work" >>mount.toml
"$store" config check mount.toml
! timeout 60 "$store" run mount.toml 2>mount.log || fail "the store was mounted without pyfuse3"
[ "$(grep -c "needs pyfuse3: pip install 'tvix-store\[fuse\]'" mount.log)" = 1 ] ||
  { cat mount.log >&2; fail "it does not say that pyfuse3 is missing"; }

mkdir -p tree/sub/empty state
printf 'Hello World!' >tree/hello
printf '#!/bin/sh\n' >tree/sub/run
chmod 755 tree/sub/run
: >tree/sub/.keep
ln -s ../hello tree/sub/link
head -c 3000000 /dev/urandom >tree/large

# A Unix socket, so that nothing depends on a free port.
cat >store.toml <<TOML
[blobservices.root]
type = "fs"
path = "$work/state/blobs"

[directoryservices.root]
type = "sqlite"
path = "$work/state/store.sqlite"

[pathinfoservices.root]
type = "sqlite"
path = "$work/state/store.sqlite"

[frontends.grpc]
type = "grpc"
listen = "$work/store.sock"
TOML
export XDG_STATE_HOME=$work/state
export BLOB_SERVICE_ADDR=grpc+unix://$work/store.sock
export DIRECTORY_SERVICE_ADDR=$BLOB_SERVICE_ADDR PATH_INFO_SERVICE_ADDR=$BLOB_SERVICE_ADDR

"$store" run store.toml >run.log 2>&1 &
daemon=$!
trap 'kill "$daemon" 2>/dev/null || true' EXIT
for _ in $(seq 300); do
  [ -S store.sock ] && break
  kill -0 "$daemon" 2>/dev/null || { cat run.log >&2; fail "tvix-store run has ended"; }
  sleep 0.1
done
[ -S store.sock ] || { cat run.log >&2; fail "tvix-store run does not listen after 30 s"; }

path=$("$store" import tree) || { cat run.log >&2; fail "import has failed"; }
echo "imported as $path"
"$store" nar dump "$path" >tree.nar || { cat run.log >&2; fail "nar dump has failed"; }
nix-store --dump tree | cmp - tree.nar || fail "nar dump differs from nix-store --dump"

kill -TERM "$daemon"
wait "$daemon" || { status=$?; cat run.log >&2; fail "tvix-store run ended with status $status after SIGTERM"; }
trap - EXIT
echo "wheel: ok"
