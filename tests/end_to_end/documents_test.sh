#!/usr/bin/env bash
# Documents are true: generated parts are fresh, commands, options, keys and paths exist. Args: FWL_BINARY SOURCE_DIR
set -euo pipefail
exec python3 "$2/tests/support/documents.py" "$(realpath "$1")" "$2"
