#!/bin/sh
# Starts this version of the agent with a heap that suits it; its launcher gives it the rest. Part of a release.
here=${0%/*}
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-2}" MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-131072}"
exec "$here/node" --max-semi-space-size=2 "$here/agent.cjs" "$@"
